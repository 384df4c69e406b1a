"""NumPy's npz files, from anyone: whatever they hold, reading one gives its arrays or one clear line."""

import contextlib
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np


def read(path: str | pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Raises:
      ValueError: it is no npz file, lacks one, has one that only a pickle could hold, or needs more than the machine's
        memory; the message is one line without the path.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("not a readable npz file: it is no whole zip archive, as numpy.savez writes")
    with _readable(), zipfile.ZipFile(path) as archive:
        there = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"lacks the arrays {', '.join(missing)}; it has {', '.join(there) or 'none'}")
    needed, memory = sum(there[name] for name in names), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(f"its arrays need {needed:,} bytes, this machine has {memory:,} bytes of memory")
    with _readable(), open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in names}


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # NumPy, zipfile and zlib each have their own for a file that is not an npz
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable npz file ({message})") from error

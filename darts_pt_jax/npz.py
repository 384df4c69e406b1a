"""Reads NumPy's npz files from any origin; errors are one clear line."""

import contextlib
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np


def read(path: str | pathlib.Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the arrays of these names, and those of the names `optional` that are there.

    Raises:
      ValueError: the file is no npz, lacks an array, holds one that needs a pickle, or needs more memory than the
        machine has; the message is one line without the path.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("not a readable npz file: it is no whole zip archive, as numpy.savez writes")
    with _readable(), zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    if missing := [name for name in names if name not in sizes]:
        raise ValueError(f"lacks the arrays {', '.join(missing)}; it has {', '.join(sizes) or 'none'}")
    names = [*names, *(name for name in optional if name in sizes)]
    needed, memory = sum(sizes[name] for name in names), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(f"its arrays need {needed:,} bytes, this machine has {memory:,} bytes of memory")
    with _readable(), open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: _array(file, name) for name in names}


def _array(file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return file[name]
    except ValueError as error:
        what = "it holds Python objects, expected numbers" if "Object arrays" in str(error) else error
        raise ValueError(f"array {name}: {what}") from error


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # NumPy, zipfile and zlib each raise their own for a file that is no npz
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable npz file ({message})") from error

"""Data sets in their publishers' files; published checksums are checked before a file is parsed."""

import dataclasses
import functools
import hashlib
import io
import pathlib
import pickle
import tarfile
from collections.abc import Callable, Iterator

import numpy as np

from darts_pt_jax.data.images import ARRAYS, DataError, Images, from_arrays

Part = tuple[str, np.ndarray, np.ndarray]
"""A split's name, some of its images uint8 [n, H, W, C], and their labels [n]."""


class Missing(DataError):
    """Files are missing; the message names them and where to get them."""


@dataclasses.dataclass(frozen=True)
class Release:
    """The files of a data set.

    Attributes:
      checksums: MD5 or SHA-256 in hexadecimal by file name, in the order in which the files are read.
      url: where to get the files.
      read: takes a file's name and content, gives its parts in the publisher's order.
    """

    checksums: dict[str, str]
    url: str
    read: Callable[[str, bytes], Iterator[Part]]


def read(name: str, directory: str, checksums: dict[str, str]) -> tuple[Images, tuple[str, ...]]:
    """Reads a data set from the first of its `RELEASES` whose files are all in a directory.

    Args:
      name: a key of `RELEASES`.
      directory: where the files are.
      checksums: by file name, used instead of the published ones.

    Returns:
      The images, and the names of the files.

    Raises:
      Missing: no release is complete.
      DataError: a file differs from the published one, or cannot be read.
    """
    folder = pathlib.Path(directory).expanduser()
    for release in RELEASES[name]:
        if all((folder / file).is_file() for file in release.checksums):
            return _images(name, release, folder, checksums), tuple(release.checksums)
    lacking = []
    for release in RELEASES[name]:
        files = [file for file in release.checksums if not (folder / file).is_file()]
        lacking.append(f"{', '.join(files)} (from {release.url})")
    raise Missing(f"{name}: {directory} lacks {' or '.join(lacking)}")


def read_checksums(path: str) -> dict[str, str]:
    """Reads MD5 or SHA-256 by file name from the output of md5sum or sha256sum.

    Raises:
      DataError: the file or a line in it cannot be read.
    """
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--checksums {path}: not readable ({error})") from error
    checksums = {}
    for number, line in enumerate(lines, 1):
        digest, _, file = line.strip().partition(" ")
        file = pathlib.PurePath(file.strip().removeprefix("*")).name
        if not file or len(digest) not in ALGORITHMS or set(digest.lower()) - set("0123456789abcdef"):
            raise DataError(f"--checksums {path}, line {number}: {line!r}, expected 'HEX NAME' as sha256sum prints it")
        checksums[file] = digest.lower()
    return checksums


ALGORITHMS = {32: "md5", 64: "sha256"}
"""Hash functions by the number of digits of a checksum."""


def _images(name: str, release: Release, folder: pathlib.Path, checksums: dict[str, str]) -> Images:
    parts: dict[str, list[np.ndarray]] = {array: [] for array in ARRAYS}
    for file, published in release.checksums.items():
        content = (folder / file).read_bytes()
        _check(folder / file, content, checksums.get(file, published))
        try:
            for split, images, labels in release.read(file, content):
                parts[f"{split}_images"].append(images)
                parts[f"{split}_labels"].append(labels)
        except Exception as error:  # tarfile, zlib, pickle and SciPy each raise their own
            raise DataError(f"{folder / file}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return from_arrays(f"{name} in {folder}", {array: np.concatenate(pieces) for array, pieces in parts.items()})


def _check(path: pathlib.Path, content: bytes, expected: str) -> None:
    algorithm = ALGORITHMS[len(expected)]
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: {algorithm} is {found}, expected {expected}: get the file again, "
            "or give a checksum that you trust with --checksums"
        )


def _cifar(
    member: str, splits: dict[str, tuple[str, ...]], parse: Callable[[bytes], tuple[np.ndarray, np.ndarray]]
) -> Callable[[str, bytes], Iterator[Part]]:
    """A reader of one of CIFAR's archives.

    Args:
      member: the path of a member in the archive, with {} for its name.
      splits: the members' names by split.
      parse: makes images and labels from a member's content.
    """

    def read(file: str, content: bytes) -> Iterator[Part]:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            wanted = [(split, member.format(name)) for split, names in splits.items() for name in names]
            if missing := {name for _, name in wanted} - set(tar.getnames()):
                raise ValueError(f"the archive lacks {', '.join(sorted(missing))}")
            for split, name in wanted:
                extracted = tar.extractfile(name)
                if extracted is None:
                    raise ValueError(f"{name} in the archive is no file")
                yield split, *parse(extracted.read())

    return read


def _binary(label_bytes: int, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR's binary format: for each image its labels, the finest last, then 3 x 32 x 32 pixels."""
    length = label_bytes + 3 * 32 * 32
    if len(content) % length:
        raise ValueError(f"a member has {len(content)} bytes, expected a multiple of {length}")
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return _channels_last(records[:, label_bytes:], 32), records[:, label_bytes - 1]


def _pickled(labels: str, size: int, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The pickled dictionaries of CIFAR and of the downsampled ImageNet; `labels` is the key of the labels."""
    batch = {
        key.decode() if isinstance(key, bytes) else key: value
        for key, value in _Unpickler(io.BytesIO(content), encoding="bytes").load().items()
    }
    if missing := {"data", labels} - set(batch):
        raise ValueError(f"a batch lacks {' and '.join(sorted(missing))}; it has {', '.join(batch)}")
    return _channels_last(batch["data"], size), np.array(batch[labels])


def _channels_last(rows: np.ndarray, size: int) -> np.ndarray:
    """[n, 3 * size * size] to [n, size, size, 3]."""
    return np.ascontiguousarray(rows.reshape(-1, 3, size, size).transpose(0, 2, 3, 1))


def _svhn(file: str, content: bytes) -> Iterator[Part]:
    """SVHN's cropped digits: X [32, 32, 3, n]; y [n, 1] from 1 to 10, where 10 is the digit 0."""
    import scipy.io

    arrays = scipy.io.loadmat(io.BytesIO(content), variable_names=("X", "y"))
    yield file.split("_")[0], arrays["X"].transpose(3, 0, 1, 2), arrays["y"].ravel() % 10


def _imagenet16_120(file: str, content: bytes) -> Iterator[Part]:
    """The first 120 of ImageNet's 1,000 classes at 16 x 16, as in NAS-Bench-201; labels in the files count from 1."""
    images, labels = _pickled("labels", 16, content)
    kept = (labels >= 1) & (labels <= 120)
    yield "train" if file.startswith("train") else "test", images[kept], labels[kept] - 1


class _Unpickler(pickle.Unpickler):
    """Makes arrays and Python's own lists, numbers and strings; refuses everything else that a pickle names."""

    ALLOWED = frozenset({
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("_codecs", "encode"),
    })  # fmt: skip

    def find_class(self, module: str, name: str):
        """An allowed class or function.

        Raises:
          UnpicklingError: it is not allowed.
        """
        module = module.replace("numpy.core.", "numpy._core.")  # its name before NumPy 2
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, expected arrays only: refused")
        return super().find_class(module, name)


_CIFAR10 = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
_CIFAR100 = {"train": ("train",), "test": ("test",)}


def _cifar_release(archive: str, checksum: str, *reader) -> Release:
    return Release({archive: checksum}, "https://www.cs.toronto.edu/~kriz/", _cifar(*reader))


RELEASES = {
    "cifar10": (
        _cifar_release(
            "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "cifar-10-batches-bin/{}.bin", _CIFAR10, functools.partial(_binary, 1),
        ),
        _cifar_release(
            "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py/{}", _CIFAR10, functools.partial(_pickled, "labels", 32),
        ),
    ),
    "cifar100": (
        _cifar_release(
            "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            "cifar-100-binary/{}.bin", _CIFAR100, functools.partial(_binary, 2),
        ),
        _cifar_release(
            "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python/{}", _CIFAR100, functools.partial(_pickled, "fine_labels", 32),
        ),
    ),
    "svhn_cropped": (
        Release(
            {
                "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            },
            "http://ufldl.stanford.edu/housenumbers/",
            _svhn,
        ),
    ),
    "imagenet16-120": (
        Release(
            {
                "train_data_batch_1": "27846dcaa50de8e21a7d1a35f30f0e91",
                "train_data_batch_2": "c7254a054e0e795c69120a5727050e3f",
                "train_data_batch_3": "4333d3df2e5ffb114b05d2ffc19b1e87",
                "train_data_batch_4": "1620cdf193304f4a92677b695d70d10f",
                "train_data_batch_5": "348b3c2fdbb3940c4e9e834affd3b18d",
                "train_data_batch_6": "6e765307c242a1b3d7d5ef9139b48945",
                "train_data_batch_7": "564926d8cbf8fc4818ba23d2faac7564",
                "train_data_batch_8": "f4755871f718ccb653440b9dd0ebac66",
                "train_data_batch_9": "bb6dd660c38c58552125b1a92f86b5d4",
                "train_data_batch_10": "8f03f34ac4b42271a294f91bf480f29b",
                "val_data": "3410e3017fdaefba8d5073aaa65e4bd6",
            },
            "https://image-net.org/download-images, downsampled, 16x16",
            _imagenet16_120,
        ),
    ),
}  # fmt: skip
"""The known data sets. The SHA-256 are from tensorflow-datasets, the MD5 from CIFAR's page and NAS-Bench-201's code."""

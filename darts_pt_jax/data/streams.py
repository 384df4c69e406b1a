"""Photographs of any size, too many for memory: decoded, cut and resized on the host as they are needed.

Flips, jitter of the colours and normalisation are left to the device (`batches.prepared`).
"""

import dataclasses
import functools
import hashlib
import io
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from darts_pt_jax.data.sources import DataError, guess

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of the files that `folder` takes for pictures, in small or capital letters."""


class Records(Protocol):
    """A split of a data set: labelled pictures by number, which several threads may read at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[bytes | str, int]:
        """The encoded picture, or the path of its file, and its label."""

    def name(self, number: int) -> str:
        """What an error calls the picture."""

    def identity(self) -> Iterator[str]:
        """What tells the split from others."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """A data set that is read as it is used.

    Pixels are taken as they are stored: a note in the file that the camera was turned is not heeded, as usual in
    training on ImageNet. Grey, palette and CMYK pictures are converted to RGB, and transparency is dropped.

    Attributes:
      train, test: the records of both splits.
      classes: number of classes; labels are 0 to `classes` - 1.
      side: S, height and width in pixels of the images that are given out.
      notes: what a user should know of how the pictures were found, a line each.
      threads: how many decode; 0: one for each CPU. It changes nothing but the speed.
      pad, flip: the defaults of further augmentation, as of `sources.Images`.
    """

    train: Records
    test: Records
    classes: int
    side: int
    notes: tuple[str, ...] = ()
    threads: int = 0
    pad: int = 0
    flip: bool = True

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of training and of test images."""
        return len(self.train), len(self.test)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(S, S, 3)."""
        return self.side, self.side, 3

    def fingerprint(self) -> str:
        """SHA-256 over what tells the records from others (of files their names, sizes and labels, not their content)."""
        digest = hashlib.sha256()
        for records in (self.train, self.test):
            for line in records.identity():
                digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def training(
        self, seed: int, batch_size: int, start: int = 0, rows: slice | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One shuffled pass over the training pictures, of each of which a random part is cut out and resized.

        Which pictures come when, and which `random_part` of each, are functions of `seed` alone, whatever the threads
        and B. What does not fill a batch at the end is dropped.

        Args:
          seed: of the pass, from 0 to 2**32 - 1.
          batch_size: B.
          start: the batch to begin with; it and those after it are the same as in a pass from 0.
          rows: which of each batch are read, where other hosts read the others; by default all.

        Yields:
          Images uint8 [B, S, S, 3] and labels int32 [B], of the `rows` alone.

        Raises:
          DataError: there are fewer pictures than B; or, when it is its turn, a picture cannot be read.
        """
        if batch_size > len(self.train):
            raise DataError(f"a batch of {batch_size} is asked for, but there are {len(self.train)} training pictures")
        numbers = _grain().MapDataset.range(len(self.train)).shuffle(seed)

        def part(picture, number):
            rng = np.random.default_rng((seed, number))
            return _resized(picture.crop(random_part(rng, *picture.size)), (self.side, self.side))

        in_batches = numbers.slice(slice(0, len(self.train) // batch_size * batch_size))
        return self._batches(in_batches, self.train, part, batch_size, start, rows)

    def testing(
        self, batch_size: int, start: int = 0, rows: slice | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The `middle` of the test pictures, in order.

        The last batch is filled up by repeating its last picture, so that all have the same shape; the caller leaves
        out what is beyond the number of pictures.

        Args:
          batch_size: B.
          start, rows: as of `training`.

        Yields:
          Images uint8 [B, S, S, 3] and labels int32 [B], of the `rows` alone.

        Raises:
          DataError: a picture cannot be read, when it is its turn.
        """
        numbers = range(len(self.test))
        return self._batches(numbers, self.test, lambda picture, _: middle(picture, self.side), batch_size, start, rows)

    def _batches(self, numbers, records, cut, batch_size, start, rows):
        """Batches of the records of these numbers, cut to size in threads, which are up to two batches ahead."""
        first, end, _ = (rows or slice(None)).indices(batch_size)
        size = end - first

        def number(position):
            batch, row = divmod(position, size)
            return numbers[min(batch * batch_size + first + row, len(numbers) - 1)]

        positions = _grain().MapDataset.range(start * size, -(-len(numbers) // batch_size) * size)
        read = functools.partial(_read, records, self.classes, cut)
        options = _grain().ReadOptions(self.threads or os.cpu_count(), prefetch_buffer_size=2 * size)
        images = positions.map(number).map(read).to_iter_dataset(options)
        return iter(images.batch(size, batch_fn=_stack))


def folder(path: str, side: int, threads: int = 0) -> Stream:
    """The pictures path/train/CLASS/* and path/val/CLASS/* (or path/test/CLASS/* where there is no val).

    Classes are numbered in the order of their folders' names in train. Names that begin with a dot are passed over, and
    files that do not end in one of `EXTENSIONS`, of which `Stream.notes` says how many there were.

    Args:
      path: the folder of both splits.
      side: of the images in pixels.
      threads: as of `Stream`.

    Raises:
      DataError: a folder is missing or has no pictures, there are fewer than two classes, val has a class that train
        lacks, or Pillow or grain are not installed.
    """
    _check(side)
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise DataError(f"data.path is {path!r}, expected a folder that holds train/CLASS/* and val/CLASS/*")
    held_out = "val" if (root / "val").is_dir() else "test"
    classes = _folders(root / "train")
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: it has {len(classes)} class, expected at least 2, a folder for each")
    if unseen := sorted(set(_folders(root / held_out)) - set(classes)):
        raise DataError(
            f"{root / held_out / unseen[0]}: train lacks this class ({len(unseen)} in all, of {len(classes)} in train): "
            "expected the same folders as in train"
        )
    train, test = (_files(root, split, classes) for split in ("train", held_out))
    notes = tuple(
        f"{root / split}: files left out, since by their names they are no pictures: {len(files.others)}, "
        f"such as {root / files.others[0]}"
        for split, files in (("train", train), (held_out, test))
        if files.others
    )
    return Stream(train, test, len(classes), side, notes, threads)


def tfds(name: str, directory: str, side: int, threads: int = 0) -> Stream:
    """A data set that tensorflow-datasets has prepared as array_record: splits train and validation (or else test).

    Args:
      name: as tensorflow-datasets has it: "imagenet2012", "imagenette/full-size-v2".
      directory: where the data are kept ("": the default, ~/tensorflow_datasets).
      side: of the images in pixels.
      threads: as of `Stream`.

    Raises:
      DataError: the data are missing, have no random access or cannot be used, or a package is not installed.
    """
    _check(side)
    from darts_pt_jax.data import from_tfds

    try:
        train, test, classes = from_tfds.records(name, directory)
    except from_tfds.Unknown as error:
        raise DataError(f"{error}{guess(name, from_tfds.names())}") from None
    except from_tfds.NotPrepared as error:
        where = f" --data_dir={directory}" if directory else ""
        raise DataError(
            f"{error}: tfds build {name} --file_format=array_record{where} (needs pip install -e '.[prepare]')"
        ) from None
    return Stream(train, test, classes, side, threads=threads)


def middle(picture, side: int):
    """A Pillow picture, its shorter side resized to `side` * 256 / 224 pixels, rounded, and the middle of it cut out."""
    shorter = round(side * 256 / 224)
    width, height = (shorter * length // min(picture.size) for length in picture.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return _resized(picture, (width, height)).crop((left, top, left + side, top + side))


def random_part(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a picture that a training image shows, as torchvision's RandomResizedCrop draws it.

    A share of the area, uniform in (0.08, 1), and a ratio of width to height, log-uniform in (3/4, 4/3), are drawn until
    such a part fits into the picture, at most ten times; then its place. If none fits, it is the middle of the picture,
    as much of it as has a ratio within these bounds.

    Args:
      rng: of the draws.
      width: of the picture in pixels.
      height: of the picture in pixels.

    Returns:
      Left, top, right, bottom in pixels; right and bottom are exclusive.
    """
    narrow, wide = 3 / 4, 4 / 3
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (int(rng.integers(room + 1)) for room in (width - w, height - h))
            return left, top, left + w, top + h
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _read(records: Records, classes: int, cut: Callable, number: int) -> tuple[np.ndarray, int]:
    """A record's image as `cut` makes it of the picture and its number, uint8 [S, S, 3], and its label."""
    from PIL import Image

    try:
        encoded, label = records[number]
        with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as picture:
            if picture.mode[0] in "IF":  # Pillow would cut off what is brighter than 255
                raise ValueError(f"its pixels are {picture.mode}, expected 8 bits per channel")
            if picture.mode == "P":  # else Pillow warns of transparency
                picture = picture.convert("RGBA")
            image = np.asarray(cut(picture.convert("RGB"), number))
        if not 0 <= label < classes:
            raise ValueError(f"its label is {label}, expected 0 to {classes - 1}")
    except Exception as error:  # each of Pillow's codecs has its own for a file that it cannot read
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{records.name(number)}: not a picture that can be used ({reason})") from error
    return image, label


def _resized(picture, size):
    from PIL import Image

    return picture.resize(size, Image.Resampling.BILINEAR)  # it averages over what a pixel covers


def _stack(records: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*records, strict=True)
    return np.stack(images), np.array(labels, np.int32)


class _Files(Sequence):
    """The files of a split: (path, label) by number, the classes one after the other, each in the order of names."""

    def __init__(self, root: pathlib.Path, names: list[str], labels: list[int], others: list[str]):
        self.others = others
        self._root, self._names, self._labels = root, names, np.array(labels, np.int32)

    def __len__(self):
        return len(self._names)

    def __getitem__(self, number: int) -> tuple[str, int]:
        return self.name(number), int(self._labels[number])

    def name(self, number: int) -> str:
        return os.path.join(self._root, self._names[number])

    def identity(self) -> Iterator[str]:
        for number, name in enumerate(self._names):
            yield f"{name} {os.path.getsize(self.name(number))} {self._labels[number]}"


def _files(root: pathlib.Path, split: str, classes: list[str]) -> _Files:
    names, labels, others = [], [], []
    for label, name in enumerate(classes):
        if not (root / split / name).is_dir():
            continue  # an unseen class of the test split; `folder` has looked at the other way round
        files = [f"{split}/{name}/{file}" for file in _visible(root / split / name)]
        pictures = [file for file in files if file.lower().endswith(EXTENSIONS)]
        if not pictures:
            raise DataError(
                f"{root / split / name}: no pictures in it, expected files that end in {', '.join(EXTENSIONS)}: "
                "add some or delete the folder"
            )
        names += pictures
        labels += [label] * len(pictures)
        others += sorted(set(files) - set(pictures))
    return _Files(root, names, labels, others)


def _folders(path: pathlib.Path) -> list[str]:
    """The names of the classes of a split."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder, expected one with a folder for each class")
    names = [name for name in _visible(path) if (path / name).is_dir()]
    if not names:
        raise DataError(f"{path}: it holds no folders, expected one for each class: sort the pictures into them")
    return names


def _visible(path: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if not name.startswith("."))


def _check(side: int):
    if side < 1:
        raise DataError(f"the images' side is {side} pixels, expected at least 1")
    _grain()
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise DataError("reading pictures needs Pillow: pip install -e '.[imagenet]'") from None


def _grain():
    try:
        import grain
    except ImportError:
        raise DataError("reading pictures as they are needed needs grain: pip install -e '.[imagenet]'") from None
    return grain

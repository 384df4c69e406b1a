"""Pictures in folders: one folder for each class, of each split or of all pictures."""

import concurrent.futures
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from darts_pt_jax.data import pictures, streams
from darts_pt_jax.data.images import DataError, Images, before_border, from_arrays
from darts_pt_jax.data.pictures import EXTENSIONS
from darts_pt_jax.data.streams import Stream

LARGEST = 2 * 10**9
"""The largest number of bytes that `read` keeps in memory: a byte for each pixel and channel."""

TEST_SHARE = 0.2
"""The share of each class that is held out for testing where a folder has no splits."""

SPLITS = ("train", "val", "test")
"""Names of the folders that split a data set."""

_MEANT = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "testing": "test"}  # fmt: skip
"""The split that a folder's name means, in upper or lower case."""

Read = TypeVar("Read")


def folder(path: str, side: int, threads: int = 0) -> Stream:
    """The pictures path/train/CLASS/* and path/val/CLASS/* (or path/test/CLASS/* where there is no val).

    Classes are numbered in the order of their folders' names in train. Skips names that begin with a dot, and files
    whose names do not end in one of `pictures.EXTENSIONS`; `Stream.notes` says how many.

    Args:
      path: the folder that holds both splits.
      side: of the images in pixels.
      threads: see `Stream`.

    Raises:
      DataError: a folder is missing, has another name or no pictures, there are fewer than two classes, val has a class
        that train lacks, or grain is not installed.
    """
    streams.check(side)
    root = _root(path, "that holds train/CLASS/* and val/CLASS/*")
    names, left_out = _splits(root)
    held_out = "val" if "val" in names else "test"
    classes = _classes(root / "train")
    train, test = (FolderSplit(root, split, classes) for split in ("train", held_out))
    notes = train.notes + test.notes + left_out
    if held_out == "val" and "test" in names:
        notes += (f"{root / 'test'}: not used, since {root / 'val'} is what tests",)
    return Stream(train, test, len(classes), side, notes, threads, class_names=tuple(classes))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of a folder by their use: lists of (path, class), shuffled.

    Attributes:
      train, scoring, test: for training; of a split `val`, if there is one beside `test`; for testing.
      classes: the names of the classes.
      notes: see `Images`.
    """

    train: list[tuple[str, int]]
    scoring: list[tuple[str, int]]
    test: list[tuple[str, int]]
    classes: list[str]
    notes: tuple[str, ...]

    def first(self, examples: int) -> "Pictures":
        """The same with only the first training images, those of a validation split in proportion; all if there are fewer."""
        count = len(self.train) + len(self.scoring)
        if examples >= count:
            return self
        before = before_border(examples, len(self.train), count)
        return dataclasses.replace(self, train=self.train[:before], scoring=self.scoring[: examples - before])

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(H, W, C) of each picture by its path, from the headers of the files (see `pictures.shape`).

        Raises:
          DataError: a picture cannot be read.
        """
        paths = [path for path, _ in self.train + self.scoring + self.test]
        return dict(zip(paths, _each(pictures.shape, paths), strict=True))


def found(path: str) -> Pictures:
    """The pictures of a folder, which is laid out in one of two ways.

    path/train/CLASS/* with path/test/CLASS/* or path/val/CLASS/*. Where both are there, val follows train: it is for the
    half that scores.

    path/CLASS/*, without splits. A fifth of each class is then for testing: the nearest whole number, but at least one.
    They are drawn with the seed 0.

    Raises:
      DataError: the folder is laid out otherwise, or a class has no pictures.
    """
    root = _root(path, "that holds CLASS/*, or train/CLASS/* and test/CLASS/*")
    names, left_out = _splits(root)
    classes = _classes(root / "train" if names else root)
    if names:
        if len(names) == 1:
            names.append("test")  # whose absence is then named
        splits = [FolderSplit(root, name, classes) for name in names]
        train, *scoring, test = [_listed(split, _mixed(split.labels)) for split in splits]
        notes = tuple(note for split in splits for note in split.notes)
        return Pictures(train, scoring[0] if scoring else [], test, classes, notes + left_out)
    whole = FolderSplit(root, "", classes)
    rank, count = _ranks(whole.labels)
    if count.min() < 2:
        alone = root / classes[whole.labels[count.argmin()]]
        raise DataError(f"{alone}: it has 1 picture, expected at least 2: one of each class is for testing")
    testing = rank < np.maximum(1, np.round(TEST_SHARE * count))
    order = _mixed(whole.labels)
    train, test = (_listed(whole, order[testing[order] == held_out]) for held_out in (False, True))
    note = f"{root}: there is no folder train: {len(test)} of {len(order)} pictures, a fifth of each class, are for testing"
    return Pictures(train, [], test, classes, (*whole.notes, note))


def read(path: str, size: int = 0, examples: int = 0) -> Images:
    """The pictures of a folder in memory (see `found`).

    They are grey if all files hold grey only, else RGB. Pictures of another size are resized by Pillow's bilinear filter,
    without keeping the ratio of their sides.

    Args:
      path: the folder.
      size: height and width of the images; 0: as they are, if all have one size.
      examples: reads only this many training images, see `sources.load`; 0: all.

    Raises:
      DataError: the folder is laid out otherwise, a picture cannot be read, their sizes differ though `size` is 0, or they
        need more than `LARGEST` bytes.
    """
    listed = found(path).first(examples) if examples else found(path)
    shapes = listed.shapes()
    (first, (height, width, _)), *_ = shapes.items()
    channels = max(shape[2] for shape in shapes.values())
    if size:
        height, width = size, size
    elif other := next((name for name, shape in shapes.items() if shape[:2] != (height, width)), None):
        raise DataError(
            f"{path}: its pictures have several sizes ({first} is {height}x{width}, {other} is "
            f"{shapes[other][0]}x{shapes[other][1]}): set data.size, to which they are resized"
        )
    if (needed := len(shapes) * height * width * channels) > LARGEST:
        raise DataError(
            f"{path}: {len(shapes):,} images of {height}x{width}x{channels} need {needed:,} bytes, at most {LARGEST:,} are "
            "kept in memory: lower data.size or data.examples, or retrain with data.crop, which reads pictures when they are "
            "needed (from train/ and val/)"
        )

    def image(file: str) -> np.ndarray:
        return pictures.FITS["bilinear"](pictures.decoded(file, channels)[None], height, width)[0]

    parts = {"train": listed.train, "val": listed.scoring, "test": listed.test}
    arrays = {}
    for split, labelled in parts.items():
        if labelled:
            arrays[f"{split}_images"] = np.stack(_each(image, [file for file, _ in labelled]))
            arrays[f"{split}_labels"] = np.array([label for _, label in labelled])
    return dataclasses.replace(from_arrays(path, arrays, listed.notes, listed.classes), fit="bilinear")


class FolderSplit:
    """The picture files of a split by number: class after class, each in the order of the names.

    Attributes:
      labels: int32 [N].
      notes: lines about files that are left out, if there are any.
    """

    def __init__(self, root: pathlib.Path, split: str, classes: list[str]):
        """Lists root/split/CLASS/*.

        Raises:
          DataError: a class has no pictures, or the split has a class that is not among `classes`.
        """
        if unseen := sorted(set(_folders(root / split)) - set(classes)):
            alike = [name for name in classes if _plain(name) == _plain(unseen[0])]
            advice = f"rename it to {alike[0]}, whose letters have another case or Unicode form" if alike else ""
            raise DataError(
                f"{root / split / unseen[0]}: train lacks this class ({len(unseen)} in all, of {len(classes)} in train): "
                f"{advice or 'expected the same folders as in train'}"
            )
        self._root = root
        self._names: list[str] = []
        labels: list[int] = []
        others: list[str] = []
        for label, name in enumerate(classes):
            if not (root / split / name).is_dir():
                continue  # the test split may lack a class of train
            files = [os.path.join(split, name, file) for file in _visible(root / split / name)]
            found = [file for file in files if file.lower().endswith(EXTENSIONS)]
            if not found:
                raise DataError(
                    f"{root / split / name}: no pictures in it, expected files that end in {', '.join(EXTENSIONS)}: "
                    "add some or delete the folder"
                )
            self._names += found
            labels += [label] * len(found)
            others += sorted(set(files) - set(found))
        self.labels = np.array(labels, np.int32)
        loose = [os.path.join(split, name) for name in _visible(root / split) if name.lower().endswith(EXTENSIONS)]
        left_out = {"files left out, since by their names they are no pictures": others,
                    "pictures left out, since they are in no class's folder": loose}  # fmt: skip
        self.notes = tuple(
            f"{root / split}: {why}: {len(names)}, such as {root / names[0]}"
            for why, names in left_out.items()
            if names
        )

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> tuple[str, int]:
        return self.name(number), int(self.labels[number])

    def name(self, number: int) -> str:
        """The path of the picture."""
        return os.path.join(self._root, self._names[number])

    def identity(self) -> Iterator[str]:
        """Name, size in bytes and label of each file."""
        for number, name in enumerate(self._names):
            yield f"{name} {os.path.getsize(self.name(number))} {self.labels[number]}"


def _root(path: str, expected: str) -> pathlib.Path:
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise DataError(f"data.path is {path!r}, expected a folder {expected}")
    return root


def _splits(root: pathlib.Path) -> tuple[list[str], tuple[str, ...]]:
    """Those of `SPLITS` that are folders in `root`, and a line about the other folders beside them.

    Raises:
      DataError: a folder means a split, but has another name, such as "valid" or "Test".
    """
    splits = [name for name in SPLITS if (root / name).is_dir()]
    others = [name for name in _visible(root) if name not in SPLITS and (root / name).is_dir()]
    meant = {name: _MEANT[name.casefold()] for name in others if name.casefold() in _MEANT}
    renamed = [name for name, split in meant.items() if split not in splits]
    if renamed and (splits or len(meant) == len(others)):
        raise DataError(
            f"{root / renamed[0]}: a split is a folder train, val or test: rename it to {meant[renamed[0]]}, or move it away"
        )
    if not splits or not others:
        return splits, ()
    why = f"folders left out, since they are none of {', '.join(SPLITS)}"
    return splits, (f"{root}: {why}: {len(others)}, such as {root / others[0]}",)


def _classes(path: pathlib.Path) -> list[str]:
    """The names of the classes, those of the folders in `path`."""
    if len(classes := _folders(path)) < 2:
        raise DataError(f"{path}: it has 1 class, {classes[0]}, expected at least 2, a folder for each")
    return classes


def _folders(path: pathlib.Path) -> list[str]:
    if not path.is_dir():
        raise DataError(f"{path}: no such folder, expected one with a folder for each class")
    names = [name for name in _visible(path) if (path / name).is_dir()]
    if not names:
        raise DataError(f"{path}: it holds no folders, expected one for each class: sort the pictures into them")
    return names


def _visible(path: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if not name.startswith("."))


def _plain(name: str) -> str:
    """A name without the differences that a reader may not see."""
    return unicodedata.normalize("NFC", name).casefold()


def _ranks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each picture within its class, in a random order of seed 0, and the size of its class; int [N] each."""
    order = np.random.RandomState(0).permutation(len(labels))
    rank, count = np.empty(len(labels), int), np.bincount(labels)
    for label in np.unique(labels):
        rank[order[labels[order] == label]] = np.arange(count[label])
    return rank, count[labels]


def _mixed(labels: np.ndarray) -> np.ndarray:
    """A random order of seed 0, of which every part has about the same share of each class."""
    rank, count = _ranks(labels)
    order = np.random.RandomState(0).permutation(len(labels))
    return order[np.argsort((rank / count)[order], kind="stable")]


def _listed(split: FolderSplit, order: np.ndarray) -> list[tuple[str, int]]:
    return [split[int(number)] for number in order]


def _each(function: Callable[[str], Read], paths: Sequence[str]) -> list[Read]:
    """What a function gives for each picture; an error names the picture."""

    def named(path: str) -> Read:
        with pictures.named(path):
            return function(path)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        return list(threads.map(named, paths))

"""Pictures in folders: one folder for each class of a split."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from darts_pt_jax.data import streams
from darts_pt_jax.data.images import DataError
from darts_pt_jax.data.pictures import EXTENSIONS
from darts_pt_jax.data.streams import Stream


def folder(path: str, side: int, threads: int = 0) -> Stream:
    """The pictures path/train/CLASS/* and path/val/CLASS/* (or path/test/CLASS/* where there is no val).

    Classes are numbered in the order of their folders' names in train. Skips names that begin with a dot, and files
    whose names do not end in one of `pictures.EXTENSIONS`; `Stream.notes` says how many.

    Args:
      path: the folder that holds both splits.
      side: of the images in pixels.
      threads: see `Stream`.

    Raises:
      DataError: a folder is missing or has no pictures, there are fewer than two classes, val has a class that train
        lacks, or Pillow or grain are not installed.
    """
    streams.check(side)
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise DataError(f"data.path is {path!r}, expected a folder that holds train/CLASS/* and val/CLASS/*")
    held_out = "val" if (root / "val").is_dir() else "test"
    classes = _classes(root / "train")
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: it has {len(classes)} class, expected at least 2, a folder for each")
    if unseen := sorted(set(_classes(root / held_out)) - set(classes)):
        raise DataError(
            f"{root / held_out / unseen[0]}: train lacks this class ({len(unseen)} in all, of {len(classes)} in train): "
            "expected the same folders as in train"
        )
    train, test = (FolderSplit(root, split, classes) for split in ("train", held_out))
    return Stream(train, test, len(classes), side, train.notes + test.notes, threads)


class FolderSplit:
    """The picture files of a split by number: class after class, each in the order of the names.

    Attributes:
      notes: a line about files that are no pictures, if there are any.
    """

    def __init__(self, root: pathlib.Path, split: str, classes: list[str]):
        """Lists root/split/CLASS/*.

        Raises:
          DataError: a class has no pictures.
        """
        self._root = root
        self._names: list[str] = []
        labels: list[int] = []
        others: list[str] = []
        for label, name in enumerate(classes):
            if not (root / split / name).is_dir():
                continue  # the test split may lack a class of train
            files = [f"{split}/{name}/{file}" for file in _visible(root / split / name)]
            found = [file for file in files if file.lower().endswith(EXTENSIONS)]
            if not found:
                raise DataError(
                    f"{root / split / name}: no pictures in it, expected files that end in {', '.join(EXTENSIONS)}: "
                    "add some or delete the folder"
                )
            self._names += found
            labels += [label] * len(found)
            others += sorted(set(files) - set(found))
        self._labels = np.array(labels, np.int32)
        left_out = f"{root / split}: files left out, since by their names they are no pictures: {len(others)}"
        self.notes = (f"{left_out}, such as {root / others[0]}",) if others else ()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> tuple[str, int]:
        return self.name(number), int(self._labels[number])

    def name(self, number: int) -> str:
        """The path of the picture."""
        return os.path.join(self._root, self._names[number])

    def identity(self) -> Iterator[str]:
        """Name, size in bytes and label of each file."""
        for number, name in enumerate(self._names):
            yield f"{name} {os.path.getsize(self.name(number))} {self._labels[number]}"


def _classes(path: pathlib.Path) -> list[str]:
    """The names of the classes of a split."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder, expected one with a folder for each class")
    names = [name for name in _visible(path) if (path / name).is_dir()]
    if not names:
        raise DataError(f"{path}: it holds no folders, expected one for each class: sort the pictures into them")
    return names


def _visible(path: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(path) if not name.startswith("."))

"""Labelled images in the host's memory, and the checks that arrays pass before they become such images."""

import dataclasses
import hashlib

import numpy as np


class DataError(ValueError):
    """A data set cannot be used; the message is one line that says why."""


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
      train_images, test_images: uint8 [N, H, W, C].
      train_labels, test_labels: int32 [N], classes 0 to `classes` - 1.
      pad: the data set's default zero padding before the random crop, in pixels.
      flip: whether training images are flipped horizontally by default.
      notes: one line for each thing that a user should know about how the images were read.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    pad: int
    flip: bool
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train_labels.max()) + 1

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of training and of test images."""
        return len(self.train_images), len(self.test_images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    def fingerprint(self) -> str:
        """SHA-256 over shapes, pixels and labels."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
"""The arrays of a data set, in the order of the fields of `Images`."""


def from_arrays(origin: str, arrays: dict[str, np.ndarray], notes: tuple[str, ...] = ()) -> Images:
    """Checks arrays and makes them a data set.

    By default its images are padded by an eighth of the shorter side, as is usual (CIFAR: 4), and flipped.

    Args:
      origin: where the arrays come from; error messages begin with it.
      arrays: `ARRAYS` by name: images uint8 [N, H, W, C], labels integers [N] from 0.
      notes: see `Images`.

    Raises:
      DataError: an array is not as described.
    """
    for split in ("train", "test"):
        _check_split(origin, split, arrays[f"{split}_images"], arrays[f"{split}_labels"])
    train, train_labels, test, test_labels = (arrays[name] for name in ARRAYS)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{origin}: train_images are {train.shape[1:]} but test_images are {test.shape[1:]}")
    _check_classes(origin, train_labels, test_labels)
    pad = round(min(train.shape[1:3]) / 8)
    return Images(train, train_labels.astype(np.int32), test, test_labels.astype(np.int32), pad, True, notes)


def _check_split(origin: str, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    if images.ndim != 4:
        raise DataError(f"{origin}: {split}_images has shape {images.shape}, expected [n, height, width, channels]")
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise DataError(f"{origin}: {split}_images has shape {images.shape}, which looks like channels first")
    if images.dtype != np.uint8:
        raise DataError(f"{origin}: {split}_images is {images.dtype}, expected uint8")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{origin}: {split}_labels is {labels.dtype} {labels.shape}, expected integers of shape [n]")
    if len(images) != len(labels):
        raise DataError(f"{origin}: {split} has {len(images)} images but {len(labels)} labels")
    if not images.size:
        raise DataError(f"{origin}: {split}_images is empty, its shape is {images.shape}")
    if labels.min() < 0:
        raise DataError(f"{origin}: {split}_labels go down to {labels.min()}, expected 0 and up")


def _check_classes(origin: str, train_labels: np.ndarray, test_labels: np.ndarray) -> None:
    seen = np.unique(train_labels)
    classes = len(seen)
    if seen[-1] != classes - 1:
        unseen = np.flatnonzero(seen != np.arange(classes))[0]
        raise DataError(f"{origin}: train_labels reach {seen[-1]}, but no image has class {unseen}: number from 0")
    if classes < 2:
        raise DataError(f"{origin}: train_labels name {classes} class, expected at least 2")
    if test_labels.max() >= classes:
        raise DataError(f"{origin}: test_labels reach {test_labels.max()}, train_labels only {classes - 1}")

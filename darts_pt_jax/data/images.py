"""Labelled images in the host's memory, and the checks that arrays pass before they become such images."""

import dataclasses
import hashlib
from collections.abc import Sequence

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
      class_names: the name of each class; () if they are not known.
      border: the number of training images before those of a separate validation split; 0: there is no such split.
      fit: how an image of another size becomes one of this data set, a key of `pictures.FITS`.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    pad: int
    flip: bool
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    border: int = 0
    fit: str = "resized"

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


VALIDATION = ("val_images", "val_labels")
"""The arrays of a validation split, which a data set may have."""


def before_border(examples: int, border: int, count: int) -> int:
    """How many of `examples` training images come from before the border, of `border` there and `count` in all."""
    return round(examples * border / count)


def from_arrays(
    origin: str, arrays: dict[str, np.ndarray], notes: tuple[str, ...] = (), class_names: Sequence[str] = ()
) -> Images:
    """Checks arrays and makes them a data set.

    By default its images are padded by an eighth of the shorter side, as is usual (CIFAR: 4), and flipped. Validation
    images follow the training images, from `Images.border` on.

    Args:
      origin: where the arrays come from; error messages begin with it.
      arrays: `ARRAYS`, and `VALIDATION` if there are such, by name: images uint8 [N, H, W, C], labels integers [N] from 0.
      notes, class_names: see `Images`.

    Raises:
      DataError: an array is not as described, or there is another number of classes than of names.
    """
    given = [arrays.get(name) for name in VALIDATION]
    if sum(array is not None for array in given) == 1:
        raise DataError(f"{origin}: of val_images and val_labels it has one, expected both or none")
    splits = ("train", "test") if given[0] is None else ("train", "val", "test")
    images, labels = ({split: arrays[f"{split}_{what}"] for split in splits} for what in ("images", "labels"))
    shape = images["train"].shape[1:]
    for split in splits:
        _check_split(origin, split, images[split], labels[split])
        if images[split].shape[1:] != shape:
            raise DataError(f"{origin}: train_images are {shape} but {split}_images are {images[split].shape[1:]}")
    _check_classes(origin, labels)
    border = 0
    if "val" in splits:
        border = len(images["train"])
        for part in (images, labels):
            part["train"] = np.concatenate([part["train"], part["val"]])
        share = border / len(images["train"])
        notes += (
            f"{origin}: its {len(images['val']):,} validation images are the last training images: with "
            f"data.train_fraction={share:.6g} they are the half that scores",
        )
    train_labels, test_labels = (labels[split].astype(np.int32) for split in ("train", "test"))
    pad, classes = round(min(shape[:2]) / 8), int(train_labels.max()) + 1
    if class_names and len(class_names) != classes:
        raise DataError(f"{origin}: {len(class_names)} class names for {classes} classes, expected one for each")
    named = tuple(class_names)
    return Images(images["train"], train_labels, images["test"], test_labels, pad, True, notes, named, border)


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


def _check_classes(origin: str, labels: dict[str, np.ndarray]) -> None:
    seen = np.unique(labels["train"])
    classes = len(seen)
    if seen[-1] != classes - 1:
        unseen = np.flatnonzero(seen != np.arange(classes))[0]
        raise DataError(f"{origin}: train_labels reach {seen[-1]}, but no image has class {unseen}: number from 0")
    if classes < 2:
        raise DataError(f"{origin}: train_labels name {classes} class, expected at least 2")
    for split, those in labels.items():
        if those.max() >= classes:
            raise DataError(f"{origin}: {split}_labels reach {those.max()}, train_labels only {classes - 1}")

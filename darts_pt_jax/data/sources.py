"""Sources of labelled images, read once into the host's memory as uint8."""

import dataclasses
import difflib
import hashlib
import pathlib
from collections.abc import Iterable

import jax
import numpy as np

from darts_pt_jax import npz as npz_file


class DataError(ValueError):
    """A data set cannot be used; the message is one line that says why."""


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
      train_images, test_images: uint8 [N, H, W, C].
      train_labels, test_labels: int32 [N], classes 0 to `classes` - 1.
      pad: zero padding in pixels before the random crop, the data set's default.
      flip: whether the data set is usually flipped horizontally.
      notes: what a user should know of how the images were read, a line each.
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
        return self.train_images.shape[1:]

    def fingerprint(self) -> str:
        """SHA-256 over shapes, pixels and labels."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 x 1; pixels 0 to 16 are scaled to 0 to 255.

    The split is ours: a fixed permutation, of which the first 1,437 images are for training and 360 for testing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    images = np.round(bunch.images[order, :, :, None] * (255 / 16)).astype(np.uint8)
    labels = bunch.target[order].astype(np.int32)
    return Images(images[:1437], labels[:1437], images[1437:], labels[1437:], pad=1, flip=False)


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
"""The arrays of an npz file, in the order of `Images`."""


def npz(path: str) -> Images:
    """A user's file with train_images, train_labels, test_images, test_labels (images uint8 [n, H, W, C]).

    Raises:
      DataError: the file or an array in it is not as described.
    """
    if not path:
        raise DataError("data.path is empty: give the npz file that data.source='npz' reads")
    if not pathlib.Path(path).is_file():
        raise DataError(f"data.path {path}: no such file: python -m experiments.prepare makes one of a known data set")
    try:
        return from_arrays(path, npz_file.read(path, ARRAYS))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def from_arrays(origin: str, arrays: dict[str, np.ndarray], notes: tuple[str, ...] = ()) -> Images:
    """Checked arrays as a data set: padded by an eighth of the shorter side, as is usual (CIFAR: 4), and flipped.

    Args:
      origin: where the arrays are from, with which an error begins.
      arrays: `ARRAYS` by name: images uint8 [n, H, W, C], labels integers [n] from 0.
      notes: of the `Images`.

    Raises:
      DataError: an array is not as described.
    """
    for split in ("train", "test"):
        _check_split(origin, split, arrays[f"{split}_images"], arrays[f"{split}_labels"])
    train, train_labels, test, test_labels = (arrays[name] for name in ARRAYS)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{origin}: train_images are {train.shape[1:]} but test_images are {test.shape[1:]}")
    seen = np.unique(train_labels)
    classes = len(seen)
    if seen[-1] != classes - 1:
        unseen = np.flatnonzero(seen != np.arange(classes))[0]
        raise DataError(f"{origin}: train_labels reach {seen[-1]}, but no image has class {unseen}: number from 0")
    if classes < 2:
        raise DataError(f"{origin}: train_labels name {classes} class, expected at least 2")
    if test_labels.max() >= classes:
        raise DataError(f"{origin}: test_labels reach {test_labels.max()}, train_labels only {classes - 1}")
    pad = round(min(train.shape[1:3]) / 8)
    return Images(train, train_labels.astype(np.int32), test, test_labels.astype(np.int32), pad, True, notes)


def _check_split(origin: str, split: str, images: np.ndarray, labels: np.ndarray):
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


SOURCES = {"digits": lambda path: digits(), "npz": npz}
"""Sources by name; a value takes `data.path` and returns `Images`. Every other name is tensorflow-datasets'."""


def load(
    source: str, path: str = "", size: int = 0, examples: int = 0, directory: str = "", download: bool = False
) -> Images:
    """Reads a data set.

    Args:
      source: a key of `SOURCES`, or a name of tensorflow-datasets (see `from_tfds.read`).
      path: the file, for sources that need one.
      size: height and width of the images (0: as they are). Whole multiples are averaged, others resized linearly;
        the default padding shrinks or grows with the size.
      examples: keeps the first so many training images (0: all).
      directory: where tensorflow-datasets keeps its data ("": its default).
      download: whether it may download and prepare what is not there.

    Raises:
      DataError: the data cannot be used.
    """
    images = SOURCES[source](path) if source in SOURCES else _tfds(source, directory, download)
    if examples > len(images.train_images):
        raise DataError(f"data.examples is {examples}, but {source} has {len(images.train_images)} training images")
    if examples:
        classes = images.classes
        images = dataclasses.replace(
            images, train_images=images.train_images[:examples], train_labels=images.train_labels[:examples]
        )
        if images.classes != classes:
            raise DataError(f"data.examples is {examples}, but these lack the last of {classes} classes: raise it")
    return resized(images, size) if size else images


def resized(images: Images, size: int) -> Images:
    """Images of `size` x `size` pixels: whole multiples are averaged, others resized linearly; padding goes along."""
    old = images.image_shape[:2]
    if old == (size, size):
        return images
    return dataclasses.replace(
        images,
        train_images=_resize(images.train_images, size),
        test_images=_resize(images.test_images, size),
        pad=round(images.pad * size / min(old)),
    )


def _tfds(source: str, directory: str, download: bool) -> Images:
    from darts_pt_jax.data import from_tfds

    try:
        return from_tfds.read(source, directory, download)
    except from_tfds.Unknown:
        names = from_tfds.names()
        expected = f"{', '.join(SOURCES)}, or a tensorflow-datasets name"
        if not names:
            expected += ", which needs pip install -e '.[tfds]'"
        raise DataError(f"data.source is {source!r}, expected {expected}{guess(source, [*SOURCES, *names])}") from None
    except from_tfds.NotPrepared as error:
        raise DataError(
            f"{error}: give --config.data.download=True (needs pip install -e '.[prepare]'), "
            f"or make an npz with python -m experiments.prepare {source}"
        ) from None


def guess(word: str, words: Iterable[str]) -> str:
    """The end of an error that asks whether the word most like this one was meant; empty if none is."""
    near = difflib.get_close_matches(word, words, 1)
    return f": did you mean {near[0]}?" if near else ""


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    n, height, width, channels = images.shape
    if height % size == 0 and width % size == 0:
        blocks = (n, size, height // size, size, width // size, channels)
        means = [b.reshape(-1, *blocks[1:]).mean((2, 4)) for b in np.array_split(images, max(1, n // 1000))]
    else:
        resize = jax.jit(lambda x: jax.image.resize(x.astype(np.float32), (len(x), size, size, channels), "linear"))
        means = [np.asarray(resize(b)) for b in np.array_split(images, max(1, n // 1000))]
    return np.concatenate([np.clip(np.round(m), 0, 255).astype(np.uint8) for m in means])

"""Sources of labelled images by name: into the host's memory, or streamed.

A new source is a function and a row in `SOURCES`.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from darts_pt_jax import npz as npz_file
from darts_pt_jax.data import folders, from_tfds, official, pictures, streams
from darts_pt_jax.data.images import ARRAYS, VALIDATION, DataError, Images, before_border, from_arrays
from darts_pt_jax.data.streams import Stream
from darts_pt_jax.naming import guess, install


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a source looks for its data: the keys of a config's section `data`.

    Attributes:
      source: the source's name.
      path: a file or folder, for sources that take one.
      directory: where tensorflow-datasets keeps its data ("": its default).
      download: whether the source may download what is not there.
      size: height and width to which images are resized; 0: as they are. A source whose images have one size leaves it
        to `load`.
      examples: how many training images `load` keeps; 0: all. A source may read more.
    """

    source: str
    path: str = ""
    directory: str = ""
    download: bool = False
    size: int = 0
    examples: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """How to get a data set; other modules know nothing else about a source.

    Attributes:
      read: reads the whole data set into memory; None: it can only be streamed.
      stream: opens a stream of S x S images, given the place and S; None: it can only be kept in memory.
      takes_path: whether it reads `Place.path`, which others refuse.
      downloads: whether it can download its data.
    """

    read: Callable[[Place], Images] | None = None
    stream: Callable[[Place, int], Stream] | None = None
    takes_path: bool = False
    downloads: bool = False


def digits() -> Images:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 x 1; pixels 0 to 16 are scaled to 0 to 255.

    The split is ours: after a fixed permutation, the first 1,437 images are for training and the other 360 for testing.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    images = np.round(bunch.images[order, :, :, None] * (255 / 16)).astype(np.uint8)
    labels = bunch.target[order].astype(np.int32)
    return Images(images[:1437], labels[:1437], images[1437:], labels[1437:], pad=1, flip=False)


def npz(path: str) -> Images:
    """A user's file with train_images, train_labels, test_images, test_labels (images uint8 [N, H, W, C]).

    Grey images may lack the axis C, and labels may be [N, 1], as in MedMNIST's files. The file may have val_images and
    val_labels, which then follow the training images (`Images.border`), and class_names, strings [classes].

    Raises:
      DataError: the file or an array in it is not as described.
    """
    if not path:
        raise DataError("data.path is empty: give the npz file that data.source='npz' reads")
    if not pathlib.Path(path).is_file():
        name = pathlib.Path(path).stem
        makes = f"{name} makes it"
        if name not in official.RELEASES:
            makes = f"NAME makes one ({', '.join(official.RELEASES)})"
        raise DataError(f"data.path {path}: no such file: python -m experiments.prepare {makes}")
    try:
        arrays = npz_file.read(path, ARRAYS, (*VALIDATION, "class_names"))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    names = arrays.pop("class_names", np.array([], str))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{path}: class_names is {names.dtype} {names.shape}, expected strings of shape [classes]")
    return from_arrays(path, {name: _usual(name, array) for name, array in arrays.items()}, (), names.tolist())


def _usual(name: str, array: np.ndarray) -> np.ndarray:
    """Images with an axis of channels, labels without a last axis of one."""
    if name.endswith("images"):
        return array[..., None] if array.ndim == 3 else array
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def tfds_images(place: Place) -> Images:
    """A data set of tensorflow-datasets in memory (see `from_tfds.read`).

    Raises:
      DataError: the data cannot be used; the message says how to get what is missing.
    """
    name = place.source
    try:
        return from_tfds.read(name, place.directory, place.download)
    except from_tfds.Unknown:
        names, in_memory = from_tfds.names(), [key for key, source in SOURCES.items() if source.read]
        expected = f"{', '.join(in_memory)}, or a tensorflow-datasets name"
        if not names:
            expected += f", which needs {install('tfds')}"
        raise DataError(f"data.source is {name!r}, expected {expected}{guess(name, [*in_memory, *names])}") from None
    except from_tfds.NotPrepared as error:
        raise DataError(
            f"{error}: give --config.data.download=True (needs {install('prepare')}), "
            f"or make an npz with python -m experiments.prepare {name}"
        ) from None


def tfds_stream(name: str, directory: str, side: int, threads: int = 0) -> Stream:
    """A stream of a data set that tensorflow-datasets has prepared as array_record.

    Args:
      name: as in tensorflow-datasets: "imagenet2012", "imagenette/full-size-v2". It needs the splits train and
        validation, or else test.
      directory: where the data are kept ("": the default, ~/tensorflow_datasets).
      side: of the images in pixels.
      threads: see `Stream`.

    Raises:
      DataError: the data are missing, have no random access or cannot be used, or a package is not installed.
    """
    streams.check(side)
    try:
        train, test, classes = from_tfds.splits(name, directory)
    except from_tfds.Unknown as error:
        raise DataError(f"{error}{guess(name, from_tfds.names())}") from None
    except from_tfds.NotPrepared as error:
        where = f" --data_dir={directory}" if directory else ""
        raise DataError(
            f"{error}: tfds build {name} --file_format=array_record{where} (needs {install('prepare')})"
        ) from None
    return Stream(train, test, classes, side, threads=threads)


SOURCES = {
    "digits": Source(read=lambda place: digits()),
    "npz": Source(read=lambda place: npz(place.path), takes_path=True),
    "folder": Source(
        read=lambda place: folders.read(place.path, place.size, place.examples),
        stream=lambda place, side: folders.folder(place.path, side),
        takes_path=True,
    ),
}
"""Sources by name; `find` takes every other name to be tensorflow-datasets'."""

TENSORFLOW_DATASETS = Source(
    read=tfds_images, stream=lambda place, side: tfds_stream(place.source, place.directory, side), downloads=True
)


def find(name: str) -> Source:
    """The source of this name: one of `SOURCES`, else `TENSORFLOW_DATASETS`."""
    return SOURCES.get(name, TENSORFLOW_DATASETS)


def load_images(
    source: str,
    path: str = "",
    size: int = 0,
    examples: int = 0,
    directory: str = "",
    download: bool = False,
    crop: int = 0,
) -> Images | Stream:
    """The images that a config's section `data` names: a stream if `crop` is set, else in memory.

    Args:
      source, path, size, examples, directory, download: see `load`; a stream ignores `size` and `examples`.
      crop: height and width of the images of a stream; 0: no stream.

    Raises:
      DataError: the data cannot be used, or not in this way.
    """
    if not crop:
        return load(source, path, size, examples, directory, download)
    if not (stream := find(source).stream):
        raise DataError(f"data.source {source!r} cannot be streamed: set data.crop to 0")
    return stream(Place(source, path, directory, download), crop)


def load(
    source: str, path: str = "", size: int = 0, examples: int = 0, directory: str = "", download: bool = False
) -> Images:
    """Reads a data set into memory.

    Args:
      source: a key of `SOURCES`, or a name of tensorflow-datasets (see `from_tfds.read`).
      path: the file, for sources that take one.
      size: height and width of the images (0: as they are), see `resized`.
      examples: keeps only this many training images, the first (0: all); those of a validation split in proportion.
      directory: where tensorflow-datasets keeps its data ("": its default).
      download: whether it may download and prepare what is not there.

    Raises:
      DataError: the data cannot be used.
    """
    if not (read := find(source).read):
        raise DataError(f"data.source {source!r} cannot be kept in memory: set data.crop to the size of the images")
    images = read(Place(source, path, directory, download, size, examples))
    images = _first(images, examples, source) if examples else images
    return resized(images, size) if size else images


def _first(images: Images, examples: int, source: str) -> Images:
    """The data set with only the first training images."""
    count, border = len(images.train_images), images.border
    if examples > count:
        raise DataError(f"data.examples is {examples}, but {source} has {count} training images")
    kept = np.arange(examples)
    if border:
        before = before_border(examples, border, count)
        kept = np.concatenate([np.arange(before), border + np.arange(examples - before)])
        border = before
    fewer = dataclasses.replace(
        images, train_images=images.train_images[kept], train_labels=images.train_labels[kept], border=border
    )
    if fewer.classes != images.classes:
        raise DataError(f"data.examples is {examples}, but these lack the last of {images.classes} classes: raise it")
    return fewer


def resized(images: Images, size: int) -> Images:
    """Resizes a data set to `size` x `size` pixels by `pictures.resized`; the default padding scales with it."""
    height, width, _ = images.image_shape
    return dataclasses.replace(
        images,
        train_images=pictures.resized(images.train_images, size, size),
        test_images=pictures.resized(images.test_images, size, size),
        pad=round(images.pad * size / min(height, width)),
    )

"""Images from tensorflow-datasets; only this module imports it. Data prepared as ArrayRecord need no TensorFlow."""

import contextlib
import importlib.util
import io
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging

from darts_pt_jax.data.images import DataError, Images, from_arrays
from darts_pt_jax.naming import install


class Unavailable(DataError):
    """tensorflow-datasets cannot give the data: a package or the data are missing."""


class Unknown(Unavailable):
    """No installed tensorflow-datasets knows a data set of this name."""


class NotPrepared(Unavailable):
    """The data set is not in the directory; the caller adds to the message what to do."""


def installed() -> bool:
    """Whether tensorflow-datasets is installed."""
    return _installed("tensorflow_datasets")


def names() -> list[str]:
    """The registered data sets; [] where tensorflow-datasets is not installed."""
    if not installed():
        return []
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)  # looking up the community's needs the network


def read(name: str, directory: str = "", download: bool = False) -> Images:
    """Reads the features image and label of the splits train and test.

    tensorflow-datasets shuffles the examples that it writes. Sorting by the feature `id` restores the publisher's order
    (train_9 before train_10). Without that feature the images stay in the order of the files, and `Images.notes` says so.

    Args:
      name: as in tensorflow-datasets: "cifar10", "cifar10:3.0.2", "cifar10_corrupted/fog_1".
      directory: where the data are kept ("": the default, ~/tensorflow_datasets).
      download: whether to download and prepare missing data, which takes minutes; else nothing uses the network.

    Raises:
      Unavailable: tensorflow-datasets, TensorFlow or the data are missing.
      DataError: the data cannot be used or prepared.
    """
    with _opened(name, directory, download) as builder:
        _check(name, builder, "test")
        ordered = "id" in builder.info.features
        arrays = {}
        for split in ("train", "test"):
            examples = list(_examples(name, builder, split))
            if ordered:
                examples.sort(key=lambda example: _natural(example["id"]))
            if len(shapes := sorted({np.shape(example["image"]) for example in examples})) > 1:
                raise DataError(
                    f"data set {name}: {split} has images of shapes {shapes[0]} to {shapes[-1]}, expected one"
                )
            arrays[f"{split}_images"] = np.array([example["image"] for example in examples])
            arrays[f"{split}_labels"] = np.array([example["label"] for example in examples])
        note = f"data set {name} has no feature id: the images are in tensorflow-datasets' order, not the publisher's"
        return from_arrays(f"data set {name}", arrays, () if ordered else (note,))


def splits(name: str, directory: str = "") -> tuple["TfdsSplit", "TfdsSplit", int]:
    """The encoded images of a prepared data set, read by number when they are needed; this needs no TensorFlow.

    Args:
      name: as for `read`.
      directory: as for `read`.

    Returns:
      The training images, those for testing (the split validation, or test where there is none), and the number of
      classes.

    Raises:
      Unavailable: tensorflow-datasets or the data are missing, or are in files without random access.
      DataError: the data cannot be used.
    """
    with _opened(name, directory) as builder:
        held_out = "validation" if "validation" in builder.info.splits else "test"
        _check(name, builder, held_out)
        if not _random_access(builder):
            raise Unavailable(
                f"data set {name} is prepared in {builder.data_dir} as {builder.info.file_format.value}, expected "
                "array_record, which has random access: tfds convert_format "
                f"--dataset_version_dir={builder.data_dir} --out_file_format=array_record "
                f"(needs {install('prepare')})"
            )
        label = builder.info.features["label"]
        if not (classes := getattr(label, "num_classes", None)):
            raise DataError(
                f"data set {name} has a {type(label).__name__} for the feature label, expected a ClassLabel"
            )
        return TfdsSplit(name, builder, "train"), TfdsSplit(name, builder, held_out), classes


class TfdsSplit:
    """A split: (encoded image, label) by number, in the order of the files."""

    def __init__(self, name: str, builder: Any, split: str):
        import tensorflow_datasets as tfds

        self._name = f"data set {name}, split {split}"
        self._info = builder.info.full_name, builder.info.splits[split]
        self._source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> tuple[bytes, int]:
        example = self._source[number]
        return example["image"], int(example["label"])

    def name(self, number: int) -> str:
        """What error messages call the picture."""
        return f"{self._name}, record {number}"

    def identity(self) -> Iterator[str]:
        """Name and version of the data set, the split, and the number of examples and bytes in its files."""
        full_name, split = self._info
        yield f"{full_name} {split.name} {split.shard_lengths} {split.num_bytes}"


@contextlib.contextmanager
def _opened(name: str, directory: str, download: bool = False) -> Iterator[Any]:
    """Gives the data set's builder to its context, and turns every error that arises there into a `DataError`."""
    if not installed():
        raise Unknown(f"{name!r} is read by tensorflow-datasets: {install('tfds')}")
    import tensorflow_datasets as tfds

    root = pathlib.Path(directory or tfds.core.constants.DATA_DIR).expanduser()
    base = re.split("[/:]", name)[0]
    if base not in names() and not (base.isidentifier() and (root / base).is_dir()):
        raise Unknown(f"tensorflow-datasets has no data set {name!r}")
    with _quiet():
        try:
            if download and not _prepared(name, root):
                _prepare(name, root)
            if not (builder := _prepared(name, root)):
                raise NotPrepared(f"data set {name} is not prepared in {root}")
            yield builder
        except DataError:
            raise
        except Exception as error:  # tensorflow-datasets lets through whatever files, codecs and downloads raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(f"tensorflow-datasets cannot read {name} in {root} ({reason})") from error


def _prepared(name: str, root: pathlib.Path) -> Any:
    """The builder of the newest version in the directory; None if there is none."""
    import tensorflow_datasets as tfds

    try:
        # Not tfds.builder, which wants the version of the installed code and may look it up on the network.
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=str(root))
    except tfds.core.DatasetNotFoundError:
        return None


def _prepare(name: str, root: pathlib.Path) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(root), file_format="array_record")
    if builder.__module__.startswith("tensorflow_datasets.") and not _installed("tensorflow"):
        raise Unavailable(f"preparing data set {name} needs TensorFlow: {install('prepare')}")
    _keep_tensorflow_off_the_accelerator()
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def _check(name: str, builder: Any, held_out: str) -> None:
    needed = ("split", {"train", held_out}, builder.info.splits), ("feature", {"image", "label"}, builder.info.features)
    for what, expected, found in needed:
        if missing := sorted(expected - set(found)):
            raise DataError(
                f"data set {name} lacks the {what} {' and '.join(missing)}; it has {', '.join(found) or 'none'}"
            )


def _random_access(builder: Any) -> bool:
    import tensorflow_datasets as tfds

    return bool(builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access())


def _examples(name: str, builder: Any, split: str) -> Iterable[dict]:
    import tensorflow_datasets as tfds

    if _random_access(builder):
        return builder.as_data_source(split)
    if not _installed("tensorflow"):
        raise Unavailable(
            f"data set {name} is prepared in {builder.data_dir} as {builder.info.file_format.value}, which is read by "
            f"TensorFlow: {install('prepare')}, or name another directory to prepare it in as array_record"
        )
    _keep_tensorflow_off_the_accelerator()
    return tfds.as_numpy(builder.as_dataset(split=split))


def _keep_tensorflow_off_the_accelerator() -> None:
    """Hides the GPU from TensorFlow, which would else take all of its memory."""
    if _installed("tensorflow"):
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")


def _natural(name: bytes | str) -> list[int | str]:
    """A key that sorts train_9 before train_10."""
    words = re.split(r"(\d+)", name.decode() if isinstance(name, bytes) else str(name))
    return [int(word) if i % 2 else word for i, word in enumerate(words)]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences tensorflow-datasets' banners, progress bars and advice."""
    import tensorflow_datasets as tfds

    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)

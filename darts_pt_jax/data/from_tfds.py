"""Images from tensorflow-datasets: the one module that knows it. What is prepared as ArrayRecord needs no TensorFlow."""

import contextlib
import importlib.util
import io
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from darts_pt_jax.data import sources
from darts_pt_jax.data.sources import DataError, Images


class Unavailable(DataError):
    """The data cannot be had from tensorflow-datasets as things are."""


class Unknown(Unavailable):
    """No data set has this name, as far as an installed tensorflow-datasets knows."""


class NotPrepared(Unavailable):
    """The data set is not in the directory; the message leaves it to the caller to say what to do."""


def installed() -> bool:
    """Whether tensorflow-datasets is there."""
    return _installed("tensorflow_datasets")


def names() -> list[str]:
    """The registered data sets; none where tensorflow-datasets is not installed."""
    if not installed():
        return []
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)  # the community's are looked up on the network


def read(name: str, directory: str = "", download: bool = False) -> Images:
    """The splits train and test of a data set, from its features image and label.

    tensorflow-datasets shuffles what it writes. The feature `id` gives the publisher's order back, train_9 before
    train_10; without one the images stay in the order of the files, and `Images.notes` says so.

    Args:
      name: as tensorflow-datasets has it: "cifar10", "cifar10:3.0.2", "cifar10_corrupted/fog_1".
      directory: where the data are kept ("": the default, ~/tensorflow_datasets).
      download: whether to download and prepare what is not there, which takes minutes; else no network is touched.

    Raises:
      Unavailable: tensorflow-datasets, TensorFlow or the data are missing.
      DataError: the data cannot be used, or not be prepared.
    """
    return _use(name, directory, download, _images)


def records(name: str, directory: str = "") -> tuple["Records", "Records", int]:
    """The encoded images of a prepared data set, read at random and as they are needed; this takes no TensorFlow.

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
    return _use(name, directory, False, _records)


class Records(Sequence):
    """A split: (encoded image, label) by number, in the order of the files."""

    def __init__(self, name, builder, split):
        import tensorflow_datasets as tfds

        self._name = f"data set {name}, split {split}"
        self._info = builder.info.full_name, builder.info.splits[split]
        self._source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})

    def __len__(self):
        return len(self._source)

    def __getitem__(self, number: int) -> tuple[bytes, int]:
        example = self._source[number]
        return example["image"], int(example["label"])

    def name(self, number: int) -> str:
        """What an error calls a record."""
        return f"{self._name}, record {number}"

    def identity(self) -> Iterator[str]:
        """What tells the data from others: name and version, split, and the examples and bytes of its files."""
        full_name, split = self._info
        yield f"{full_name} {split.name} {split.shard_lengths} {split.num_bytes}"


def _use(name, directory, download, function):
    """What the function makes of the name and the data set's builder, every error a `DataError`."""
    if not installed():
        raise Unknown(f"{name!r} is read by tensorflow-datasets: pip install -e '.[tfds]'")
    import tensorflow_datasets as tfds

    root = pathlib.Path(directory or tfds.core.constants.DATA_DIR).expanduser()
    base = re.split("[/:]", name)[0]
    if base not in names() and not (base.isidentifier() and (root / base).is_dir()):
        raise Unknown(f"tensorflow-datasets has no data set {name!r}")
    with _quiet():
        try:
            builder = _prepared(name, root)
            if not builder and download:
                _prepare(name, root)
                builder = _prepared(name, root)
            if not builder:
                raise NotPrepared(f"data set {name} is not prepared in {root}")
            return function(name, builder)
        except DataError:
            raise
        except Exception as error:  # tensorflow-datasets passes on whatever files, codecs and downloads raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise DataError(f"tensorflow-datasets cannot read {name} in {root} ({reason})") from error


def _prepared(name, root):
    """A builder of what lies in the directory, the newest version; None if there is none."""
    import tensorflow_datasets as tfds

    try:
        # Not tfds.builder: that takes the version of the installed code, and may ask the network about it.
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=str(root))
    except tfds.core.DatasetNotFoundError:
        return None


def _prepare(name, root):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(root), file_format="array_record")
    if builder.__module__.startswith("tensorflow_datasets.") and not _installed("tensorflow"):
        raise Unavailable(f"preparing data set {name} needs TensorFlow: pip install -e '.[prepare]'")
    _keep_tensorflow_off_the_accelerator()
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def _records(name, builder):
    import tensorflow_datasets as tfds

    held_out = "validation" if "validation" in builder.info.splits else "test"
    _check(name, builder, held_out)
    if not builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        raise Unavailable(
            f"data set {name} is prepared in {builder.data_dir} as {builder.info.file_format.value}, expected array_record, "
            f"which has random access: tfds convert_format --dataset_version_dir={builder.data_dir} "
            "--out_file_format=array_record (needs pip install -e '.[prepare]')"
        )
    label = builder.info.features["label"]
    if not (classes := getattr(label, "num_classes", None)):
        raise DataError(f"data set {name} has a {type(label).__name__} for the feature label, expected a ClassLabel")
    return Records(name, builder, "train"), Records(name, builder, held_out), classes


def _images(name, builder):
    _check(name, builder, "test")
    ordered = "id" in builder.info.features
    arrays = {}
    for split in ("train", "test"):
        examples = list(_examples(name, builder, split))
        if ordered:
            examples.sort(key=lambda example: _natural(example["id"]))
        if len(shapes := sorted({np.shape(example["image"]) for example in examples})) > 1:
            raise DataError(f"data set {name}: {split} has images of shapes {shapes[0]} to {shapes[-1]}, expected one")
        arrays[f"{split}_images"] = np.array([example["image"] for example in examples])
        arrays[f"{split}_labels"] = np.array([example["label"] for example in examples])
    note = f"data set {name} has no feature id: the images are in tensorflow-datasets' order, not the publisher's"
    return sources.from_arrays(f"data set {name}", arrays, () if ordered else (note,))


def _check(name, builder, held_out):
    if missing := {"train", held_out} - set(builder.info.splits):
        splits = ", ".join(builder.info.splits) or "none"
        raise DataError(f"data set {name} lacks the split {' and '.join(sorted(missing))}; it has {splits}")
    if missing := {"image", "label"} - set(builder.info.features):
        features = ", ".join(builder.info.features)
        raise DataError(f"data set {name} lacks the feature {' and '.join(sorted(missing))}; it has {features}")


def _examples(name, builder, split):
    import tensorflow_datasets as tfds

    if builder.info.available_file_formats() & tfds.core.FileFormat.with_random_access():
        return builder.as_data_source(split)
    if not _installed("tensorflow"):
        raise Unavailable(
            f"data set {name} is prepared in {builder.data_dir} as {builder.info.file_format.value}, which is read by "
            "TensorFlow: pip install -e '.[prepare]', or name another directory to prepare it in as array_record"
        )
    _keep_tensorflow_off_the_accelerator()
    return tfds.as_numpy(builder.as_dataset(split=split))


def _keep_tensorflow_off_the_accelerator():
    """Else TensorFlow takes all of its memory."""
    if _installed("tensorflow"):
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")


def _natural(name):
    """A key that sorts train_9 before train_10."""
    words = re.split(r"(\d+)", name.decode() if isinstance(name, bytes) else str(name))
    return [int(word) if i % 2 else word for i, word in enumerate(words)]


def _installed(package):
    return importlib.util.find_spec(package) is not None


@contextlib.contextmanager
def _quiet():
    """Without tensorflow-datasets' banners, bars and advice."""
    import tensorflow_datasets as tfds

    verbosity = logging.get_verbosity()
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)

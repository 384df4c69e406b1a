import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from darts_pt_jax.data import from_tfds, sources
from darts_pt_jax.data.images import DataError

LABELS = {"train": 25, "test": 12}


def pixels(split, n):
    return np.random.default_rng(n + 100 * (split == "test")).integers(0, 256, (8, 8, 3)).astype(np.uint8)


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """A registered data set that tensorflow-datasets can write without TensorFlow: the images are encoded by Pillow."""

    VERSION = tfds.core.Version("1.0.0")
    splits = LABELS
    extra = ("id",)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(num_classes=4),
        }
        features |= {name: tfds.features.Text() for name in self.extra}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split):
        for n in range(LABELS[split]):
            example = {"image": Image.fromarray(pixels(split, n)), "label": n % 4}
            yield n, example | {name: f"{split}_{n}" for name in self.extra}


class TinyUnnamed(TinyImages):
    extra = ()


class TinyUntested(TinyImages):
    splits = ("train",)


class TinyUneven(TinyImages):
    def _generate_examples(self, split):
        for n, example in super()._generate_examples(split):
            yield n, example | {"image": Image.fromarray(pixels(split, n)[: 8 - n % 2])}


class TinyUnlabelled(TinyImages):
    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3))})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, split):
        for n, example in super()._generate_examples(split):
            yield n, {"image": example["image"]}


def in_order(images):
    for split, count in LABELS.items():
        expected = np.array([pixels(split, n) for n in range(count)])
        if not np.array_equal(getattr(images, f"{split}_images"), expected):
            return False
        np.testing.assert_array_equal(getattr(images, f"{split}_labels"), np.arange(count) % 4)
    return True


def test_the_publishers_order_is_restored_by_id(tmp_path, capfd):
    images = sources.load("tiny_images", directory=str(tmp_path), download=True)
    assert in_order(images) and images.notes == ()
    assert (images.classes, images.pad, images.flip, images.train_images.dtype) == (4, 1, True, np.uint8)
    again = sources.load("tiny_images:1.0.0", directory=str(tmp_path), examples=20)
    np.testing.assert_array_equal(again.train_images, images.train_images[:20])
    assert capfd.readouterr() == ("", "")


def test_without_id_a_note_says_that_the_order_differs(tmp_path):
    images = sources.load("tiny_unnamed", directory=str(tmp_path), download=True, size=4)
    assert "no feature id" in images.notes[0]
    images = from_tfds.read("tiny_unnamed", str(tmp_path))
    assert not in_order(images)
    assert sorted(map(bytes, images.train_images)) == sorted(bytes(pixels("train", n)) for n in range(25))


def test_a_data_set_without_its_code_is_read_from_its_files(tmp_path, monkeypatch):
    sources.load("tiny_images", directory=str(tmp_path), download=True)
    monkeypatch.setattr(from_tfds, "names", lambda: [])
    assert in_order(sources.load("tiny_images", directory=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "tiny_untested": "lacks the split test; it has train",
        "tiny_uneven": r"train has images of shapes \(7, 8, 3\) to \(8, 8, 3\), expected one",
        "tiny_unlabelled": "lacks the feature label; it has image",
    }.items(),
)
def test_a_data_set_of_another_kind_is_one_clear_line(tmp_path, name, message):
    with pytest.raises(DataError, match=message) as error:
        sources.load(name, directory=str(tmp_path), download=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "digitz": "expected digits, npz, folder, or a tensorflow-datasets name: did you mean digits",
        "cifarr10": "did you mean cifar10",
        "": "data.source is '', expected",
        "cifar10": r"cifar10 is not prepared in .*data.download=True.*'\.\[prepare\]'.*experiments.prepare cifar10",
        "cifar10/": "tensorflow-datasets cannot read cifar10/ in",
    }.items(),
)
def test_what_is_not_there_is_one_clear_line(tmp_path, name, message):
    with pytest.raises(DataError, match=message) as error:
        sources.load(name, directory=str(tmp_path))
    assert "\n" not in str(error.value)


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    sources.load("tiny_images", directory=str(tmp_path), download=True)
    for info in tmp_path.glob("tiny_images/*/dataset_info.json"):
        info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    monkeypatch.setattr(from_tfds, "_installed", lambda package: package != "tensorflow")
    with pytest.raises(DataError, match=r"as tfrecord, which is read by TensorFlow: pip install"):
        sources.load("tiny_images", directory=str(tmp_path))
    with pytest.raises(DataError, match=r"preparing data set cifar10 needs TensorFlow: pip install"):
        sources.load("cifar10", directory=str(tmp_path), download=True)
    monkeypatch.setattr(from_tfds, "_installed", lambda package: False)
    with pytest.raises(DataError, match=r"or a tensorflow-datasets name, which needs pip install"):
        sources.load("cifar10")


def test_the_registered_cifar10_is_read_as_tfds_mocks_it(tmp_path):
    builder = tfds.builder("cifar10", data_dir=tmp_path, file_format="array_record")
    template = tfds.core.ShardedFileTemplate(builder.data_path, dataset_name="cifar10", filetype_suffix="array_record")
    splits = [tfds.core.SplitInfo(name=s, shard_lengths=[40], num_bytes=0, filename_template=template) for s in LABELS]
    builder.info.set_splits(tfds.core.SplitDict(splits))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)
    with tfds.testing.mock_data(num_examples=40, data_dir=tmp_path):
        images = sources.load("cifar10", directory=str(tmp_path))
    assert images.train_images.shape == (40, 32, 32, 3) and images.train_images.dtype == np.uint8
    assert (images.classes, images.pad, images.flip, images.notes) == (10, 4, True, ())
    assert len(images.test_labels) == 40

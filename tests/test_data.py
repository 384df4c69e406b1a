import dataclasses
import os
import zipfile

import jax
import numpy as np
import pytest

from darts_pt_jax.configs import quickstart
from darts_pt_jax.data import batches, sources
from darts_pt_jax.data.images import DataError, Images
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments.config.schema import frozen
from darts_pt_jax.experiments.config.settings import parse
from darts_pt_jax.experiments.engine.execute import load_images
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training import supernet as training
from tests import tiny


def test_digits_are_scikit_learns_images_in_a_fixed_split():
    digits = sources.digits()
    assert digits.train_images.shape == (1437, 8, 8, 1) and digits.test_images.shape == (360, 8, 8, 1)
    assert digits.classes == 10 and digits.train_images.dtype == np.uint8 and digits.train_images.max() == 255
    assert (digits.pad, digits.flip) == (1, False)
    assert np.bincount(digits.test_labels, minlength=10).min() >= 25
    assert digits.fingerprint() == sources.digits().fingerprint()
    pixels = {image.tobytes() for image in digits.train_images}
    assert sum(image.tobytes() in pixels for image in digits.test_images) == 0


def arrays(rng):
    images = rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(20) % 4
    return dict(train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8])


def test_npz_gives_back_the_users_arrays(tmp_path, rng):
    given = arrays(rng)
    np.savez(tmp_path / "a.npz", **given)
    images = sources.load("npz", str(tmp_path / "a.npz"), examples=12)
    np.testing.assert_array_equal(images.train_images, given["train_images"][:12])
    np.testing.assert_array_equal(images.test_labels, given["test_labels"])
    assert (images.classes, images.pad, images.flip) == (4, 1, True)


def medmnist(rng, train=20, val=5):
    """Arrays as MedMNIST's files hold them: grey images without channels, labels [N, 1], a validation split."""
    counts = {"train": train, "val": val, "test": 8}
    images = {f"{split}_images": rng.integers(0, 256, (n, 8, 8)).astype(np.uint8) for split, n in counts.items()}
    return images | {f"{split}_labels": np.arange(n).astype(np.uint8)[:, None] % 4 for split, n in counts.items()}


def test_the_layout_of_medmnist_is_read(tmp_path, rng):
    given = medmnist(rng)
    np.savez(tmp_path / "a.npz", class_names=np.array(["a", "b", "c", "d"]), **given)
    images = sources.load("npz", str(tmp_path / "a.npz"))
    pixels = np.concatenate([given["train_images"], given["val_images"]])
    np.testing.assert_array_equal(images.train_images[..., 0], pixels)
    np.testing.assert_array_equal(images.train_labels, np.concatenate([np.arange(20), np.arange(5)]) % 4)
    np.testing.assert_array_equal(images.test_labels, np.arange(8) % 4)
    assert (images.border, images.class_names, images.image_shape) == (20, ("a", "b", "c", "d"), (8, 8, 1))
    (note,) = images.notes
    assert "its 5 validation images are the last training images: with data.train_fraction=0.8 they" in note
    config = quickstart.get_config()
    config.data.train_fraction, config.search.batch_size, config.select.images, config.eval.images = 0.8, 5, 0, 0
    _, valid = training.split(frozen(config), images, Devices.here())
    np.testing.assert_array_equal(valid.images[..., 0], given["val_images"])


def test_fewer_examples_keep_the_share_of_the_validation_split(tmp_path, rng):
    np.savez(tmp_path / "a.npz", **medmnist(rng))
    whole, fewer = (sources.load("npz", str(tmp_path / "a.npz"), examples=n) for n in (0, 10))
    kept = [*range(8), 20, 21]
    np.testing.assert_array_equal(fewer.train_images, whole.train_images[kept])
    np.testing.assert_array_equal(fewer.train_labels, whole.train_labels[kept])
    assert fewer.border == 8


WRONG = {
    "lacks the arrays test_labels": lambda a: a.pop("test_labels"),
    r"expected \[n, height": lambda a: a.update(train_images=a["train_images"][0, 0]),
    "float64, expected uint8": lambda a: a.update(test_images=a["test_images"] / 255),
    "expected integers of shape": lambda a: a.update(train_labels=np.eye(4)[a["train_labels"]]),
    "train has 20 images but 19 labels": lambda a: a.update(train_labels=a["train_labels"][1:]),
    "go down to -1": lambda a: a.update(train_labels=a["train_labels"] - 1),
    "test_labels reach 3, train_labels only 1": lambda a: a.update(train_labels=a["train_labels"] % 2),
    "no image has class 0: number from 0": lambda a: a.update(train_labels=a["train_labels"] + 1),
    "looks like channels first": lambda a: a.update(train_images=a["train_images"].transpose(0, 3, 1, 2)),
    "name 1 class": lambda a: a.update(train_labels=a["train_labels"] * 0, test_labels=a["test_labels"] * 0),
    "is empty": lambda a: a.update(test_images=a["test_images"][:0], test_labels=a["test_labels"][:0]),
    r"are \(8, 8, 3\) but test_images are \(8, 7, 3\)": lambda a: a.update(test_images=a["test_images"][:, :, 1:]),
    r"array train_labels: it holds Python objects, expected numbers": lambda a: a.update(
        train_labels=a["train_labels"].astype(object)
    ),
    "of val_images and val_labels it has one": lambda a: a.update(val_labels=a["test_labels"]),
    r"\(8, 8, 3\) but val_images are \(8, 8, 1\)": lambda a: a.update(
        val_images=a["test_images"][..., :1], val_labels=a["test_labels"]
    ),
    "val_labels reach 4": lambda a: a.update(val_images=a["test_images"], val_labels=a["test_labels"] + 1),
    "2 class names for 4 classes": lambda a: a.update(class_names=np.array(["a", "b"])),
    "class_names is int64": lambda a: a.update(class_names=np.arange(4)),
    r"uint8 \(20, 2\), expected integers of shape": lambda a: a.update(train_labels=np.zeros((20, 2), np.uint8)),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_npz_is_one_clear_line(tmp_path, rng, message):
    content = arrays(rng)
    WRONG[message](content)
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=message) as error:
        sources.load("npz", str(tmp_path / "a.npz"))
    assert "\n" not in str(error.value) and "a.npz" in str(error.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("cifar100", "cifar100 makes it"), ("mine", r"NAME makes one \(cifar10, cifar100, svhn_cropped")],
)
def test_missing_data_name_what_makes_them(name, advice, tmp_path):
    with pytest.raises(DataError, match=f"{name}.npz: no such file: python -m experiments.prepare {advice}"):
        sources.load("npz", str(tmp_path / f"{name}.npz"))


def test_a_damaged_or_missing_file_is_one_clear_line(tmp_path, rng):
    np.savez(tmp_path / "a.npz", **arrays(rng))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "c.npy", np.zeros(3))
    np.savez_compressed(tmp_path / "d.npz", **arrays(rng))
    packed = bytearray((tmp_path / "d.npz").read_bytes())
    packed[200:900] = bytes(700)
    (tmp_path / "d.npz").write_bytes(packed)
    for path in ("a.npz", "b.npz", "c.npy", "d.npz"):
        with pytest.raises(DataError, match=r"not a readable npz|no such file"):
            sources.load("npz", str(tmp_path / path))
    with pytest.raises(DataError, match=r"data.path is empty"):
        sources.load("npz")
    with pytest.raises(DataError, match=r"data.examples is 2000, but digits has 1437"):
        sources.load("digits", examples=2000)
    np.savez(tmp_path / "e.npz", **arrays(rng))
    with pytest.raises(DataError, match=r"data.examples is 3, but these lack the last of 4 classes"):
        sources.load("npz", str(tmp_path / "e.npz"), examples=3)


def test_a_class_that_the_weights_never_see_is_refused(rng):
    digits = sources.digits()
    order = np.argsort(digits.train_labels, kind="stable")
    images = dataclasses.replace(digits, train_labels=digits.train_labels[order])
    config = frozen(quickstart.get_config())
    with pytest.raises(DataError, match="none of them has class 5: shuffle the file"):
        training.split(config, images, Devices.here())
    train, valid = training.split(config, digits, Devices.here())
    assert (train.size, valid.size) == (718, 719)


@pytest.mark.parametrize(
    ("fraction", "count", "first"), [(0.29, 100, 29), (0.57, 100, 57), (0.5, 101, 50), (0.3, 105, 31)]
)
def test_the_border_of_the_halves_is_the_nearest_image(fraction, count, first):
    config, pixels = quickstart.get_config(), np.zeros((count, 8, 8, 1), np.uint8)
    images = Images(pixels, np.arange(count) % 2, pixels, np.arange(count) % 2, pad=0, flip=False)
    config.data.train_fraction, config.search.batch_size, config.select.images, config.eval.images = fraction, 8, 0, 0
    train, valid = training.split(frozen(config), images, Devices.here())
    assert (train.size, valid.size) == (first, count - first)


def test_a_new_source_is_one_row(monkeypatch):
    mine = sources.Source(
        read=lambda place: dataclasses.replace(sources.digits(), notes=(place.path,)), takes_path=True
    )
    shown = sources.Source(stream=lambda place, side: (place.source, side))
    monkeypatch.setitem(sources.SOURCES, "mine", mine)
    monkeypatch.setitem(sources.SOURCES, "shown", shown)

    def config(*overrides):
        return parse(
            ["main", "--config=configs/quickstart.py", *(f"--config.data.{text}" for text in overrides)]
        ).config

    assert load_images(config("source=mine", "path=a.bin")).notes == ("a.bin",)
    with pytest.raises(ConfigError, match=r"data.source is 'digits': add --config.data.source=npz or folder or mine"):
        config("path=a.bin")
    with pytest.raises(ConfigError, match=r"data.source='mine' is kept in memory"):
        config("source=mine", "crop=8")
    with pytest.raises(ConfigError, match=r"data.source is 'shown', whose pictures may be of any size: set data.crop"):
        config("source=shown")
    assert sources.load_images("shown", crop=8) == ("shown", 8)
    with pytest.raises(DataError, match=r"data.source 'mine' cannot be streamed"):
        sources.load_images("mine", crop=8)
    with pytest.raises(DataError, match=r"data.source 'shown' cannot be kept in memory"):
        sources.load_images("shown")


def test_sizes_are_averaged_or_resized():
    digits = sources.digits()
    small = sources.load("digits", size=4)
    mean = digits.train_images.reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))
    np.testing.assert_array_equal(small.train_images, np.round(mean))
    other = sources.load("digits", size=11)
    assert other.train_images.shape == (1437, 11, 11, 1) and other.train_images.dtype == np.uint8
    assert abs(other.test_images.mean() - digits.test_images.mean()) < 8
    assert (small.pad, other.pad) == (0, 1)


def test_statistics_are_over_all_pixels(rng):
    images = rng.integers(0, 200, (50, 5, 4, 3)).astype(np.uint8)
    mean, std = batches.statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-4)


def test_an_epoch_is_a_pass_without_repetition(key):
    rows = batches.epoch_indices(key, 103, 10, 10)
    assert rows.shape == (10, 10) and len(set(rows.ravel().tolist())) == 100


def test_independent_batches_are_subsets_with_equal_chances(key):
    rows = np.asarray(batches.independent_indices(key, 12, 6000, 5))
    assert all(len(set(row)) == 5 for row in rows.tolist())
    counts = np.bincount(rows.ravel(), minlength=12)
    assert abs(counts - 2500).max() < 5 * np.sqrt(2500)
    whole = np.asarray(batches.independent_indices(key, 5, 3, 5))
    assert (np.sort(whole) == np.arange(5)).all()


def test_a_batch_without_key_is_the_normalised_images():
    data = tiny.dataset()
    images, labels = batches.batch(data, np.array([3, 5]), None)
    np.testing.assert_allclose(images, (np.asarray(data.images)[[3, 5]] / 255 - 0.5) / 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(labels, np.asarray(data.labels)[[3, 5]])


def test_augmented_images_are_windows_of_the_padded_image_mirrored_or_not(key):
    data = tiny.dataset(n=8, pad=2)
    images, _ = batches.batch(data, np.arange(8).repeat(40), key)
    pixels = np.round((np.asarray(images) * 0.5 + 0.5) * 255).astype(int)
    padded = np.pad(np.asarray(data.images), ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for n, image in zip(np.arange(8).repeat(40), pixels, strict=True):
        windows = {
            (y, x, f): padded[n, y : y + 8, x : x + 8][:, ::f] for y in range(5) for x in range(5) for f in (1, -1)
        }
        matches = [at for at, window in windows.items() if (window == image).all()]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 45
    again, _ = batches.batch(data, np.arange(8).repeat(40), key)
    np.testing.assert_array_equal(images, again)
    plain = data.replace(pad=0, flip=False)
    np.testing.assert_array_equal(
        batches.batch(plain, np.arange(8), key)[0], batches.batch(plain, np.arange(8), None)[0]
    )


@pytest.mark.skipif("DARTS_PT_CIFAR10" not in os.environ, reason="DARTS_PT_CIFAR10 names no npz of CIFAR-10")
def test_cifar10_has_the_known_statistics():
    images = sources.load("npz", os.environ["DARTS_PT_CIFAR10"])
    assert images.train_images.shape == (50000, 32, 32, 3) and len(images.test_labels) == 10000
    assert (images.classes, images.pad, images.flip) == (10, 4, True)
    mean, std = batches.statistics(images.train_images)
    np.testing.assert_allclose(mean, (0.49139968, 0.48215827, 0.44653124), atol=2e-4)
    np.testing.assert_allclose(std, (0.24703233, 0.24348505, 0.26158768), atol=2e-4)
    assert jax.numpy.asarray(images.train_images[:2]).dtype == np.uint8


def test_an_array_larger_than_the_memory_is_refused_before_it_is_read(tmp_path, rng):
    np.savez(tmp_path / "a.npz", **arrays(rng))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.filelist[0].file_size = 2**50
        archive._didModify = True  # makes closing write the directory again
    with pytest.raises(DataError, match=r"a.npz: its arrays need 1,125,[0-9,]+ bytes, this machine has"):
        sources.load("npz", str(tmp_path / "a.npz"))

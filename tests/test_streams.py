import colorsys
import io
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageEnhance

from darts_pt_jax.data import batches, from_tfds, pictures, sources
from darts_pt_jax.data.folders import folder
from darts_pt_jax.data.images import DataError

SIDE = 28
SIZES = [(50, 37), (37, 50), (64, 64), (33, 90), (28, 28), (20, 24), (91, 30)]


def picture(n: int) -> Image.Image:
    """A smooth picture, different for each n."""
    small = np.random.default_rng(n).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(SIZES[n % len(SIZES)], Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """40 training and 11 test pictures of three classes."""
    path = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 40), ("val", 11)):
        for n in range(count):
            file = (
                path / split / ("bird", "Cat", "dog")[n % 3] / f"{n:02}.{('jpg', 'PNG', 'JPEG', 'bmp', 'webp')[n % 5]}"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(n + 100 * (split == "val")).save(file)
    (path / "train" / "dog" / "notes.txt").write_text("no picture")
    (path / "val" / ".hidden").mkdir()
    return path


def equal(some, others):
    some, others = list(some), list(others)
    assert len(some) == len(others) > 0
    for (images, labels), (other_images, other_labels) in zip(some, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_a_folder_is_a_data_set(root):
    stream = folder(str(root), SIDE)
    assert (len(stream.train), len(stream.test), stream.classes) == (40, 11, 3)
    assert stream.image_shape == (SIDE, SIDE, 3) and stream.flip and stream.class_names == ("Cat", "bird", "dog")
    assert stream.notes == (
        f"{root}/train: files left out, since by their names they are no pictures: 1, such as {root}/train/dog/notes.txt",
    )
    for path, label in (stream.train[n] for n in range(40)):
        assert path.split("/")[-2] == ("Cat", "bird", "dog")[label]


def test_the_fingerprint_covers_names_sizes_and_labels(root, tmp_path):
    def copy(name, change=lambda path: None):
        for n in range(4):
            for split in ("train", "val"):
                (tmp_path / name / split / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
                (tmp_path / name / split / "ab"[n % 2] / f"{n}.png").write_bytes(b"x" * n)
        change(tmp_path / name)
        return folder(str(tmp_path / name), SIDE).fingerprint()

    first = copy("first")
    assert re.fullmatch("[0-9a-f]{64}", first) and copy("second") == first
    others = [
        copy("third", lambda path: (path / "val/b/1.png").write_bytes(b"xx")),
        copy("fourth", lambda path: (path / "train/b/1.png").rename(path / "train/b/0.png")),
        copy("fifth", lambda path: [(path / split / "a").rename(path / split / "c") for split in ("train", "val")]),
    ]
    assert len({first, *others}) == 4


def test_testing_gives_the_centre_of_every_picture_in_order(root):
    stream = folder(str(root), SIDE)
    images, labels = (np.concatenate(part) for part in zip(*stream.testing(4), strict=True))
    assert images.shape == (12, SIDE, SIDE, 3) and images.dtype == np.uint8 and labels.dtype == np.int32
    for n in range(12):
        path, label = stream.test[min(n, 10)]
        opened = Image.open(path).convert("RGB")
        shorter = min(opened.size)  # torchvision's Resize(32) and CenterCrop(28)
        width, height = (int(32 * length / shorter) for length in opened.size)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        expected = opened.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
        np.testing.assert_array_equal(images[n], np.asarray(expected))
        assert labels[n] == label
    equal(stream.testing(4, start=1), list(stream.testing(4))[1:])
    assert list(stream.testing(4, start=3)) == []


def test_training_gives_random_crops_of_all_pictures_in_a_shuffled_order(root):
    stream = folder(str(root), SIDE)
    ((images, labels),) = stream.training(7, 40)
    assert images.shape == (40, SIDE, SIDE, 3) and images.dtype == np.uint8 and labels.dtype == np.int32
    left = set(range(40))
    order = []
    for image, label in zip(images, labels, strict=True):
        for n in sorted(left):
            path, expected_label = stream.train[n]
            opened = Image.open(path).convert("RGB")
            box = pictures.random_part(np.random.default_rng((7, n)), *opened.size)
            if np.array_equal(image, opened.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)):
                assert label == expected_label
                left.remove(n)
                order.append(n)
                break
    assert not left
    assert np.mean(np.diff(order) > 0) < 0.8, "shuffled"


def test_hosts_read_their_rows_of_the_same_batches(root):
    stream = folder(str(root), SIDE)
    for whole, parts in (
        (stream.training(3, 4, 1), [stream.training(3, 4, 1, rows) for rows in (slice(0, 2), slice(2, 4))]),
        (stream.testing(4), [stream.testing(4, rows=rows) for rows in (slice(0, 1), slice(1, 4))]),
    ):
        for one, *others in zip(whole, *parts, strict=True):
            for expected, *host_rows in zip(one, *others, strict=True):
                np.testing.assert_array_equal(np.concatenate(host_rows), expected)


def test_a_pass_depends_only_on_its_seed_and_can_start_at_any_batch(root):
    one, three = (folder(str(root), SIDE, threads) for threads in (1, 3))
    whole = list(one.training(3, 6))
    assert len(whole) == 6, "the last 4 pictures fill no batch"
    equal(three.training(3, 6), whole)
    for start in (0, 1, 5):
        equal(three.training(3, 6, start), whole[start:])
    assert list(one.training(3, 6, 6)) == []
    other = next(one.training(4, 6))
    assert not np.array_equal(other[0], whole[0][0])
    labels = [np.concatenate([labels for _, labels in one.training(seed, 6)]) for seed in (3, 4)]
    assert not np.array_equal(*labels)


def test_random_crops_are_drawn_as_in_torchvision(rng):
    width, height = 500, 375
    boxes = np.array([pictures.random_part(rng, width, height) for _ in range(20000)])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0 and right.max() <= width and bottom.max() <= height
    w, h = right - left, bottom - top
    share, ratio = w * h / (width * height), w / h
    assert 0.078 < share.min() < 0.085 and 0.95 < share.max() <= 1
    assert 0.74 < ratio.min() < 0.76 and 1.31 < ratio.max() < 1.35
    small = share < 0.5  # all of these fit into the picture, so no draw is rejected
    assert abs(np.mean(share[small]) - 0.29) < 0.005
    assert abs(np.mean(np.log(ratio[small]))) < 0.005 and abs(np.std(np.log(ratio[small])) - 0.1661) < 0.003
    places = (left / np.maximum(width - w, 1))[small], (top / np.maximum(height - h, 1))[small]
    for place in places:
        assert abs(place.mean() - 0.5) < 0.01 and abs(place.std() - 0.289) < 0.01
        assert place.min() == 0 and place.max() == 1


@pytest.mark.parametrize(
    ("size", "box"), {(1000, 30): (480, 0, 520, 30), (30, 1000): (0, 480, 30, 520), (1, 1): (0, 0, 1, 1)}.items()
)
def test_the_centre_is_taken_if_no_crop_fits(rng, size, box):
    boxes = {pictures.random_part(rng, *size) for _ in range(50)}
    assert box in boxes and (size == (1, 1) or len(boxes) < 50)


def test_a_photograph_is_cut_after_it_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(tmp_path / name, exif=exif)
    ((image,), _), *_ = folder(str(tmp_path), SIDE).testing(1)
    np.testing.assert_array_equal(image, np.asarray(pictures.middle(picture(0).rotate(-90, expand=True), SIDE)))


def test_pictures_of_all_kinds_become_rgb(tmp_path):
    red = Image.new("RGB", (40, 40), (200, 30, 30))
    palette = Image.new("P", (40, 40))
    palette.putpalette([200, 30, 30])
    kinds = {
        "rgba.png": Image.merge("RGBA", [*red.split(), Image.new("L", (40, 40), 255)]),
        "palette.png": palette,
        "cmyk.jpg": red.convert("CMYK"),
        "grey.jpg": Image.new("L", (40, 40), 77),
        "grey_alpha.png": Image.new("LA", (40, 40), (77, 255)),
    }
    for split in ("train", "val"):
        for name, image in kinds.items():
            (tmp_path / split / name[:4]).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / split / name[:4] / name, quality=95)
    stream = folder(str(tmp_path), 8)
    ((images, _),) = stream.testing(5)
    for n, image in enumerate(images):
        expected = 77 if "grey" in stream.test[n][0] else (200, 30, 30)
        assert abs(image.astype(int) - expected).max() <= 4, stream.test[n]


def refused(match, function, *args):
    with pytest.raises(DataError, match=match) as error:
        function(*args)
    assert "\n" not in str(error.value)


def tree(path, *files):
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(b"")
    return str(path)


def test_a_wrong_folder_is_one_clear_line(tmp_path, root, monkeypatch):
    good = ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    refused("data.path is '', expected a folder", folder, "", SIDE)
    refused("nowhere', expected a folder that holds train/CLASS", folder, str(tmp_path / "nowhere"), SIDE)
    refused("1/train: no such folder", folder, tree(tmp_path / "1", "val/a/1.jpg"), SIDE)
    refused("2/test: no such folder", folder, tree(tmp_path / "2", *good[:2]), SIDE)
    refused("3/val: it holds no folders", folder, tree(tmp_path / "3", *good[:2], "val/1.jpg"), SIDE)
    refused("4/val/c: train lacks this class", folder, tree(tmp_path / "4", *good, "val/c/1.jpg"), SIDE)
    refused(r"5/train/c: no pictures in it", folder, tree(tmp_path / "5", *good, "train/c/1.txt"), SIDE)
    refused("6/val/b: no pictures in it", folder, tree(tmp_path / "6", *good, "val/b/x/1.jpg"), SIDE)
    refused("7/train: it has 1 class", folder, tree(tmp_path / "7", "train/a/1.jpg", "val/a/1.jpg"), SIDE)
    refused("side is 0 pixels", folder, str(root), 0)
    refused("batch of 41 .* are 40 training", lambda: folder(str(root), SIDE).training(0, 41))
    assert folder(tree(tmp_path / "8", *good[:2], "test/b/1.jpg"), SIDE).test[0][1] == 1
    (note,) = folder(tree(tmp_path / "9", *good, "test/b/1.jpg"), SIDE).notes
    assert "9/test: not used, since" in note


def test_a_package_that_is_missing_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    refused(r"needs grain: pip install -e '.\[imagenet\]'", folder, str(root), SIDE)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/1.png", "val/a/1.jpg")
    picture(0).save(tmp_path / "whole.jpg")
    (tmp_path / "val/a/1.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-300])
    picture(0).save(tmp_path / "train/b/1.png", save_all=True, append_images=[picture(0).rotate(90)])
    stream = folder(str(tmp_path), SIDE)
    refused(r"val/a/1.jpg: not a picture that can be used \(OSError: .*truncated", list, stream.testing(1))
    picture(1).save(tmp_path / "train/a/1.jpg")
    refused(r"train/b/1.png: .*it has 2 frames", list, stream.training(0, 2))
    (tmp_path / "train/a/1.jpg").write_bytes(b"no picture")
    refused(r"train/[ab]/1.(jpg|png): not a picture that can be used", list, stream.training(0, 2))
    (tmp_path / "val/a/1.jpg").unlink()
    refused(r"val/a/1.jpg: .*FileNotFoundError", list, stream.testing(1))


class StreamedPictures(tfds.core.GeneratorBasedBuilder):
    """A data set that tensorflow-datasets can write without TensorFlow, of pictures of several sizes."""

    VERSION = tfds.core.Version("1.0.0")
    splits = {"train": 12, "validation": 5, "test": 3}  # noqa: RUF012
    labels = tfds.features.ClassLabel(num_classes=4)

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": self.labels}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in self.splits.items()}

    def _generate_examples(self, count):
        for n in range(count):
            yield n, {"image": picture(n + 1000 * count), "label": n % 4}


class StreamedTest(StreamedPictures):
    splits = {"train": 12, "test": 3}  # noqa: RUF012


class StreamedUntested(StreamedPictures):
    splits = {"train": 12}  # noqa: RUF012


class StreamedNumbers(StreamedPictures):
    labels = tfds.features.Scalar(dtype=np.int64)


def prepare(builder, directory):
    builder(data_dir=str(directory), file_format="array_record").download_and_prepare()


def test_tensorflow_datasets_are_streamed_without_tensorflow(tmp_path, monkeypatch):
    prepare(StreamedPictures, tmp_path)
    prepare(StreamedTest, tmp_path)
    monkeypatch.setattr(from_tfds, "_installed", lambda package: package != "tensorflow")
    stream = sources.tfds_stream("streamed_pictures", str(tmp_path), SIDE, threads=2)
    assert (len(stream.train), len(stream.test), stream.classes, stream.notes) == (12, 5, 4, ())
    for encoded, label in (stream.test[n] for n in range(5)):
        pixels = np.asarray(Image.open(io.BytesIO(encoded)))
        assert any(np.array_equal(pixels, np.asarray(picture(5000 + n))) for n in range(label, 5, 4))
    images, labels = next(stream.testing(8))
    assert (
        images.shape == (8, SIDE, SIDE, 3) and (images[4:] == images[4]).all() and sorted(labels[:5]) == [0, 0, 1, 2, 3]
    )
    equal(stream.training(5, 4, start=1), list(stream.training(5, 4))[1:])
    other = sources.tfds_stream("streamed_test:1.0.0", str(tmp_path), SIDE)
    assert len(other.test) == 3 and other.fingerprint() != stream.fingerprint()
    assert stream.fingerprint() == sources.tfds_stream("streamed_pictures", str(tmp_path), SIDE).fingerprint()


def test_a_data_set_that_cannot_be_streamed_is_one_clear_line(tmp_path, monkeypatch):
    def read(name):
        return sources.tfds_stream(name, str(tmp_path), SIDE)

    refused(rf"tfds build streamed_test --file_format=array_record --data_dir={tmp_path}", read, "streamed_test")
    refused("did you mean imagenette", read, "imagenete")
    prepare(StreamedUntested, tmp_path)
    refused("lacks the split test; it has train", read, "streamed_untested")
    prepare(StreamedNumbers, tmp_path)
    refused("has a Scalar for the feature label, expected a ClassLabel", read, "streamed_numbers")
    prepare(StreamedTest, tmp_path)
    stream = read("streamed_test")
    monkeypatch.setattr(from_tfds.TfdsSplit, "__getitem__", lambda self, n: (b"", 0))
    refused("data set streamed_test, split test, record 0: not a picture", list, stream.testing(3))
    image = io.BytesIO()
    picture(0).save(image, "PNG")
    monkeypatch.setattr(from_tfds.TfdsSplit, "__getitem__", lambda self, n: (image.getvalue(), -1))
    refused("its label is -1, expected 0 to 3", list, stream.testing(3))
    for info in tmp_path.glob("streamed_test/*/dataset_info.json"):
        info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    refused(
        rf"as tfrecord, expected array_record.*convert_format --dataset_version_dir={tmp_path}/streamed_test/1.0.0 "
        "--out_file_format=array_record",
        read,
        "streamed_test",
    )
    monkeypatch.setattr(from_tfds, "_installed", lambda package: False)
    refused(r"read by tensorflow-datasets: pip install -e '.\[tfds\]'", read, "streamed_test")


@pytest.fixture(scope="module")
def photographs():
    """uint8 [6, 16, 16, 3]: coloured, grey and of extreme colours."""
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    images[4] = images[4, :, :, :1]
    images[5] = np.where(images[5] > 127, 255, 0)
    return images


PILLOWS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@pytest.mark.parametrize("change", range(3))
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_colours_change_as_in_pillow(photographs, change, factor):
    ours = batches.CHANGES[change](jnp.asarray(photographs) / 255, jnp.full((6, 1, 1, 1), factor))
    pillows = [np.asarray(PILLOWS[change](Image.fromarray(image)).enhance(factor)) for image in photographs]
    np.testing.assert_allclose(np.asarray(ours) * 255, np.array(pillows), atol=2)


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 0.13, 0.5])
def test_the_hue_is_shifted_as_in_hsv(photographs, turns):
    ours = batches.CHANGES[3](jnp.asarray(photographs) / 255, jnp.full((6, 1, 1, 1), turns))

    def shifted(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)

    np.testing.assert_allclose(ours, np.apply_along_axis(shifted, -1, photographs / 255), atol=1e-5)


def recipe(**fields):
    return batches.Recipe(np.zeros(3, np.float32), np.ones(3, np.float32), **({"pad": 0, "flip": False} | fields))


def test_jitter_draws_a_change_for_each_image_and_only_in_training(key):
    grey = jnp.full((4000, 1, 1, 3), 100, jnp.uint8)
    for jitter, low, high in (((0.4, 0, 0, 0), 0.6, 1.4), ((2.0, 0, 0, 0), 0, 2.55)):
        factors = np.asarray(batches.prepared(grey, recipe(jitter=jitter), key))[:, 0, 0, 0] * 2.55
        assert low <= factors.min() < low + 0.01 and high - 0.01 < factors.max() <= high + 1e-6
    assert abs(factors[factors < 2.5].mean() - 1.25) < 0.05, "uniform"
    red = jnp.broadcast_to(jnp.array([255, 0, 0], jnp.uint8), (2000, 1, 1, 3))
    pixels = np.asarray(batches.prepared(red, recipe(jitter=(0, 0, 0, 0.1)), key))[:, 0, 0]
    turns = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels])
    turns -= turns > 0.5
    assert -0.1001 < turns.min() < -0.099 and 0.099 < turns.max() < 0.1001 and abs(turns.mean()) < 0.01
    plain = np.asarray(grey[:2] / 255)
    for unchanged in (
        batches.prepared(grey[:2], recipe(jitter=(0.4, 0.4, 0.4, 0.2)), None),
        batches.prepared(grey[:2], recipe(jitter=(0, 0, 0, 0)), key),
        batches.prepared(grey[:2], recipe(jitter=(0, 0.4, 0.4, 0.2)), key),  # contrast and colours of plain grey
    ):
        np.testing.assert_allclose(unchanged, plain, atol=1e-6)
    with pytest.raises(ValueError, match="expected 3 channels"):
        batches.prepared(grey[..., :1], recipe(jitter=(0.4, 0, 0, 0)), key)


def test_the_order_of_the_changes_is_drawn(photographs):
    image = jnp.asarray(photographs[5:])
    run = jax.jit(lambda key: batches.prepared(image, recipe(jitter=(1.0, 1.0, 1.0, 0.5)), key))

    def in_order(key, order):
        keys = jax.random.split(jax.random.fold_in(key, 3), 5)[1:]
        amounts = [jax.random.uniform(k, (1, 1, 1, 1), maxval=2.0) for k in keys[:3]]
        amounts.append(jax.random.uniform(keys[3], (1, 1, 1, 1), minval=-0.5, maxval=0.5))
        pixels = image / 255
        for c in order:
            pixels = batches.CHANGES[c](pixels, amounts[c])
        return pixels

    drawn = set()
    for key in jax.random.split(jax.random.key(1), 8):
        order_key = jax.random.split(jax.random.fold_in(key, 3), 5)[0]
        order = tuple(jax.random.permutation(order_key, 4).tolist())
        np.testing.assert_allclose(run(key), in_order(key, order), atol=1e-5)
        drawn.add(order)
    assert len(drawn) > 4


def test_streamed_images_are_treated_like_resident_ones(photographs, key):
    fields = dict(pad=2, flip=True, cutout=4, jitter=(0.4, 0.4, 0.4, 0.2))
    mean, std = np.full(3, 0.4, np.float32), np.full(3, 0.2, np.float32)
    data = batches.Dataset(jnp.asarray(photographs), jnp.arange(6), mean, std, **fields)
    images, labels = batches.batch(data, jnp.array([4, 1]), key)
    prepared = batches.prepared(jnp.asarray(photographs[[4, 1]]), batches.Recipe(mean, std, **fields), key)
    np.testing.assert_array_equal(images, prepared)
    np.testing.assert_array_equal(labels, [4, 1])
    without = batches.batch(data.replace(jitter=()), jnp.array([4, 1]), key)[0]
    blank, still_blank = np.asarray(without == 0).all(-1), np.asarray(images == 0).all(-1)
    np.testing.assert_array_equal(blank, still_blank)  # jitter does not change the other draws
    assert blank.any() and not np.allclose(without, images)

"""One picture gives the same pixels in training, in the predict command and in a stream."""

import json
import sys

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

from darts_pt_jax.data import pictures, sources
from darts_pt_jax.data.images import ARRAYS, DataError
from experiments import predict


def saved(folder, side, channels, count=12):
    """Writes random test images as an npz and as PNGs; returns both."""
    images = np.random.default_rng(side).integers(0, 256, (count, side, side, channels)).astype(np.uint8)
    labels = np.arange(count) % 3
    np.savez(folder / "all.npz", **dict(zip(ARRAYS, (images, labels, images, labels), strict=True)))
    files = [folder / f"{n}.png" for n in range(count)]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image if channels == 3 else image[..., 0]).save(file)
    return folder / "all.npz", files


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "size"), [(32, 24), (32, 40), (32, 16), (32, 64), (16, 24), (32, 32)])
def test_a_single_picture_has_the_same_pixels_as_in_a_data_set(tmp_path, side, size, channels):
    npz, files = saved(tmp_path, side, channels)
    trained_on = sources.load("npz", str(npz), size).test_images
    for file, expected in zip(files, trained_on, strict=True):
        (image,) = pictures.resized(pictures.decoded(file, channels)[None], size, size)
        np.testing.assert_array_equal(image, expected)
    assert trained_on.shape == (12, size, size, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_predict_classifies_a_png_like_the_same_pixels_in_an_npz(tmp_path, capsys, channels):
    npz, files = saved(tmp_path, 32, channels)
    shape = (24, 24, channels)
    weights = np.random.default_rng(0).normal(size=(24 * 24 * channels, 3)).astype(np.float32)
    linear = jax.jit(lambda images: (images.reshape(images.shape[0], weights.shape[0]) / 255 - 0.5) @ weights)
    batch = jax.export.symbolic_shape("batch")
    exported = jax.export.export(linear)(jax.ShapeDtypeStruct((*batch, *shape), np.uint8))
    (tmp_path / "network.stablehlo").write_bytes(exported.serialize())
    images = sources.load("npz", str(npz), 24)
    expected = np.asarray(jax.nn.softmax(linear(images.test_images)))
    assert len(set(expected.argmax(1).tolist())) == 3, "otherwise a wrong picture could pass"
    assert predict.main([str(tmp_path / "network.stablehlo"), str(npz), *map(str, files)]) == 0
    whole, *alone = map(json.loads, capsys.readouterr().out.splitlines())
    np.testing.assert_allclose([said["probabilities"] for said in alone], expected, atol=2e-5)
    assert [said["class"] for said in alone] == expected.argmax(1).tolist()
    assert whole["accuracy"] == pytest.approx(100 * (expected.argmax(1) == images.test_labels).mean())


def test_decoding_and_averaging_need_no_jax(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    _, files = saved(tmp_path, 8, 3, 1)
    assert pictures.resized(pictures.decoded(files[0])[None], 4, 4).shape == (1, 4, 4, 3)


def test_colours_become_those_of_the_images(tmp_path):
    Image.new("RGBA", (3, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(pictures.decoded(tmp_path / "clear.png"), np.full((2, 3, 3), [255, 0, 0]))
    assert pictures.decoded(tmp_path / "clear.png", 1).shape == (2, 3, 1)
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pictures.decoded((tmp_path / "grey.png").read_bytes()), np.full((2, 3, 3), 7))


@pytest.mark.parametrize(
    ("picture", "channels", "message"),
    [
        (Image.fromarray(np.full((8, 8), 40_000, np.uint16)), 1, "its pixels are I;16, expected 8 bits per channel"),
        (Image.fromarray(np.full((8, 8), 0.5, np.float32)), 3, "its pixels are F, expected 8 bits per channel"),
        (Image.new("RGB", (8, 8)), 4, "the images have 4 channels, expected 1 (grey) or 3 (RGB)"),
    ],
)
def test_a_picture_that_would_lose_values_is_refused_with_its_name(tmp_path, picture, channels, message):
    picture.save(tmp_path / "a.tiff")
    classifier = predict.Classifier(lambda images: np.zeros((1, 2)), (8, 8, channels), 2)
    with pytest.raises(DataError) as error:
        predict.classify(classifier, tmp_path / "a.tiff")
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path / 'a.tiff'}: ")

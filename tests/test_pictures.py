"""One picture gives the same pixels in training, in the predict command and in a stream."""

import io
import json
import sys

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

from darts_pt_jax.data import pictures, sources
from darts_pt_jax.data.images import ARRAYS, DataError
from darts_pt_jax.experiments import predict


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
    Image.new("RGBA", (3, 2), (255, 0, 0, 255)).save(tmp_path / "red.png")
    np.testing.assert_array_equal(pictures.decoded(tmp_path / "red.png"), np.full((2, 3, 3), [255, 0, 0]))
    assert pictures.decoded(tmp_path / "red.png", 1).shape == (2, 3, 1)
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pictures.decoded((tmp_path / "grey.png").read_bytes()), np.full((2, 3, 3), 7))


def encoded(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


GREY = np.arange(0, 240, 10, np.uint8).reshape(4, 6)
COLOUR = np.stack([GREY, GREY.T.reshape(4, 6), 255 - GREY], 2)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_8_are_shown(form):
    deep = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), form)
    np.testing.assert_array_equal(pictures.decoded(deep, 1)[..., 0], GREY)
    np.testing.assert_array_equal(pictures.decoded(deep, 3), np.stack([GREY] * 3, 2))
    assert pictures.shape(deep) == (4, 6, 1)


TURNED = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}  # fmt: skip
"""How a viewer turns stored pixels, by the value of the EXIF orientation."""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_photograph_is_turned_as_its_orientation_says(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    photograph = encoded(Image.fromarray(COLOUR), form, exif=exif, **options)
    expected = TURNED[orientation](COLOUR)
    np.testing.assert_allclose(pictures.decoded(photograph), expected, atol=12 if form == "JPEG" else 0)
    assert pictures.shape(photograph) == expected.shape


def test_what_is_transparent_shows_white():
    alpha = Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8))
    expected = np.where((GREY > 100)[..., None], COLOUR, 255)
    np.testing.assert_array_equal(
        pictures.decoded(encoded(Image.merge("RGBA", [*Image.fromarray(COLOUR).split(), alpha]), "PNG")), expected
    )
    grey = encoded(Image.merge("LA", [Image.fromarray(GREY), alpha]), "PNG")
    np.testing.assert_array_equal(pictures.decoded(grey, 1)[..., 0], np.where(GREY > 100, GREY, 255))
    palette = Image.fromarray(GREY // 120).convert("P")
    palette.putpalette([200, 30, 30, 10, 20, 30])
    seen = pictures.decoded(encoded(palette, "PNG", transparency=0))
    np.testing.assert_array_equal(seen, np.where((GREY < 120)[..., None], 255, [10, 20, 30]))


def test_palette_and_cmyk_become_rgb():
    palette = Image.fromarray(GREY // 120).convert("P")
    palette.putpalette([200, 30, 30, 10, 20, 30])
    expected = np.where((GREY < 120)[..., None], [200, 30, 30], [10, 20, 30])
    for form in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(pictures.decoded(encoded(palette, form)), expected)
    red = encoded(Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK"), "JPEG")
    np.testing.assert_allclose(pictures.decoded(red), np.full((8, 8, 3), [200, 30, 30]), atol=4)


def test_of_a_photograph_with_others_behind_it_the_first_is_shown():
    one = Image.new("RGB", (8, 8), (200, 30, 30))
    several = encoded(one, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    np.testing.assert_allclose(pictures.decoded(several), np.full((8, 8, 3), [200, 30, 30]), atol=4)


TWO = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), (9, 9, 9))]}


@pytest.mark.parametrize(
    ("picture", "name", "options", "channels", "message"),
    [
        (Image.fromarray(np.full((8, 8), 0.5, np.float32)), "a.tiff", {}, 3, "its pixels are F, expected 8 or 16 bits"),
        (Image.fromarray(np.full((8, 8), 99, np.int32)), "a.tiff", {}, 1, "its pixels are I, expected 8 or 16 bits"),
        *((Image.new("RGB", (8, 8)), f"a.{end}", TWO, 3, "has 2 frames") for end in ("gif", "png", "webp", "tiff")),
        (Image.new("RGB", (8, 8)), "a.png", {}, 4, "the images have 4 channels, expected 1 (grey) or 3 (RGB)"),
        (Image.new("L", (8, 8)), "a.png", {}, 2, "the images have 2 channels, expected 1 (grey) or 3 (RGB)"),
    ],
)
def test_a_picture_that_would_lose_values_is_refused_with_its_name(tmp_path, picture, name, options, channels, message):
    picture.save(tmp_path / name, **options)
    classifier = predict.Classifier(lambda images: np.zeros((1, 2)), (8, 8, channels), 2)
    with pytest.raises(DataError) as error:
        predict.classify(classifier, tmp_path / name)
    assert message in str(error.value) and str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("fit", pictures.FITS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_sees_a_picture_as_its_data_did(tmp_path, fit, channels):
    """The pixels that predict gives to a network, from a PNG and from an npz, are those of the data's own reader."""
    for n, label in enumerate("aabb"):
        _, (file,) = saved(tmp_path, 30 + n, channels, 1)
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / split / label / f"{n}.png").write_bytes(file.read_bytes())
    files = sorted((tmp_path / "test").glob("*/*.png"))
    pixels = [pictures.decoded(file, channels) for file in files]
    if fit == "middle":
        stream = sources.load_images("folder", str(tmp_path), crop=24)
        ((expected, _),) = stream.testing(4)
        expected = expected[..., :channels]
    elif fit == "bilinear":
        images = sources.load("folder", str(tmp_path), 24)
        seen = {image.tobytes() for image in images.test_images}
        assert len(images.test_images) == 4 and images.image_shape == (24, 24, channels)
    else:
        expected = np.stack([pictures.resized(image[None], 24, 24)[0] for image in pixels])
    given = []

    def logits(images):
        given.append(images)
        return np.zeros((len(images), 2))

    classifier = predict.Classifier(logits, (24, 24, channels), 2, fit)
    for file, image in zip(files, pixels, strict=True):
        predict.classify(classifier, file)
        one = dict(zip(ARRAYS, (np.stack([image, image]), np.array([0, 1])) * 2, strict=True))
        np.savez(tmp_path / "one.npz", **one)
        predict.evaluate(classifier, tmp_path / "one.npz", 1)
    from_files, from_npz = (np.concatenate(given[start::3]) for start in (0, 1))
    np.testing.assert_array_equal(from_files, from_npz)
    if fit == "bilinear":
        assert {image.tobytes() for image in from_files} == seen
    else:
        np.testing.assert_array_equal(from_files, expected)

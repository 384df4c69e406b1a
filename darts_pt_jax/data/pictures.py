"""How a picture becomes an array: its colours, the range of its pixels, which side is up, and its size.

Training, the predict command and streams all use these functions, so that one picture gives the same pixels everywhere.
Only an interpolating `resized` needs jax.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from darts_pt_jax.data.images import DataError

if TYPE_CHECKING:  # Pillow is imported where a picture is read
    from PIL import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Endings of picture files in a folder, in upper or lower case."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's colour modes by number of channels."""

_GREY = ("1", "L", "LA")
_SIXTEEN_BITS = "I;16"
_ORIENTATION = 0x0112
"""The EXIF tag; from 5 on, it swaps width and height."""


def decoded(
    encoded: bytes | str | os.PathLike, channels: int = 3, cut: Callable[[Image.Image], Image.Image] | None = None
) -> np.ndarray:
    """The pixels of a picture as a viewer shows it: uint8 [H, W, C], values 0 to 255.

    Grey, palette and CMYK pictures become RGB (or all of them grey, for one channel). Of 16 bits the upper 8 are taken.
    What is transparent shows white. A photograph is turned as its EXIF orientation says. Colour profiles are not applied.

    Args:
      encoded: the content of a picture file, or its path.
      channels: C, 1 or 3.
      cut: crops and resizes the picture, such as `middle`; by default the whole picture is taken as it is.

    Raises:
      DataError: C is neither 1 nor 3.
      Exception: whatever Pillow raises for a damaged picture, and ValueError for one whose look is not defined: pixels of
        32 bits or floats, or several frames.
    """
    if channels not in MODES:
        raise DataError(f"the images have {channels} channels, expected 1 (grey) or 3 (RGB): give them as an npz")
    from PIL import ImageOps

    with _opened(encoded) as opened:
        opened.load()  # Pillow turns a TIFF by itself here
        ImageOps.exif_transpose(opened, in_place=True)
        picture = _with_colours(opened, MODES[channels])
        pixels = np.asarray(cut(picture) if cut else picture)
    return pixels.reshape(*pixels.shape[:2], channels)


def shape(encoded: bytes | str | os.PathLike) -> tuple[int, int, int]:
    """(H, W, C) of a picture as a viewer shows it, read from its header: C is 1 if its file holds grey only, else 3.

    Raises:
      As `decoded`.
    """
    with _opened(encoded) as picture:
        width, height = picture.size
        if picture.getexif().get(_ORIENTATION, 1) >= 5 and picture.format != "TIFF":
            width, height = height, width
        grey = picture.mode in _GREY or picture.mode.startswith(_SIXTEEN_BITS)
        return height, width, 1 if grey else 3


@contextlib.contextmanager
def _opened(encoded: bytes | str | os.PathLike) -> Iterator[Image.Image]:
    """Opens a picture, which is decoded later, and checks that it can be used."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1 and picture.format != "MPO":  # a photograph, with others for effects behind it
            raise ValueError(f"it has {frames} frames, expected a single picture")
        sixteen = picture.mode.startswith(_SIXTEEN_BITS) and "transparency" not in picture.info
        if picture.mode[0] in "IF" and not sixteen:
            raise ValueError(f"its pixels are {picture.mode}, expected 8 or 16 bits per channel")
        yield picture


def _with_colours(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in mode "L" or "RGB": on white if it is transparent."""
    from PIL import Image

    if picture.mode.startswith(_SIXTEEN_BITS):  # Pillow would clip values above 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Turns every error within it into a DataError of one line that begins with the picture's name."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    except Exception as error:  # each of Pillow's codecs raises its own errors for files that it cannot read
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"{name}: not a picture that can be used ({reason})") from error


def resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images of another size: uint8 [N, H, W, C] to uint8 [N, height, width, C].

    Blocks of pixels are averaged where both old sides are whole multiples of the new ones. Other sizes are interpolated
    linearly, with antialiasing where they shrink. The pixels of an image do not depend on the other images.
    """
    old_height, old_width = images.shape[1:3]
    if (old_height, old_width) == (height, width):
        return images
    multiple = old_height % height == 0 and old_width % width == 0
    resize = _averaged if multiple else _interpolated
    parts = np.array_split(images, max(1, len(images) // 1000))  # bounds the memory that floats take
    return np.concatenate([np.clip(np.round(resize(part, height, width)), 0, 255).astype(np.uint8) for part in parts])


def _averaged(images: np.ndarray, height: int, width: int) -> np.ndarray:
    n, old_height, old_width, channels = images.shape
    blocks = images.reshape(n, height, old_height // height, width, old_width // width, channels)
    return blocks.mean((2, 4))


_ENOUGH_PIXELS = 2**15


def _interpolated(images: np.ndarray, height: int, width: int) -> np.ndarray:
    import jax

    n, old_height, old_width, channels = images.shape
    # XLA adds up the parts of one small image in another order than those of many. The last bit of a sum can decide how
    # a half is rounded, so that few images are repeated until they count as many.
    repeats = max(1, math.ceil(_ENOUGH_PIXELS / (n * old_height * old_width)))
    batch = np.tile(images, (repeats, 1, 1, 1)).astype(np.float32)
    with jax.default_device(_host()):
        return np.asarray(jax.image.resize(batch, (len(batch), height, width, channels), "linear"))[:n]


def _host():
    """The processor as a JAX device, so that accelerators do not round otherwise; None where jax may not use it."""
    import jax

    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names accelerators alone
        return None


def bilinear(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture resized by Pillow's bilinear filter, which averages over the area that a pixel covers."""
    from PIL import Image

    return picture.resize((width, height), Image.Resampling.BILINEAR)


def middle(picture: Image.Image, side: int) -> Image.Image:
    """The middle `side` x `side` pixels of a picture after its shorter side is resized to `side` * 256 / 224 (rounded)."""
    shorter = round(side * 256 / 224)
    width, height = (shorter * length // min(picture.size) for length in picture.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return bilinear(picture, width, height).crop((left, top, left + side, top + side))


def _bilinear_each(images: np.ndarray, height: int, width: int) -> np.ndarray:
    return _each(images, lambda plane: bilinear(plane, width, height))


def _middle_each(images: np.ndarray, height: int, width: int) -> np.ndarray:
    return _each(images, lambda plane: middle(plane, height))


def _each(images: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Images uint8 [N, H, W, C], of which Pillow changes each channel by itself, as it does within a picture."""
    from PIL import Image

    def changed(image: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(change(Image.fromarray(plane))) for plane in np.moveaxis(image, 2, 0)], 2)

    return np.stack([changed(image) for image in images])


FITS = {"resized": resized, "bilinear": _bilinear_each, "middle": _middle_each}
"""How images of another size are brought to the size of a network: functions like `resized`, by name.

resized: `resized`, as data sets in memory; bilinear: by Pillow's bilinear filter, as pictures from a folder in memory;
middle: the `middle` of each, as streams test it. A network keeps the name of the one that it was trained with.
"""


def random_part(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """A random part of a picture for training, drawn like torchvision's RandomResizedCrop.

    Draws a share of the area, uniform in (0.08, 1), and a ratio of width to height, log-uniform in (3/4, 4/3), until such
    a part fits into the picture, at most ten times; then draws its place. If none fits, takes the largest middle part
    whose ratio is within these bounds.

    Args:
      rng: the source of the draws.
      width, height: of the picture in pixels.

    Returns:
      Left, top, right, bottom in pixels; right and bottom are exclusive.
    """
    narrow, wide = 3 / 4, 4 / 3
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        ratio = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (int(rng.integers(room + 1)) for room in (width - w, height - h))
            return left, top, left + w, top + h
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h

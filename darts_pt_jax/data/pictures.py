"""How a picture becomes an array: its colours, the range of its pixels, and its size.

Training, the predict command and streams all use these functions, so that one picture gives the same pixels everywhere.
Decoding needs Pillow. Only an interpolating `resized` needs jax.

Pixels are taken as stored: the orientation in a photograph's EXIF data is ignored, as usual in training on ImageNet.
"""

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from darts_pt_jax.data.images import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Endings of picture files in a folder, in upper or lower case."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's colour modes by number of channels."""


def decoded(
    encoded: bytes | str | os.PathLike, channels: int = 3, cut: "Callable[[Image], Image] | None" = None
) -> np.ndarray:
    """The pixels of a picture: uint8 [H, W, C], values 0 to 255.

    Grey, palette and CMYK pictures become RGB (or all of them grey, for one channel). Transparency is dropped.

    Args:
      encoded: the content of a picture file, or its path.
      channels: C, 1 or 3.
      cut: crops and resizes the picture, such as `middle`; by default the whole picture is taken as it is.

    Raises:
      DataError: Pillow is missing, or C is neither 1 nor 3.
      Exception: whatever Pillow raises for a damaged picture, and ValueError for one of more than 8 bits per channel.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading pictures needs Pillow: pip install pillow -c requirements.lock") from None
    if channels not in MODES:
        raise DataError(f"the images have {channels} channels, expected 1 (grey) or 3 (RGB): give them as an npz")
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as opened:
        picture: Image.Image = opened
        if picture.mode[0] in "IF":  # Pillow would clip values above 255
            raise ValueError(f"its pixels are {picture.mode}, expected 8 bits per channel")
        if picture.mode == "P":  # else Pillow warns about transparency
            picture = picture.convert("RGBA")
        picture = picture.convert(MODES[channels])
        pixels = np.asarray(cut(picture) if cut else picture)
    return pixels.reshape(*pixels.shape[:2], channels)


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


def bilinear(picture: "Image", width: int, height: int) -> "Image":
    """A picture resized by Pillow's bilinear filter, which averages over the area that a pixel covers."""
    from PIL import Image

    return picture.resize((width, height), Image.Resampling.BILINEAR)


def middle(picture: "Image", side: int) -> "Image":
    """The middle `side` x `side` pixels of a picture after its shorter side is resized to `side` * 256 / 224 (rounded)."""
    shorter = round(side * 256 / 224)
    width, height = (shorter * length // min(picture.size) for length in picture.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return bilinear(picture, width, height).crop((left, top, left + side, top + side))


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

"""Photographs of any size, too many for memory: decoded, cut and resized on the host as they are needed.

Flips, jitter of the colours and normalisation are left to the device (`batches.prepared`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from darts_pt_jax.data import pictures
from darts_pt_jax.data.images import DataError
from darts_pt_jax.naming import install

if TYPE_CHECKING:  # Pillow is imported where a picture is read
    from PIL.Image import Image

Labelled = tuple[np.ndarray, int]
"""An image uint8 [S, S, 3] and its label."""

Batch = tuple[np.ndarray, np.ndarray]
"""Images uint8 [B, S, S, 3] and their labels int32 [B]."""


class PictureSplit(Protocol):
    """One split of a data set: labelled pictures by number, which several threads may read at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[bytes | str, int]:
        """The encoded picture, or the path of its file, and its label."""

    def name(self, number: int) -> str:
        """What error messages call the picture."""

    def identity(self) -> Iterator[str]:
        """Lines that tell the split from others."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """A data set that is read while it is used.

    Attributes:
      train, test: both splits.
      classes: number of classes; labels are 0 to `classes` - 1.
      side: S, height and width in pixels of the images that it gives.
      notes: one line for each thing that a user should know about how the pictures were found.
      threads: how many threads decode; 0: one for each CPU. It changes only the speed.
      pad, flip: defaults of further augmentation, as in `Images`.
      class_names, fit: as in `Images`.
    """

    train: PictureSplit
    test: PictureSplit
    classes: int
    side: int
    notes: tuple[str, ...] = ()
    threads: int = 0
    pad: int = 0
    flip: bool = True
    class_names: tuple[str, ...] = ()
    fit: str = "middle"

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of training and of test images."""
        return len(self.train), len(self.test)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(S, S, 3)."""
        return self.side, self.side, 3

    def fingerprint(self) -> str:
        """SHA-256 over the `identity` of both splits (for files: names, sizes and labels, not their content)."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for line in split.identity():
                digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def training(self, seed: int, batch_size: int, start: int = 0, rows: slice | None = None) -> Iterator[Batch]:
        """One shuffled pass over the training pictures; cuts a random part out of each and resizes it.

        The order of the pictures and the `pictures.random_part` of each depend on `seed` alone, not on the threads or B.
        Pictures that do not fill the last batch are dropped.

        Args:
          seed: of the pass, from 0 to 2**32 - 1.
          batch_size: B.
          start: the first batch to read; batches from here on are the same as in a pass from 0.
          rows: the rows of each batch to read, where other hosts read the others; by default all.

        Yields:
          The `rows` of each batch.

        Raises:
          DataError: there are fewer pictures than B; or, when its turn comes, a picture cannot be read.
        """
        if batch_size > len(self.train):
            raise DataError(f"a batch of {batch_size} is asked for, but there are {len(self.train)} training pictures")
        numbers = _grain().MapDataset.range(len(self.train)).shuffle(seed)

        def cut(picture: Image, number: int) -> Image:
            rng = np.random.default_rng((seed, number))
            part = picture.crop(pictures.random_part(rng, *picture.size))
            return pictures.bilinear(part, self.side, self.side)

        in_batches = numbers.slice(slice(0, len(self.train) // batch_size * batch_size))
        return self._batches(in_batches, self._reader(self.train, cut), batch_size, start, rows)

    def testing(self, batch_size: int, start: int = 0, rows: slice | None = None) -> Iterator[Batch]:
        """The `pictures.middle` of the test pictures, in order.

        Repeats the last picture to fill the last batch, so that all batches have one shape; the caller drops the repeats.

        Args:
          batch_size: B.
          start, rows: as in `training`.

        Yields:
          The `rows` of each batch.

        Raises:
          DataError: a picture cannot be read, when its turn comes.
        """

        def cut(picture: Image, number: int) -> Image:
            return pictures.middle(picture, self.side)

        return self._batches(range(len(self.test)), self._reader(self.test, cut), batch_size, start, rows)

    def _reader(self, split: PictureSplit, cut: Callable[[Image, int], Image]) -> Callable[[int], Labelled]:
        """A function of a picture's number that reads it and cuts it to an image."""

        def read(number: int) -> Labelled:
            with pictures.named(split.name(number)):
                encoded, label = split[number]
                if not 0 <= label < self.classes:
                    raise ValueError(f"its label is {label}, expected 0 to {self.classes - 1}")
                return pictures.decoded(encoded, 3, lambda picture: cut(picture, number)), label

        return read

    def _batches(
        self, numbers: Sequence[int], read: Callable[[int], Labelled], batch_size: int, start: int, rows: slice | None
    ) -> Iterator[Batch]:
        """Batches of the pictures with these numbers; threads read and cut them up to two batches ahead."""
        first, end, _ = (rows or slice(None)).indices(batch_size)
        size = end - first

        def number(position):
            batch, row = divmod(position, size)
            return numbers[min(batch * batch_size + first + row, len(numbers) - 1)]

        positions = _grain().MapDataset.range(start * size, -(-len(numbers) // batch_size) * size)
        options = _grain().ReadOptions(self.threads or os.cpu_count(), prefetch_buffer_size=2 * size)
        images = positions.map(number).map(read).to_iter_dataset(options)
        return iter(images.batch(size, batch_fn=_stack))


def check(side: int) -> None:
    """Checks what a stream of `side` x `side` images needs.

    Raises:
      DataError: the side is not positive, or grain is not installed.
    """
    if side < 1:
        raise DataError(f"the images' side is {side} pixels, expected at least 1")
    _grain()


def _stack(labelled: Sequence[Labelled]) -> Batch:
    images, labels = zip(*labelled, strict=True)
    return np.stack(images), np.array(labels, np.int32)


def _grain():
    try:
        import grain
    except ImportError:
        raise DataError(f"reading pictures as they are needed needs grain: {install('imagenet')}") from None
    return grain

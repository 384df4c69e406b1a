"""Your own pictures: looks at them, sets all that depends on them, and says what it set.

    python -m experiments.main --config=configs/own_data.py:PATH
    python -m experiments.main --config=configs/own_data.py:PATH,accelerator

PATH is a folder with a folder of pictures for each class, the same with train/ and test/ or val/ above them, or an npz.
The preset `cpu` (the default) takes minutes on two cores; `accelerator` is the reference code's protocol. A key on the
command line overrides what this file sets. docs/guides/own_data.md is a guide.
"""

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from darts_pt_jax.configs import common
from darts_pt_jax.data import folders, sources
from darts_pt_jax.data.images import before_border
from darts_pt_jax.experiments.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Preset:
    """What does not depend on the data.

    Attributes:
      side: the largest side of the images, in pixels.
      examples: the largest number of training images; 0: any.
      scored: the largest number of images to score and validate on; 0: any.
      time: how long it takes.
      keys: other keys.
    """

    side: int
    examples: int
    scored: int
    time: str
    keys: dict


PRESETS = {
    "cpu": Preset(
        16, 2000, 512, "at most about 15 minutes on two free CPU cores",
        {
            "supernet.cells": 3, "supernet.channels": 4, "search.epochs": 10, "search.batch_size": 32,
            "search.sampling": "epoch", "search.gradients": "shared", "select.interval": 1, "retrain.cells": 3,
            "retrain.channels": 8, "retrain.epochs": 20, "retrain.batch_size": 32, "retrain.drop_path": 0.0,
            "retrain.cutout": 0, "retrain.test_every": 5,
        },
    ),
    "accelerator": Preset(32, 0, 0, "not measured; made for a GPU or TPU", {"select.restrict_every": 2}),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Look:
    """What a look at the data tells.

    Attributes:
      source: of `sources.SOURCES`.
      train, scoring, test: numbers of images; `scoring` of a validation split beside the test split.
      shapes: (H, W, C) of the images.
      classes: number of classes.
    """

    source: str
    train: int
    scoring: int
    test: int
    shapes: Sequence[tuple[int, int, int]]
    classes: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The different (H, W), from the smallest."""
        return sorted({shape[:2] for shape in self.shapes})

    @property
    def channels(self) -> int:
        """C of images in memory."""
        return max(shape[2] for shape in self.shapes)

    def side(self, preset: Preset) -> int:
        """The shorter side of the images in a run: at most the median of theirs."""
        return min(preset.side, statistics.median_low(min(shape[:2]) for shape in self.shapes))


@functools.cache  # a sweep asks for it once a run
def get_config(argument=""):
    path, preset = _arguments(argument)
    look = _look(path)
    config = common.get_config()
    config.stages = "search,select,retrain,report"
    config.data.source, config.data.path = look.source, path
    config.update_from_flattened_dict(PRESETS[preset].keys)
    reasons = {}
    for set_some in (_set_images, _set_halves, _set_retraining):
        for values, reason in set_some(look, PRESETS[preset], config):
            config.update_from_flattened_dict(values)
            reasons[", ".join(f"{key}={value}" for key, value in values.items())] = reason
    _say(look, preset, reasons)
    return config


Settings = Iterator[tuple[dict[str, Any], str]]
"""Values of some keys, with the reason."""


def _set_images(look: Look, preset: Preset, config: ConfigDict) -> Settings:
    if len(look.sizes) > 1:
        yield {"data.size": look.side(preset)}, "the pictures have several sizes"
    elif max(look.sizes[0]) > preset.side:
        yield {"data.size": look.side(preset)}, f"the preset's images have at most {preset.side}x{preset.side} pixels"
    yield {"data.pad": -1}, f"an eighth of the image's side, {round(look.side(preset) / 8)}"
    flip, why = ("on", "colour pictures") if look.channels > 1 else ("off", "grey pictures, such as digits and scans")
    yield {"data.flip": flip}, f"{why}: mirror them only if a mirror image has the same class"
    yield {"data.mean": (), "data.std": ()}, "computed from the images that train the weights"


def _set_halves(look: Look, preset: Preset, config: ConfigDict) -> Settings:
    count = look.train + look.scoring
    used = min(count, preset.examples or count)
    if used < count:
        yield {"data.examples": used}, f"of {count:,} training images"
    train, share, why = used // 2, 0.5, "there is no validation split"
    if look.scoring:
        train = before_border(used, look.train, count)
        share, why = train / used, "the validation split is the half that scores"
    yield {"data.train_fraction": share}, f"{why}: {train:,} images train the weights, {used - train:,} score"
    batch_size = _batch(config.search.batch_size, min(train, used - train))
    yield {"search.batch_size": batch_size}, f"{train // batch_size} steps an epoch"
    batch_size = _batch(config.retrain.batch_size, used)
    yield {"retrain.batch_size": batch_size}, f"{used // batch_size} steps an epoch"
    if preset.scored and used - train > preset.scored:
        images = {"select.images": preset.scored, "eval.images": preset.scored}
        yield images, f"of {used - train:,}, drawn anew for every decision"


def _set_retraining(look: Look, preset: Preset, config: ConfigDict) -> Settings:
    side = look.side(preset)
    if config.retrain.cutout:
        yield {"retrain.cutout": side // 2}, "half the image's side"
    if config.retrain.auxiliary and -(-side // 4) < 8:
        yield {"retrain.auxiliary": 0.0}, "the images are too small for the auxiliary head"


def _arguments(argument: str) -> tuple[str, str]:
    """Path and preset."""
    path, _, last = argument.rpartition(",")
    if last not in PRESETS:
        path, last = argument, "cpu"
    if not path or not pathlib.Path(path).expanduser().exists():
        missing = " (there is no such file or folder)" if path else ""
        raise ConfigError(
            f"the argument after --config=configs/own_data.py: is {argument!r}{missing}, expected a folder of pictures or an "
            f"npz, then perhaps a comma and one of {' '.join(PRESETS)}"
        )
    return path, last


def _look(path: str) -> Look:
    if pathlib.Path(path).expanduser().is_dir():
        found = folders.found(path)
        counts = len(found.train), len(found.scoring), len(found.test)
        return Look("folder", *counts, list(found.shapes().values()), len(found.classes))
    images = sources.npz(path)
    train, test = images.sizes
    border = images.border or train
    return Look("npz", border, train - border, test, [images.image_shape], images.classes)


def _batch(wanted: int, images: int) -> int:
    """The size of a batch: the wanted one, halved until there are four batches or it is 2."""
    while wanted > 2 and images < 4 * wanted:
        wanted //= 2
    return wanted


def _say(look: Look, preset: str, reasons: dict[str, str]):
    smallest, largest = (f"{height}x{width}" for height, width in (look.sizes[0], look.sizes[-1]))
    size = smallest if len(look.sizes) == 1 else f"{smallest} to {largest}"
    colours = {1: "grey", 3: "colour"}.get(look.channels, f"{look.channels} channels")
    validation = f"{look.scoring:,} validation, " if look.scoring else ""
    print(f"own data: {look.train:,} training, {validation}{look.test:,} test images of {look.classes} classes, {size} pixels, "
          f"{colours}")  # fmt: skip
    print(f"preset {preset} ({PRESETS[preset].time}) sets")
    for values, reason in reasons.items():
        print(f"  {values}: {reason}")

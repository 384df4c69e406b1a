"""Test or use a retrained network: `python -m experiments.predict NETWORK FILE...`.

NETWORK is a run directory, whose network after the last finished epoch is used, or a network.stablehlo that
experiments.export wrote. FILE is an npz in the format of a config's data.path, or a picture. Of an npz, the accuracy on
its test images is printed; of a picture, its class and the probabilities; one JSON line each. Images of another size are
resized as in training (those of an npz only to squares). If NETWORK is the run directory of a network that was trained
with data.crop, the middle of a picture is cut out as in its tests.

Exit codes: 0 done, 2 a setting or a file is wrong.
"""

import dataclasses
import functools
import json
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence

import jax
import jax.export
import numpy as np

from darts_pt_jax.data import pictures, sources
from darts_pt_jax.data.images import DataError
from darts_pt_jax.interop.export import TrainedNetwork, plugins_of
from experiments import commands
from experiments.config import plugins


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    parser = commands.parser("predict", __doc__)
    parser.add_argument("network", type=pathlib.Path, metavar="NETWORK", help="a run directory, or a StableHLO file")
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE", help="an npz, or images")
    parser.add_argument("--batch", type=int, default=100, help="images at once (default: 100)")
    plugins.add_option(parser)
    asked = parser.parse_args(argv)
    plugins.use(asked.plugins)
    try:
        if asked.batch < 1:
            raise DataError(f"--batch is {asked.batch}, expected at least 1")
        network = Classifier.load(asked.network)
        for file in asked.files:
            if file.suffix == ".npz":
                print(json.dumps({"file": str(file), **evaluate(network, file, asked.batch)}, allow_nan=False))
            else:
                print(json.dumps({"file": str(file), **classify(network, file)}, allow_nan=False))
    except ValueError as error:
        return commands.fail(error, 2)
    return 0


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network to test or use.

    Attributes:
      logits: takes uint8 images [B, *image_shape], gives float32 [B, classes].
      image_shape: (H, W, C).
      classes: number of classes.
      crop, epoch: see `TrainedNetwork`.
    """

    logits: Callable[[np.ndarray], jax.Array]
    image_shape: tuple[int, int, int]
    classes: int
    crop: bool = False
    epoch: int | None = None

    @classmethod
    def load(cls, path: pathlib.Path) -> "Classifier":
        """Reads a run directory or a StableHLO file.

        Raises:
          ValueError: it is neither.
        """
        if path.is_dir():
            plugins.load(",".join(plugins_of(path)))
            network = TrainedNetwork.load(path)
            logits, classes = jax.jit(network.logits), network.net.classes
            return cls(logits, network.image_shape, classes, network.crop, network.epoch)
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or directory")
        try:
            exported = jax.export.deserialize(bytearray(path.read_bytes()))
            ((_, *image_shape),) = (aval.shape for aval in exported.in_avals)
            ((_, classes),) = (aval.shape for aval in exported.out_avals)
        except Exception as error:  # flatbuffers raises errors of many types for other files
            raise ValueError(f"{path}: no run directory and no StableHLO of experiments.export") from error
        return cls(exported.call, tuple(image_shape), classes)


def evaluate(network: Classifier, file: pathlib.Path, batch: int) -> dict:
    """Accuracy in percent on the test images of an npz.

    Raises:
      DataError: the images or classes do not fit the network, or its outputs are not finite.
    """
    height, width, _ = network.image_shape
    images = sources.npz(str(file))
    given = images.image_shape
    if height == width:
        images = sources.resized(images, height)
    if images.image_shape != network.image_shape or images.classes != network.classes:
        raise DataError(
            f"{file}: images {given} of {images.classes} classes, the network is for {network.image_shape} and "
            f"{network.classes}"
        )
    total, count = 0, len(images.test_images)
    for start in range(0, count, batch):
        part = images.test_images[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
        chosen = _logits(network, filled, file).argmax(-1)[: len(part)]
        total += int((chosen == images.test_labels[start : start + batch]).sum())
    epoch = {} if network.epoch is None else {"epoch": network.epoch}
    return {**epoch, "images": count, "accuracy": 100 * total / count}


def classify(network: Classifier, file: pathlib.Path) -> dict:
    """Class and probabilities of a picture.

    Raises:
      DataError: it cannot be read, or the network's outputs are not finite.
    """
    height, width, channels = network.image_shape
    cut = functools.partial(pictures.middle, side=height) if network.crop else None
    with pictures.named(str(file)):
        pixels = pictures.decoded(file, channels, cut)
    images = pictures.resized(pixels[None], height, width)
    probabilities = jax.nn.softmax(_logits(network, images, file))[0]
    return {"class": int(probabilities.argmax()), "probabilities": [round(p, 6) for p in probabilities.tolist()]}


def _logits(network: Classifier, images: np.ndarray, file: pathlib.Path) -> np.ndarray:
    logits = np.asarray(network.logits(images))
    if not np.isfinite(logits).all():
        raise DataError(
            f"{file}: the network answers with numbers that are not finite: export it anew from sound weights"
        )
    return logits


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends silently when the reader of a pipe does
    sys.exit(main(sys.argv[1:]))

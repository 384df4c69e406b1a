"""Test or use a retrained network: `python -m experiments.predict NETWORK FILE...`.

NETWORK is a run directory, whose network after the last finished epoch is used, or a network.stablehlo that
experiments.export wrote. FILE is an npz in the format of a config's data.path, or a picture. Of an npz, the accuracy on
its test images is printed; of a picture, its class (by number, and by name where the data had names) and the
probabilities; one JSON line each. Images of another size are brought to that of the network as in its training and tests:
network.json says how, also to a network.stablehlo beside it.

Exit codes: 0 done, 2 a setting or a file is wrong.
"""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
import jax.export
import numpy as np

from darts_pt_jax.data import pictures, sources
from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments import commands
from darts_pt_jax.experiments.config import plugins
from darts_pt_jax.interop.export import TrainedNetwork, plugins_of, use_of


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
      fit, epoch, class_names: see `TrainedNetwork`.
    """

    logits: Callable[[np.ndarray], jax.Array]
    image_shape: tuple[int, int, int]
    classes: int
    fit: str = "resized"
    epoch: int | None = None
    class_names: tuple[str, ...] = ()

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
            return cls(logits, network.image_shape, classes, network.fit, network.epoch, network.class_names)
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or directory")
        try:
            exported = jax.export.deserialize(bytearray(path.read_bytes()))
            ((_, *image_shape),) = (aval.shape for aval in exported.in_avals)
            ((_, classes),) = (aval.shape for aval in exported.out_avals)
        except Exception as error:  # flatbuffers raises errors of many types for other files
            raise ValueError(f"{path}: no run directory and no StableHLO of experiments.export") from error
        fit, names = use_of(path.parent) if (path.parent / "network.json").exists() else ("resized", ())
        return cls(exported.call, tuple(image_shape), classes, fit, None, names)

    def fitted(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [N, H, W, C] of any size as the network saw such images in its training and tests."""
        height, width, _ = self.image_shape
        return pictures.FITS[self.fit](images, height, width)


def evaluate(network: Classifier, file: pathlib.Path, batch: int) -> dict:
    """Accuracy in percent on the test images of an npz.

    Raises:
      DataError: the images or classes do not fit the network, or its outputs are not finite.
    """
    images = sources.npz(str(file))
    if images.image_shape[2] != network.image_shape[2] or images.classes != network.classes:
        raise DataError(
            f"{file}: images {images.image_shape} of {images.classes} classes, the network is for {network.image_shape} "
            f"and {network.classes}"
        )
    total, count = 0, len(images.test_images)
    for start in range(0, count, batch):
        part = network.fitted(images.test_images[start : start + batch])
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
    with pictures.named(str(file)):
        pixels = pictures.decoded(file, network.image_shape[2])
    probabilities = jax.nn.softmax(_logits(network, network.fitted(pixels[None]), file))[0]
    number = int(probabilities.argmax())
    name = {"name": network.class_names[number]} if network.class_names else {}
    return {"class": number, **name, "probabilities": [round(p, 6) for p in probabilities.tolist()]}


def _logits(network: Classifier, images: np.ndarray, file: pathlib.Path) -> np.ndarray:
    logits = np.asarray(network.logits(images))
    if not np.isfinite(logits).all():
        raise DataError(
            f"{file}: the network answers with numbers that are not finite: export it anew from sound weights"
        )
    return logits


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

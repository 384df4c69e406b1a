"""Test or use a retrained network: `python -m experiments.predict RUN_DIR FILE...`.

FILE is an npz as a config's data.path takes it, whose test images are classified and counted, or image files, whose classes
and probabilities are printed, a JSON line each. Images of another size are resized.

Exit codes: 0 done, 2 a setting or a file is wrong.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax.data import sources
from darts_pt_jax.data.sources import DataError
from darts_pt_jax.export import TrainedNetwork
from experiments.settings import fail


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path, metavar="RUN_DIR", help="of a run that has retrained to its end")
    parser.add_argument("files", type=pathlib.Path, nargs="+", metavar="FILE", help="an npz, or images")
    parser.add_argument("--batch", type=int, default=100, help="images at once (default: 100)")
    asked = parser.parse_args(argv)
    try:
        if asked.batch < 1:
            raise DataError(f"--batch is {asked.batch}, expected at least 1")
        network = TrainedNetwork.load(asked.run)
        for file in asked.files:
            if file.suffix == ".npz":
                print(json.dumps({"file": str(file), **evaluate(network, file, asked.batch)}))
            else:
                print(json.dumps({"file": str(file), **classify(network, file)}))
    except (ValueError, DataError) as error:
        return fail(error, 2)
    return 0


def evaluate(network: TrainedNetwork, file: pathlib.Path, batch: int) -> dict:
    """Accuracy in percent on the test images of an npz.

    Raises:
      DataError: they do not fit.
    """
    images = sources.load("npz", str(file), network.image_shape[0])
    if images.test_images.shape[1:] != network.image_shape or images.classes != network.net.classes:
        raise DataError(
            f"{file}: images {images.test_images.shape[1:]} of {images.classes} classes, the network is for "
            f"{network.image_shape} and {network.net.classes}"
        )
    logits, total, count = jax.jit(network.logits), 0, len(images.test_images)
    for start in range(0, count, batch):
        part = images.test_images[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
        chosen = np.asarray(logits(filled).argmax(-1))[: len(part)]
        total += int((chosen == images.test_labels[start : start + batch]).sum())
    return {"images": count, "accuracy": 100 * total / count}


def classify(network: TrainedNetwork, file: pathlib.Path) -> dict:
    """Class and probabilities of an image file.

    Raises:
      DataError: it cannot be read.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError(f"{file}: reading images needs pillow: pip install pillow") from None
    height, width, channels = network.image_shape
    try:
        with Image.open(file) as opened:
            pixels = np.asarray(
                opened.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BOX)
            )
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{file}: not a readable image ({error})") from error
    probabilities = jax.nn.softmax(network.logits(jnp.asarray(pixels.reshape(1, height, width, channels))))[0]
    return {"class": int(probabilities.argmax()), "probabilities": np.round(np.asarray(probabilities), 6).tolist()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

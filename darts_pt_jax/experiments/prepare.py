"""Make the npz of a data set: `python -m experiments.prepare cifar10`.

Uses the data set as prepared by tensorflow-datasets, else the publisher's files in a directory, else, if --download is
given, lets tensorflow-datasets download it.

Exit codes: 0 done, 1 failed, 2 a setting or the data is wrong or missing, 130 interrupted.
"""

import argparse
import os
import pathlib
import re
import sys

import numpy as np

from darts_pt_jax.data import from_tfds, official, sources
from darts_pt_jax.data.images import ARRAYS, DataError, Images
from darts_pt_jax.experiments import commands
from darts_pt_jax.naming import guess, install


def main(argv: list[str]) -> int:
    """Carries out one command and returns the exit code."""
    try:
        asked = _parse(argv[1:])
        images, origin = read(asked.name, asked.dir, asked.download, asked.checksums)
        output = pathlib.Path(asked.output or f"data/{re.sub('[/:]', '-', asked.name)}.npz")
        made = write(images, output)
        _show(asked.name, images, origin, output, made)
    except DataError as error:
        return commands.fail(error, 2)
    except KeyboardInterrupt:
        return commands.fail("interrupted: nothing was made", 130)
    except Exception as error:
        return commands.fail(f"{type(error).__name__}: {str(error)[:300]}", 1)
    return 0


def read(name: str, directory: str, download: bool, checksums: str) -> tuple[Images, str]:
    """Reads a data set; returns its images and their origin.

    Args:
      name: a key of `official.RELEASES`, or a name of tensorflow-datasets.
      directory: where the data are ("": tensorflow-datasets' default, and `data` for a publisher's files).
      download: whether tensorflow-datasets may download missing data.
      checksums: a file of checksums to use instead of the published ones, which skips tensorflow-datasets; or "".

    Raises:
      DataError: there are no such data, or they cannot be used.
    """
    if download and not from_tfds.installed():
        raise DataError(f"--download is done by tensorflow-datasets: {install('prepare')}")
    if checksums and name not in official.RELEASES:
        raise DataError(f"--checksums are of the files of {', '.join(official.RELEASES)}, got {name!r}")
    reasons, known = [], True
    if not checksums:
        try:
            return from_tfds.read(name, directory), "tensorflow-datasets"
        except from_tfds.Unknown as error:
            known = False
            if name not in official.RELEASES:
                near = guess(name, [*official.RELEASES, *from_tfds.names()])
                reasons.append(f"{error}; from official files there are {', '.join(official.RELEASES)}{near}")
        except from_tfds.NotPrepared as error:
            reasons.append(f"{error} (--download does it)")
        except from_tfds.Unavailable as error:
            reasons.append(str(error))
    if name in official.RELEASES:
        try:
            trusted = official.read_checksums(checksums) if checksums else {}
            images, files = official.read(name, directory or "data", trusted)
            return images, ", ".join(files)
        except official.Missing as error:
            reasons.append(f"{error}: put them there and give the command again")
    if download and known:
        print(f"downloading and preparing {name} with tensorflow-datasets", flush=True)
        return from_tfds.read(name, directory, download=True), "tensorflow-datasets"
    raise DataError("; ".join(reasons))


def write(images: Images, path: pathlib.Path) -> bool:
    """Writes an npz, whole or not at all; returns False if the file already holds the same images.

    Raises:
      DataError: the file holds something else.
    """
    if path.exists():
        try:
            same = sources.npz(str(path)).fingerprint() == images.fingerprint()
        except DataError:
            same = False
        if not same:
            raise DataError(f"{path} is there and holds something else: name another file with --output")
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as stream:
            np.savez(stream, **{name: getattr(images, name) for name in ARRAYS})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _show(name: str, images: Images, origin: str, output: pathlib.Path, made: bool) -> None:
    height, width, channels = images.image_shape
    print(f"{output}: made from {origin}" if made else f"{output}: already there, the same as from {origin}")
    print(f"{len(images.train_images):,} training and {len(images.test_images):,} test images, ", end="")
    print(f"{height} x {width} x {channels}, {images.classes} classes, sha256 {images.fingerprint()}")
    for note in images.notes:
        print(note)
    statistics = "" if name == "cifar10" else " --config.data.mean='()' --config.data.std='()'"
    print(f"next: python -m experiments.main --config=configs/darts_c10.py --config.data.path={output}{statistics}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = commands.parser("prepare", __doc__, allow_abbrev=False)
    add = parser.add_argument
    add("name", help=f"{', '.join(official.RELEASES)}, or a name of tensorflow-datasets")
    add("--dir", default="", help="where the data are: prepared by tensorflow-datasets, or as published")
    add("--output", default="", help="the npz to make (data/NAME.npz)")
    add("--download", action="store_true", help="let tensorflow-datasets download what is not there")
    add("--checksums", default="", help="lines of sha256sum or md5sum, used instead of published ones")
    return parser.parse_args(argv)


if __name__ == "__main__":
    commands.start(main, sys.argv)

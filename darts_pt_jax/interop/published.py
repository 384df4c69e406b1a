"""Architectures by a published name, from a file, or as text."""

import functools
import os
import pathlib
import re

from darts_pt_jax import literature
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.naming import guess

_LONGEST = 100_000
"""No file of genotypes has more characters."""


@functools.cache
def genotypes() -> dict[str, Genotype]:
    """The published architectures by name."""
    return {name: Genotype.from_text(name) for name in literature.cells()}


def find(text: str) -> Genotype:
    """The architecture of a published name, of a file, or of a text in any notation that `Genotype.from_text` reads.

    Args:
      text: a name, a file, "FILE:NAME" if the file has several, or the text itself.

    Raises:
      ValueError: it is none of these, or malformed; a message about a file's content begins with the file.
    """
    if text in genotypes():
        return genotypes()[text]
    for path, name in ((text, ""), text.rpartition(":")[::2]):
        if os.path.exists(path):
            return _of_file(path, name)
    if re.search(r"[|{(\[,=]", text):
        return Genotype.from_text(text)
    near = guess(text, genotypes(), ignore_case=True)
    raise ValueError(
        f"got {text!r:.80}, which is no published name and no readable file (No such file or directory){near}"
        f"{'' if near else ', and no text such as Genotype(normal=[...], ...) or |nor_conv_3x3~0|+|...|'}"
    )


def _of_file(path: str, name: str) -> Genotype:
    try:
        with pathlib.Path(path).open(encoding="utf-8-sig") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} characters")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"got {path!r:.80}, which is no published name and no readable file ({reason})") from None
    try:
        return Genotype.from_text(content, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

"""What error messages advise: the name that was probably meant, and how to install or call what is missing."""

import difflib
import pathlib
from collections.abc import Iterable

_ROOT = pathlib.Path(__file__).parents[1]

CHECKOUT = _ROOT if (_ROOT / "pyproject.toml").is_file() else None
"""The folder of the checkout that this package is in; None if the package is installed."""

SIMILAR = 0.75
"""The least similarity (difflib's ratio) of a name that is suggested."""


def nearest(word: str, words: Iterable[str], ignore_case: bool = False) -> str | None:
    """The most similar name; None if none is similar."""
    names = {name.lower() if ignore_case else name: name for name in words}
    near = difflib.get_close_matches(word.lower() if ignore_case else word, names, 1, SIMILAR)
    return names[near[0]] if near else None


def guess(word: str, words: Iterable[str], ignore_case: bool = False) -> str:
    """The end of an error message that suggests the most similar name, such as ": did you mean npz?"; "" if none is."""
    near = nearest(word, words, ignore_case)
    return f": did you mean {near}?" if near else ""


def install(extra: str) -> str:
    """The command that installs one of the extras in pyproject.toml; that of a checkout is given in its folder."""
    return f"pip install -e '.[{extra}]' -c requirements.lock" if CHECKOUT else f"pip install 'darts-pt-jax[{extra}]'"

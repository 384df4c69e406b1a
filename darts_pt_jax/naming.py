"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


def guess(word: str, words: Iterable[str], ignore_case: bool = False, likeness: float = 0.6) -> str:
    """The end of an error message that suggests the most similar name, such as ": did you mean npz?"; "" if none is.

    `likeness` is how similar it must be: 1 is equal, 0 has no letter in common.
    """
    names = {name.lower() if ignore_case else name: name for name in words}
    near = difflib.get_close_matches(word.lower() if ignore_case else word, names, 1, likeness)
    return f": did you mean {names[near[0]]}?" if near else ""

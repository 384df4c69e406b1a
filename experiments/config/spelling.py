"""Which name was probably meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Asks which key was meant: by its whole name, by its last part, or by its section; lists all if none is similar."""
    known = list(known)
    parts = {key: key for key in known} | {key.rpartition(".")[-1]: key for key in known}
    sections = {key.partition(".")[0]: key.partition(".")[0] for key in known if "." in key}
    for names, wanted in ((parts, name), (parts, name.rpartition(".")[-1]), (sections, name.partition(".")[0])):
        if near := difflib.get_close_matches(wanted, names, 1, 0.7):
            return f"did you mean {names[near[0]]}?"
    return f"the keys are {', '.join(known)}"

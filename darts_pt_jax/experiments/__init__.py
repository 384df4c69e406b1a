"""The commands. A Python that lacks the packages they need is told so in one line."""

import importlib.util
import os
import sys

_NEEDED = "absl", "flax", "jax", "ml_collections", "optax"

if sys.argv[:1] == ["-m"]:  # while Python looks for the module of `python -m`
    _missing = ", ".join(name for name in _NEEDED if not importlib.util.find_spec(name))
    if _missing:
        print(
            f"error: {sys.executable} lacks {_missing}: use .venv/bin/python, which make setup makes", file=sys.stderr
        )
        raise SystemExit(1)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's environment names a backend that only its own Python may have

"""The commands. A Python that lacks the packages they need is told so in one line."""

import importlib.util
import os
import sys

_NEEDED = "absl", "flax", "jax", "ml_collections", "optax"

_program = os.path.basename(sys.argv[0]) if sys.argv else ""

if _program == "-m" or _program.startswith("darts-pt"):  # a command begins: python -m, or a console script
    _missing = ", ".join(name for name in _NEEDED if not importlib.util.find_spec(name))
    if _missing:
        print(
            f"error: {sys.executable} lacks {_missing}: use .venv/bin/python, which make setup makes", file=sys.stderr
        )
        raise SystemExit(1)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's environment names a backend that only its own Python may have

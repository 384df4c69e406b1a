"""The two tiers of tests: `make test` leaves those marked slow to `make test-all`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def all_slow_but(quick: Collection, values: Iterable) -> list[Any]:
    """Values for `parametrize`, of which all but the `quick` ones are slow."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]

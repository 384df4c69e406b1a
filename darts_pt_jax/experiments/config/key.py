"""What a key of the config is: its default, the rule for its values, the words for it, and what it affects."""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Collection
from typing import Any, Literal

from darts_pt_jax.naming import guess

Affects = Literal["results", "seed", "rounding", "records", "nothing"]
"""What a key changes: the results; the random numbers; the last bits of results; what is recorded or kept; nothing."""

Stage = Literal["run", "search", "select", "retrain"]
"""Where a key belongs. It is fixed once that part of a run has begun.

"run": the run as a whole; "search": the supernet, which a selection by `init_from` takes over.
"""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value has to be.

    Attributes:
      holds: whether a value obeys it.
      expected: words for the values that do; asked for each time, since tables may grow.
      names: the names to choose from, if there are any.
      tables: tables that have some of these names, as "package.module:TABLE".
    """

    holds: Callable[[Any], bool]
    expected: Callable[[], str]
    names: Callable[[], Collection] = tuple
    tables: tuple[str, ...] = ()

    def describe(self, value) -> str:
        """What was expected instead of `value`, with the nearest name."""
        return self.expected() + (guess(value, map(str, self.names())) if isinstance(value, str) else "")


def one_of(*names: str | int) -> Rule:
    """One of the given names. "package.module:TABLE" stands for the names of a table, as they are when asked."""

    def known() -> list:
        found = []
        for name in names:
            found += table_named(name) if name in tables else [name]
        return found

    tables = tuple(name for name in names if ":" in str(name))
    return Rule(lambda value: value in known(), lambda: f"one of {', '.join(map(str, known()))}", known, tables)


def table_named(name: str) -> Collection:
    """The table that "package.module:TABLE" names."""
    module, _, table = name.partition(":")
    return getattr(importlib.import_module(module), table)


def number(low: float, high: float = math.inf, open_low: bool = False, open_high: bool = False) -> Rule:
    """A finite number between two bounds, which belong to the range unless they are `open`."""

    def holds(value) -> bool:
        above = low < value if open_low else low <= value
        return above and (value < high if open_high else value <= high) and value != math.inf

    words = f"more than {low}" if open_low else f"at least {low}"
    if high < math.inf:
        words += f" and less than {high}" if open_high else f" and at most {high}"
    return Rule(holds, lambda: words)


def numbers(each: Rule) -> Rule:
    """Any number of numbers."""

    def holds(values) -> bool:
        return all(isinstance(v, int | float) and not isinstance(v, bool) and each.holds(v) for v in values)

    return Rule(holds, lambda: f"numbers of {each.expected()}")


ANYTHING = Rule(lambda value: True, lambda: "")
POSITIVE, NOT_NEGATIVE, RATE, SHARE = number(1), number(0), number(0, open_low=True), number(0, 1, open_high=True)


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
      default: its value where nothing else is said.
      rule: what its values have to be.
      words: a plain sentence for `--help` and the reference page.
      affects: what another value changes.
      free: whether it may change between two commands on one run directory.
      stage: where it belongs, and from where on it is fixed unless it is `free`.
      programs: whether the supernet's compiled programs, or the data that they hold, depend on it.
      former: its earlier name, and what earlier values are called now.
      name: such as "search.epochs".
      type: of its values.
    """

    default: Any
    rule: Rule
    words: str
    affects: Affects = "results"
    free: bool = False
    stage: Stage = "search"
    programs: bool = True
    former: tuple[str, dict] | None = None
    name: str = ""
    type: Any = None

    def cast(self, value):
        """A value as the config holds it: a list becomes a tuple, a whole number a float where the key is a float.

        Raises:
          TypeError: it is of another type.
        """
        if isinstance(self.default, tuple) and isinstance(value, list):
            value = tuple(value)
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not type(self.default):
            raise TypeError(self.mismatch(value))
        return value

    def mismatch(self, value) -> str:
        """Says that a value is of another type."""
        kinds = {
            bool: "True or False",
            int: "a whole number",
            float: "a number",
            str: "text",
            tuple: "a tuple of numbers",
        }
        such_as = "" if type(self.default) in (bool, tuple) else f", such as {self.default!r}"
        return f"{self.name} is {value!r}, expected {kinds[type(self.default)]}{such_as}"


def key(default, rule: Rule, words: str, **more) -> Any:
    """The entry of a key in a section, a field of a dataclass; `more` are the further attributes of `Key`."""
    return dataclasses.field(default=default, metadata={"key": Key(default, rule, words, **more)})


@functools.cache
def keys_of(section: type, prefix: str = "") -> dict[str, Key]:
    """The keys of a dataclass and of its sections by dotted name, in their order."""
    found = {}
    for field in dataclasses.fields(section):
        name = prefix + field.name
        if "key" in field.metadata:
            found[name] = dataclasses.replace(field.metadata["key"], name=name, type=field.type)
        else:
            found |= keys_of(field.type, f"{name}.")
    return found

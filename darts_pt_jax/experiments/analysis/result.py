"""The result of an analysis, of one run or of several runs that differ in their seeds alone."""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from darts_pt_jax.experiments.reporting.measures import spread


@dataclasses.dataclass(frozen=True)
class Result:
    """What an analysis found.

    Attributes:
      numbers: what holds for the whole, as a JSON value.
      rows: what was measured, all rows with the same keys.
      says: for the screen, a sentence or a Markdown table.
      figures: figures that show a single run whatever the number of runs, by file name without suffix.
    """

    numbers: dict
    rows: list[dict]
    says: str
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)


def joined(results: Mapping[str, Result]) -> Result:
    """The results of several runs, by name, as one.

    Returns:
      `numbers`: `by_run`, and `over_runs` (see `over_runs`); `rows`: with the name of their run; `figures`: likewise.
    """
    return Result(
        {"by_run": {name: one.numbers for name, one in results.items()},
         "over_runs": over_runs([one.numbers for one in results.values()])},
        [{"run": name, **row} for name, one in results.items() for row in one.rows],
        "\n\n".join(f"{name}: {one.says}" for name, one in results.items()),
        {f"{name}-{figure}": drawn for name, one in results.items() for figure, drawn in one.figures.items()},
    )  # fmt: skip


def over_runs(numbers: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean, sample standard deviation, smallest and largest value of each number that all runs have, by dotted name."""
    flat = [_flat(one) for one in numbers]
    found = {}
    for name in flat[0]:
        if all(name in one for one in flat):
            values = [one[name] for one in flat]
            mean, deviation = spread(values)
            found[name] = {"mean": mean, "sd": deviation, "smallest": min(values), "largest": max(values)}
    return found


def _flat(numbers: Mapping) -> dict[str, float]:
    """The numbers in nested dictionaries, by dotted name."""
    found = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in _flat(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found

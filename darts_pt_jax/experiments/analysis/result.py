"""The result of an analysis, of one run or of several runs that differ in their seeds alone."""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.measures import spread


@dataclasses.dataclass(frozen=True)
class Result:
    """What an analysis found.

    Attributes:
      numbers: what was found of the whole, as a JSON value; over several runs each has a mean and a range.
      rows: what was measured, all rows with the same keys.
      says: for the screen, a sentence or a Markdown table.
      figures: figures that show a single run whatever the number of runs, by file name without suffix.
      context: what `numbers` are read with, such as options and reference values, as a JSON value; nothing is averaged.
    """

    numbers: dict
    rows: list[dict]
    says: str
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    context: dict = dataclasses.field(default_factory=dict)


def joined(results: Mapping[str, Result]) -> Result:
    """The results of several runs, by name, as one.

    Returns:
      `numbers`: `by_run`, and `over_runs` (see `over_runs`); `rows`: with the name of their run; `figures`, `context`: by
      run; `says`: that of each run, then a table of `over_runs`.
    """
    summary = over_runs([one.numbers for one in results.values()])
    says = [f"{name}:{_below(one.says)}" for name, one in results.items()]
    return Result(
        {"by_run": {name: one.numbers for name, one in results.items()}, "over_runs": summary},
        [{"run": name, **row} for name, one in results.items() for row in one.rows],
        "\n\n".join([*says, _table(summary)]),
        {f"{name}-{figure}": drawn for name, one in results.items() for figure, drawn in one.figures.items()},
        {name: one.context for name, one in results.items()},
    )


def over_runs(numbers: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Of each number, by dotted name: mean, sample standard deviation, smallest, largest, and how many runs have it."""
    of_name: dict[str, list[float]] = {}
    for one in numbers:
        for name, value in _flat(one).items():
            of_name.setdefault(name, []).append(value)
    found = {}
    for name, values in of_name.items():
        mean, deviation = spread(values)
        found[name] = {
            "mean": mean, "sd": deviation, "smallest": min(values), "largest": max(values), "runs": len(values),
        }  # fmt: skip
    return found


def _table(summary: Mapping[str, Mapping[str, float]]) -> str:
    """What `over_runs` found, in Markdown."""
    lines = table_head("", "mean", "smallest", "largest", "seeds")
    for name, found in summary.items():
        values = (f"{found[which]:.4g}" for which in ("mean", "smallest", "largest"))
        lines.append(table_row(name, *values, found["runs"]))
    return "\n".join(lines)


def _below(says: str) -> str:
    """A sentence on the line that names the run, or a table below it."""
    return f"\n\n{says}" if "\n" in says else f" {says}"


def _flat(numbers: Mapping) -> dict[str, float]:
    """The numbers in nested dictionaries, by dotted name."""
    found = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in _flat(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found

"""The page that compares several runs: methods and selections, mean and spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.config.schema import Config, flatten, seed_of
from experiments.reporting import charts, render
from experiments.reporting.charts import Chart, Table
from experiments.reporting.measures import measure, spread
from experiments.reporting.records import Records

NAMED = ("search.alpha", "search.sampler", "search.unrolled", "select.method", "genotype", "space")
"""Keys that the columns of a group say."""


class Group(NamedTuple):
    """Runs that differ in seeds alone: what their row in the table is called."""

    number: str
    space: str
    method: str
    selection: str
    settings: str

    @property
    def label(self) -> str:
        """Method and selection."""
        return f"{self.method}, {self.selection}"


def build(runs: Mapping[str, tuple[Config, Records]]) -> str:
    """The page as HTML, of runs by name."""
    values = {name: measure(config, found) for name, (config, found) in runs.items()}
    measures = list(dict.fromkeys(measure for of_run in values.values() for measure in of_run))
    groups = _groups({name: config for name, (config, _) in runs.items()})
    return render.render(
        "comparison.html.j2",
        title=f"{len(runs)} runs compared",
        answers=_answers(groups, values, measures),
        table=_means(groups, values, measures),
        settings=_settings(groups),
        runs=_runs(runs, groups, values, measures),
        charts=[_chart(m, groups, values) for m in measures if m.endswith("%")],
    )


def method_of(config: Config) -> str:
    """How the supernet is trained, as the field calls it."""
    if config.genotype:
        return "retraining"
    names = {"darts": "DARTS", "fixed": "DARTS, fixed alphas", "sdarts_rs": "SDARTS-RS",
             "sdarts_rs_gaussian": "SDARTS-RS", "sdarts_adv": "SDARTS-ADV"}  # fmt: skip
    name = names.get(config.search.sampler, config.search.sampler)
    name += ", fixed alphas" if config.search.alpha == "fixed" else ""
    return name + ("" if config.search.unrolled == "off" else ", second order")


def _groups(configs: Mapping[str, Config]) -> dict[Group, list[str]]:
    """The runs that differ in seeds alone, by space, method, selection, and the settings in which groups differ."""
    flat = {name: flatten(config) for name, config in configs.items()}
    keys = sorted(compared())
    texts = {name: {key: str(of[key]) for key in keys} for name, of in flat.items()}
    differing = [key for key in keys if key not in NAMED and len({of[key] for of in texts.values()}) > 1]
    groups = {}
    for name, config in configs.items():
        settings = ", ".join(f"{key}={texts[name][key]}" for key in differing)
        space, selection = config.space * (not config.genotype), config.genotype or config.select.method
        groups.setdefault((space, method_of(config), selection, settings), []).append(name)
    return {Group(str(n), *group): names for n, (group, names) in enumerate(groups.items(), 1)}


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _means(groups: Mapping[Group, list[str]], values: Mapping, measures: Sequence[str]) -> Table:
    """A row for each group: mean and standard deviation."""
    rows = []
    for group, names in groups.items():
        cells = []
        for name in measures:
            numbers = [values[run][name] for run in names if name in values[run]]
            text = " ± ".join(_shown(value) for value in spread(numbers) if value is not None)
            cells.append(text + f" (of {len(numbers)})" * (0 < len(numbers) < len(names)))
        rows.append((group.number, group.space, group.method, group.selection, str(len(names)), *cells))
    head = ("row", "space", "method", "selection or architecture", "runs", *measures)
    shown = [i for i in range(len(head)) if any(row[i] for row in rows)]
    pick = lambda row: [row[i] for i in shown]  # noqa: E731
    return Table("Mean ± standard deviation over runs", pick(head), [pick(row) for row in rows])


def _settings(groups: Mapping[Group, list[str]]) -> Table | None:
    """The further settings in which rows differ, if any."""
    rows = [(group.number, group.label, group.settings) for group in groups if group.settings]
    return (
        Table("Settings in which the rows differ", ("row", "method and selection", "settings"), rows) if rows else None
    )


def _runs(runs: Mapping, groups: Mapping[Group, list[str]], values: Mapping, measures: Sequence[str]) -> Table:
    """A row for each run."""
    rows = []
    for group, names in groups.items():
        for name in names:
            config, found = runs[name]
            seeds = [seed_of(config, part) for part in (("retrain",) if config.genotype else ("search", "select"))]
            asked = config.stages.split(",")
            left = ("retrain" in asked and not found.retrained) or len(found.genotypes) < (
                1 if config.genotype else config.select.orders
            )
            state = "not finished" if left else "finished"
            numbers = (_shown(values[name][m]) if m in values[name] else "" for m in measures)
            rows.append((name, group.number, group.label, "/".join(map(str, dict.fromkeys(seeds))), state, *numbers))
    return Table("Every run", ("run", "row", "method and selection", "seed", "state", *measures), rows)


def _chart(name: str, groups: Mapping[Group, list[str]], values: Mapping) -> Chart:
    rows = [
        {"group": f"{group.number}: {group.label}", name: round(values[run][name], 4), "run": run}
        for group, names in groups.items()
        for run in names
        if name in values[run]
    ]
    table = Table(name, ("run", "group", name), [(row["run"], row["group"], _shown(row[name])) for row in rows])
    return Chart(charts.spreads(rows, "group", name), f"{name}: every run, and the mean of each group", table)


def _answers(groups: Mapping, values: Mapping, measures: Sequence[str]) -> list[tuple[str, str, str]]:
    """For what decides most, the best group on average."""
    of_accuracy = [m for m in ("test accuracy after retraining, last epoch, %", "c10_test, %") if m in measures]
    of_accuracy += [m for m in ("validation accuracy after selection, %",) if m in measures]
    answers = []
    for name in of_accuracy:
        means = {}
        for group, runs in groups.items():
            numbers = [values[run][name] for run in runs if name in values[run]]
            if numbers:
                means[group] = *spread(numbers), len(numbers)
        best = max(means, key=lambda group: means[group][0])
        mean, deviation, count = means[best]
        text = " ± ".join(_shown(value) for value in (mean, deviation) if value is not None)
        why = f"row {best.number}, {best.label}, {count} run{'s' * (count > 1)}"
        answers.append((f"Highest mean of {name.removesuffix(', %')}", f"{text} %", why))
    return answers

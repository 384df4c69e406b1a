"""The page that compares several runs: methods and selections, mean and spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting import charts, render
from darts_pt_jax.experiments.reporting.charts import Chart, Table
from darts_pt_jax.experiments.reporting.measures import agreement, measure, number, operations, spread
from darts_pt_jax.experiments.reporting.records import RunRecords, learns_alphas

NAMED = ("search.alpha", "search.sampler", "search.unrolled", "select.method", "genotype", "space")
"""Keys that have columns of their own."""

DECISIVE = ("test accuracy after retraining, last epoch, %", "c10_test, %", "validation accuracy after selection, %")
"""The measures whose best group stands at the head of the page."""

Values = Mapping[str, Mapping[str, float]]
"""Measures by name, for each run by name."""


class Group(NamedTuple):
    """Runs that differ in seeds alone: the words of their row in the table."""

    number: str
    space: str
    method: str
    selection: str
    settings: str

    @property
    def label(self) -> str:
        """Method and selection."""
        return f"{self.method}, {self.selection}"


Groups = Mapping[Group, Sequence[str]]
"""The names of the runs in each group."""


def build(runs: Mapping[str, tuple[Config, RunRecords]]) -> str:
    """The page as HTML, of runs by name."""
    repeated = _repeated(runs)
    runs = {name: run for name, run in runs.items() if name not in repeated}
    values = {name: measure(config, found) for name, (config, found) in runs.items()}
    measures = list(dict.fromkeys(name for numbers in values.values() for name in numbers))
    groups = _groups({name: config for name, (config, _) in runs.items()})
    return render.render(
        "comparison.html.j2",
        title=f"{len(runs)} run{'s' * (len(runs) > 1)} compared",
        repeated=repeated,
        answers=_answers(groups, values, measures),
        table=_means(groups, values, measures),
        settings=_settings(groups),
        agreements=_agreements(runs),
        runs=_runs(runs, groups, values, measures),
        charts=[_chart(name, groups, values) for name in measures if name.endswith("%")],
    )


def _repeated(runs: Mapping[str, tuple[Config, RunRecords]]) -> dict[str, str]:
    """The runs that repeat an earlier one, with the name of that one: config, seeds, images and records are the same."""
    first, repeated = {}, {}
    keys = sorted(schema.KEYS.keys() - schema.free_keys() - {"init_from"})  # a copy's supernet may be elsewhere
    for name, (config, found) in runs.items():
        said = found.run.get("data_sha256"), found.metrics, found.decisions, found.genotypes, found.retrained
        same = repr(([schema.value(config, key) for key in keys], said))
        if same in first:
            repeated[name] = first[same]
        first.setdefault(same, name)
    return repeated


def method_of(config: Config) -> str:
    """How the supernet is trained, as the field calls it."""
    if config.genotype:
        return "retraining"
    names = {"darts": "DARTS", "fixed": "DARTS", "sdarts_rs": "SDARTS-RS", "sdarts_rs_gaussian": "SDARTS-RS",
             "sdarts_adv": "SDARTS-ADV", "drnas": "DrNAS", "snas": "SNAS", "gdas": "GDAS", "pc_darts": "PC-DARTS",
             "fairdarts": "FairDARTS"}  # fmt: skip
    name = names.get(config.search.sampler, config.search.sampler)
    name += ", beta decay" if config.search.alpha_regulariser == "beta_decay" else ""
    name += "" if learns_alphas(config) else ", fixed alphas"
    return name + ("" if config.search.unrolled == "off" else ", second order")


def _groups(configs: Mapping[str, Config]) -> dict[Group, list[str]]:
    """The runs that differ in seeds alone, by space, method, selection, and the settings in which groups differ."""
    keys, groups = schema.varying(list(configs.values()), schema.compared() - set(NAMED)), {}
    for name, config in configs.items():
        settings = ", ".join(f"{key}={schema.value(config, key)}" for key in keys)
        space, selection = ("", config.genotype) if config.genotype else (config.space, config.select.method)
        groups.setdefault((space, method_of(config), selection, settings), []).append(name)
    return {Group(str(n), *group): names for n, (group, names) in enumerate(groups.items(), 1)}


def _mean_and_deviation(numbers: Sequence[float]) -> str:
    """The mean ± the standard deviation; of one number the mean alone, of none nothing."""
    return " ± ".join(number(value) for value in spread(numbers) if value is not None)


def _numbers(name: str, runs: Sequence[str], values: Values) -> list[float]:
    """A measure of those of the runs that have it."""
    return [values[run][name] for run in runs if name in values[run]]


def _means(groups: Groups, values: Values, measures: Sequence[str]) -> Table:
    """A row for each group: mean and standard deviation; columns without any entry are left out."""
    head = ("row", "space", "method", "selection or architecture", "runs", *measures)
    rows = []
    for group, runs in groups.items():
        cells = []
        for name in measures:
            numbers = _numbers(name, runs, values)
            some = f" (of {len(numbers)})" if 0 < len(numbers) < len(runs) else ""
            cells.append(_mean_and_deviation(numbers) + some)
        rows.append((group.number, group.space, group.method, group.selection, str(len(runs)), *cells))
    shown = [column for column in range(len(head)) if any(row[column] for row in rows)]
    head, *rows = ([row[column] for column in shown] for row in (head, *rows))
    return Table("Mean ± standard deviation over runs", head, rows)


def _settings(groups: Groups) -> Table | None:
    """The further settings in which rows differ, if any."""
    rows = [(group.number, group.label, group.settings) for group in groups if group.settings]
    head = ("row", "method and selection", "settings")
    return Table("Settings in which the rows differ", head, rows) if rows else None


def _agreements(runs: Mapping[str, tuple[Config, RunRecords]]) -> list[Table]:
    """For each space of which several runs have decided operations: on how many edges each two agree, in percent."""
    decided: dict[str, dict[str, dict]] = {}
    for name, (config, found) in runs.items():
        if chosen := operations(found.decisions):
            decided.setdefault(config.space, {})[name] = chosen
    tables = []
    for space, of_run in decided.items():
        shares = [(name, *(agreement(one, other) for other in of_run.values())) for name, one in of_run.items()]
        rows = [(name, *("" if share is None else f"{share:.0f}" for share in row)) for name, *row in shares]
        caption = f"{space}: edges with the same operation, in percent of those that both runs have decided"
        tables += [Table(caption, ("run", *of_run), rows)] if len(of_run) > 1 else []
    return tables


def _runs(
    runs: Mapping[str, tuple[Config, RunRecords]], groups: Groups, values: Values, measures: Sequence[str]
) -> Table:
    """A row for each run."""
    rows = []
    for group, names in groups.items():
        for name in names:
            config, found = runs[name]
            parts = ("retrain",) if config.genotype else ("search", "select")
            seeds = dict.fromkeys(str(schema.seed_of(config, part)) for part in parts)
            state = "finished" if _finished(config, found) else "not finished"
            numbers = (number(values[name][m]) if m in values[name] else "" for m in measures)
            rows.append((name, group.number, group.label, "/".join(seeds), state, *numbers))
    return Table("Every run", ("run", "row", "method and selection", "seed", "state", *measures), rows)


def _finished(config: Config, found: RunRecords) -> bool:
    """Whether the run has the architectures, and the trained network, that its config asks for."""
    orders = 1 if config.genotype else config.select.orders
    retrains = "retrain" in config.stages.split(",")
    return len(found.genotypes) >= orders and bool(found.retrained or not retrains)


def _chart(name: str, groups: Groups, values: Values) -> Chart:
    rows = [
        {"group": f"{group.number}: {group.label}", name: round(values[run][name], 4), "run": run}
        for group, names in groups.items()
        for run in names
        if name in values[run]
    ]
    table = Table(name, ("run", "group", name), [(row["run"], row["group"], number(row[name])) for row in rows])
    return Chart(charts.spreads(rows, "group", name), f"{name}: every run, and the mean of each group", table)


def _answers(groups: Groups, values: Values, measures: Sequence[str]) -> list[tuple[str, str, str]]:
    """The group with the best mean of each decisive measure: question, answer, explanation."""
    answers = []
    for name in (name for name in DECISIVE if name in measures):
        numbers = {group: _numbers(name, runs, values) for group, runs in groups.items()}
        known = [group for group in groups if numbers[group]]
        best = max(known, key=lambda group: spread(numbers[group])[0])
        count = len(numbers[best])
        why = f"row {best.number}, {best.label}, {count} run{'s' * (count > 1)}"
        mean = _mean_and_deviation(numbers[best])
        answers.append((f"Highest mean of {name.removesuffix(', %')}", f"{mean} %", why))
    return answers

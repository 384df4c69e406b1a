"""The numbers by which runs are compared, with mean and spread over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from darts_pt_jax import nasbench201, ops
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting.lines import end_of_search, ended
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.spaces import SPACES, SearchSpace


def measure(config: Config, records: RunRecords) -> dict[str, float]:
    """The numbers of a run by name; of an unfinished run, those that are there."""
    values = {}
    if result := records.retrained:
        values["test accuracy after retraining, last epoch, %"] = result["test_accuracy"]
        values["the same, best epoch by the test set, %"] = result["best_test_accuracy"]
        values["parameters of the retrained network"] = result["parameters"]
        values["multiply-adds of an image"] = result["multiply_adds"]
    over = ended(config, records.stage("search")) or records.stage("select")
    searched = end_of_search(records.metrics) if over else {}
    if "valid_accuracy" in searched:
        values["validation accuracy at the end of the search, %"] = searched["valid_accuracy"]
    if not records.genotypes:
        return values
    genotype = records.genotypes[0]
    selected = [m for m in records.stage("select") if m["order"] == 1]
    if selected and "valid_accuracy" in selected[-1]:
        values["validation accuracy after selection, %"] = selected[-1]["valid_accuracy"]
    for kind in plain_kinds(None if config.genotype else SPACES[config.space], genotype):
        values[f"operations without parameters, {kind} cell"] = without_parameters(genotype, kind)
    if config.report.nasbench201 and genotype.notation == "nasbench201":
        accuracies = nasbench201.Table(config.report.nasbench201).accuracies(genotype.text("nasbench201"))
        values |= {f"{name}, %": accuracies[name] for name in nasbench201.SUMMARY}
    return values


def plain_kinds(space: SearchSpace | None, genotype: Genotype | None = None) -> list[str]:
    """The cell kinds that do not reduce; in those that do, skip_connect has parameters.

    The graphs of a space say which reduce. A genotype without a space is read as `darts_pt_jax.network` builds it,
    where "reduce" does.
    """
    if space:
        return [kind for kind, graph in space.cells.items() if not graph.reduction]
    return [kind for kind in genotype.cells if kind != "reduce"]


def without_parameters(genotype: Genotype, kind: str) -> int:
    """How many operations of one of the `plain_kinds` have no parameters."""
    return sum(not ops.has_parameters(name) for name in genotype.operations(kind))


def benchmark(path: str, genotypes: Mapping[str, Genotype]) -> tuple[list[str], list[list[str]]]:
    """Accuracies and rank in NAS-Bench-201 of architectures and of random choice, as head and rows of a table.

    Raises:
      TableError: the file is not such a table, or lacks an architecture.
    """
    table, names = nasbench201.Table(path), nasbench201.SUMMARY
    rows = []
    for method, genotype in genotypes.items():
        arch = genotype.text("nasbench201")
        accuracies = table.accuracies(arch)
        label = "given" if method == "given" else f"by {method}"
        rows.append([label, *(f"{accuracies[name]:.2f}" for name in names), str(table.rank(arch))])
    random = {name: table.random_choice(name) for name in names}
    for label in random[names[0]]:
        rows.append([f"random choice: {label}", *(f"{random[name][label]:.2f}" for name in names), ""])
    return ["architecture", *names, f"rank of {len(table):,}"], rows


def alternatives(records: RunRecords) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    """The architectures next to the choice, as head and rows of a table; None if the run wrote none."""
    rows = [
        (f"{one['rank']}", f"{one['behind']:.4g}", "; ".join(one["changes"]), f"genotype_top{one['rank']}.json")
        for one in records.alternatives
    ]
    head = "rank", "behind the choice by", "differs in", "file"
    return (head, rows) if rows else None


def networks(records: RunRecords) -> tuple[list[str], list[list[str]], str] | None:
    """Head and rows of a table with the size and latency of each discrete network, and a note; None if not measured."""
    found = records.networks
    if not found:
        return None
    if "error" in found[0]:
        return [], [], f"There is none: {found[0]['error']}."
    rows = []
    for one in found:
        latency = f"{one['milliseconds']:.3g}" if "milliseconds" in one else ""
        rows.append([one["architecture"], f"{one['parameters']:,}", f"{one['multiply_adds']:,}", latency])
    one, device = found[0], next((one["device"] for one in found if "device" in one), "")
    cells = f"{one['cells']} cells" + " a stage" * (one["form"] == "nasbench201")
    note = f"{cells} of {one['channels']} channels, images of {'x'.join(map(str, one['image']))}."
    if device:
        note += f" The time is of one image at a time on {device}, of what the run has chosen."
    return ["architecture", "parameters", "multiply-adds", "ms an image"], rows, note


def operations(decisions: Sequence[Mapping], order: int = 1) -> dict[tuple[str, int], str]:
    """The operation of each edge (kind, number) that an order has decided."""
    taken = [d for d in decisions if d["type"] == "operation" and d["order"] == order]
    return {(d["kind"], d["edge"]): d["choice"] for d in sorted(taken, key=lambda d: (d["kind"], d["edge"]))}


def agreement(one: Mapping, other: Mapping) -> float | None:
    """On how many percent of the edges that both have decided two selections chose the same; None if there are none."""
    shared = one.keys() & other.keys()
    return 100 * sum(one[edge] == other[edge] for edge in shared) / len(shared) if shared else None


def spread(numbers: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None for each that needs more numbers than there are."""
    mean = float(np.mean(numbers)) if len(numbers) else None
    return mean, float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def correlation(one: list[float], other: list[float]) -> dict[str, float | None]:
    """Spearman's and Kendall's rank correlation; None where one side does not vary."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return {"spearman": None, "kendall": None}
    found = {"spearman": stats.spearmanr(one, other), "kendall": stats.kendalltau(one, other)}
    return {name: float(result.statistic) for name, result in found.items()}


def number(value: float) -> str:
    """A number as tables show it: a count whole, any other with two decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"

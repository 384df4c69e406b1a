"""What is compared of several runs, and its mean and spread over seeds."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from darts_pt_jax import nasbench201, ops
from darts_pt_jax.genotype import Genotype
from experiments.config.schema import Config
from experiments.reporting.records import Records
from experiments.stages.lines import end_of_search, ended


def measure(config: Config, records: Records) -> dict[str, float]:
    """Numbers of a run by name; of one that is not finished, those that there are."""
    values = {}
    if result := records.retrained:
        values["test accuracy after retraining, last epoch, %"] = result["test_accuracy"]
        values["the same, best epoch by the test set, %"] = result["best_test_accuracy"]
        values["parameters of the retrained network"] = result["parameters"]
        values["multiply-adds of an image"] = result["multiply_adds"]
    over = ended(config, records.of("search")) or records.of("select")
    searched = end_of_search(records.metrics) if over else {}
    if "valid_accuracy" in searched:
        values["validation accuracy at the end of the search, %"] = searched["valid_accuracy"]
    if not records.genotypes:
        return values
    genotype = records.genotypes[0]
    if selected := [m for m in records.of("select") if m["order"] == 1]:
        values["validation accuracy after selection, %"] = selected[-1]["valid_accuracy"]
    for kind in genotype.cells:
        if kind != "reduce":  # there, skip_connect has parameters
            values[f"operations without parameters, {kind} cell"] = without_parameters(genotype, kind)
    if config.report.nasbench201 and genotype.notation == "nasbench201":
        accuracies = nasbench201.Table(config.report.nasbench201).accuracies(genotype.text("nasbench201"))
        values |= {f"{name}, %": accuracies[name] for name in nasbench201.SUMMARY}
    return values


def without_parameters(genotype: Genotype, kind: str) -> int:
    """How many operations of a cell kind that does not reduce have no parameters."""
    return sum(not ops.has_parameters(name) for name in genotype.operations(kind))


def spread(numbers: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation of a sample, of as many numbers as there are."""
    mean = float(np.mean(numbers)) if len(numbers) else None
    return mean, float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def correlation(one: list[float], other: list[float]) -> dict[str, float | None]:
    """Spearman's and Kendall's rank correlation; None where one of the two does not vary or has a single value."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return {"spearman": None, "kendall": None}
    found = {"spearman": stats.spearmanr(one, other), "kendall": stats.kendalltau(one, other)}
    return {name: float(of.statistic) for name, of in found.items()}


def number(value: float) -> str:
    """A number as tables show it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

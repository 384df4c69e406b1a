"""How to read the lines of metrics.jsonl, and the names of a run's files."""

from collections.abc import Sequence

from darts_pt_jax.experiments.config.schema import Config


def ended(config: Config, lines: Sequence[dict]) -> bool:
    """Whether the search is over: the last of its lines is of the last epoch, or of the one that stopped it."""
    return bool(lines) and (lines[-1]["epoch"] == config.search.epochs or "returned_to" in lines[-1])


def end_of_search(metrics: Sequence[dict]) -> dict:
    """The line of the epoch whose supernet the search ended with."""
    lines = {m["epoch"]: m for m in metrics if m["stage"] == "search"}
    last = lines[max(lines)]
    return lines[last.get("returned_to", last["epoch"])]


def genotype_name(order: int) -> str:
    """The name, without suffix, of the files with an order's architecture; orders count from 0."""
    return "genotype" if order == 0 else f"genotype_order{order + 1}"

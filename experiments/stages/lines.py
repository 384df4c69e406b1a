"""How the lines of metrics.jsonl and the files of a run are to be read."""

from collections.abc import Sequence

from experiments.config.schema import Config


def ended(config: Config, lines: Sequence[dict]) -> bool:
    """Whether the search's lines of metrics.jsonl are all that there will be: every epoch, or up to where it was stopped."""
    return bool(lines) and (lines[-1]["epoch"] == config.search.epochs or "returned_to" in lines[-1])


def end_of_search(metrics: Sequence[dict]) -> dict:
    """Of the lines of metrics.jsonl, that of the epoch whose supernet the search ended with."""
    lines = {m["epoch"]: m for m in metrics if m["stage"] == "search"}
    last = lines[max(lines)]
    return lines[last.get("returned_to", last["epoch"])]


def genotype_name(order: int) -> str:
    """What the files of an order's architecture are called, without suffix."""
    return "genotype" if order == 0 else f"genotype_order{order + 1}"

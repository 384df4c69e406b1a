"""The stage `report`: what was found, from the records of the run alone."""

import numpy as np

from darts_pt_jax import nasbench201, ops, record
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.settings import Settings


def write(settings: Settings) -> bool:
    """Writes report.md and prints it, unless it stands there already; returns whether it did."""
    text, file = build(settings), settings.workdir / "report.md"
    if file.exists() and file.read_text() == text:
        return False
    record.write_text(file, text)
    print(text)
    return True


def build(settings: Settings) -> str:
    """The report as Markdown."""
    config, directory = settings.config, settings.workdir
    space = SPACES[config.space]
    metrics = record.JsonLines(directory / "metrics.jsonl").read()
    decisions = record.JsonLines(directory / "decisions.jsonl").read()
    searched = [m for m in metrics if m["stage"] == "search"][-1]
    genotypes = {config.select.method: Genotype.from_json((directory / "genotype.json").read_text())}
    if config.search.alpha == "learned" and config.select.method != "magnitude":
        genotypes["magnitude"] = by_magnitude(space, searched["edge_weights"])
    lines = [f"# {config.space}, seed {config.seed}", ""]
    lines += _accuracies(searched, [m for m in metrics if m["stage"] == "select"])
    lines += ["", "## Operations chosen", "", *_operations(space, genotypes), ""]
    if config.select.method == "perturbation":
        lines += [_agreement(decisions, searched["edge_weights"], config.search.alpha), ""]
    for method, genotype in genotypes.items():
        lines += [f"By {method}:", "", "```", genotype.text(space.notation), "```", ""]
    if space.notation == "nasbench201":
        lines += _benchmark(config.report.nasbench201, genotypes)
    return "\n".join(lines)


def by_magnitude(space: SearchSpace, edge_weights: dict) -> Genotype:
    """The architecture that magnitude selection reads off the recorded edge weights (lists by cell kind)."""
    padded = {}
    for kind, graph in space.cells.items():
        padded[kind] = np.array([row + [0.0] * (graph.width - len(row)) for row in edge_weights[kind]])
    return direct.magnitude(space, padded, np.random.RandomState(0)).genotype(space)


def _accuracies(searched: dict, tuned: list[dict]) -> list[str]:
    rows = [("at the end of the search", searched)] + [("after selection", t) for t in tuned[-1:]]
    lines = ["| supernet | training accuracy, % | validation accuracy, % |", "|---|---|---|"]
    for name, m in rows:
        lines.append(f"| {name} | {m['train_accuracy']:.2f} | {m.get('valid_accuracy', float('nan')):.2f} |")
    note = "Training accuracy is that of the epoch's own augmented batches, validation that of unaugmented images with running statistics."
    return [*lines, "", note]


def _operations(space: SearchSpace, genotypes: dict[str, Genotype]) -> list[str]:
    lines = ["| cell | operation | " + " | ".join(genotypes) + " |", "|---|---|" + "---|" * len(genotypes)]
    for kind, graph in space.cells.items():
        names = dict.fromkeys(name for edge in graph.edges for name in edge.candidates)
        for name in names:
            counts = [genotype.operations(kind).count(name) for genotype in genotypes.values()]
            lines.append(f"| {kind} | {name} | " + " | ".join(map(str, counts)) + " |")
        if not graph.reduction:  # there, skip_connect has parameters
            free = [sum(not ops.has_parameters(o) for o in g.operations(kind)) for g in genotypes.values()]
            lines.append(f"| {kind} | *without parameters* | " + " | ".join(map(str, free)) + " |")
    return lines


def _agreement(decisions: list[dict], edge_weights: dict, alpha: str) -> str:
    taken = [d for d in decisions if d["type"] == "operation"]
    same = sum(int(np.argmax(edge_weights[d["kind"]][d["edge"]])) == d["choice_index"] for d in taken)
    tied = sum(d["margin"] == 0 and len(d["eligible"]) > 1 for d in taken)
    text = f"{len(taken)} operation decisions, {tied} of them by a tie"
    return text + (f"; {same} chose the operation with the largest alpha." if alpha == "learned" else ".")


def _benchmark(path: str, genotypes: dict[str, Genotype]) -> list[str]:
    if not path:
        return ["No accuracies: name a NAS-Bench-201 table by --config.report.nasbench201=FILE.npz.", ""]
    table = nasbench201.Table(path)
    names = ("c10_test", "c100_test", "in16_test")
    lines = [
        "## NAS-Bench-201",
        "",
        "| architecture | " + " | ".join(names) + " | rank of 15,625 |",
        "|---|---|---|---|---|",
    ]
    for method, genotype in genotypes.items():
        arch = genotype.text("nasbench201")
        row = table.accuracies(arch)
        lines.append(f"| by {method} | " + " | ".join(f"{row[n]:.2f}" for n in names) + f" | {table.rank(arch)} |")
    baselines = {"random choice, median": np.median, "random choice, mean": np.mean, "the best there is": np.max}
    for name, statistic in baselines.items():
        values = " | ".join(f"{statistic(table.column(n)):.2f}" for n in names)
        lines.append(f"| {name} | {values} | |")
    return [*lines, ""]

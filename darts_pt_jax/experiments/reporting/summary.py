"""The text of report.md: a summary of what was found, and details."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting import cautions, decisions, measures
from darts_pt_jax.experiments.reporting.lines import end_of_search
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.records import RunRecords, learns_alphas
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty, direct
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.methods import METHODS, drawn
from darts_pt_jax.spaces import SPACES, SearchSpace


def build(config: Config, records: RunRecords) -> tuple[str, str]:
    """Summary and details as Markdown."""
    if config.genotype:
        return _retrained_only(config, records), ""
    genotypes = records.architectures(config)
    return _summary(config, records, genotypes), _details(config, records, genotypes)


def _retrained_only(config: Config, records: RunRecords) -> str:
    """The report of a run that retrains a given architecture."""
    (genotype,) = records.genotypes
    lines = [f"# Retrained with seed {schema.seed_of(config, 'retrain')}"]
    lines += _retraining(config, records)
    lines += _cautions(records)
    lines += ["", "```", genotype.text(genotype.notation), "```", "", *_networks(records)]
    if genotype.notation == "nasbench201":
        lines += _benchmark(config.report.nasbench201, {"given": genotype})
    return "\n".join(lines)


def _summary(config: Config, records: RunRecords, genotypes: Mapping[str, Genotype]) -> str:
    space, select, first = SPACES[config.space], config.select, records.genotypes[0]
    seeds = f"seed {schema.seed_of(config, 'search')}, selected with seed {schema.seed_of(config, 'select')}"
    lines = [f"# {space.name}, {seeds}", "", *_accuracies(records), *_stopped(records), *_retraining(config, records)]
    lines += _cautions(records)
    of_order = " of order 1" if select.orders > 1 else ""
    lines += ["", f"## Architecture{of_order}", "", *_architecture(space, records.decisions, first), ""]
    lines += ["```", first.text(space.notation), "```", ""]
    if select.orders > 1:
        lines += ["## Orders", "", *_orders(space, records.decisions, select.orders), ""]
    if found := measures.alternatives(records):
        head, rows = found
        lines += ["## Alternatives", "", *table_head(*head), *(table_row(*row) for row in rows), ""]
    lines += _networks(records)
    if space.notation == "nasbench201":
        lines += _benchmark(config.report.nasbench201, genotypes)
    return "\n".join(lines)


def _details(config: Config, records: RunRecords, genotypes: Mapping[str, Genotype]) -> str:
    space = SPACES[config.space]
    lines = ["## Operations", "", *_operations(space, genotypes), ""]
    if METHODS[config.select.method].scores:
        lines += [_agreement(config, records), ""]
    if limited := decisions.limited(schema.limits(config), records.decisions):
        lines += [limited, ""]
    for method, genotype in genotypes.items():
        lines += [f"By {method}:", "", "```", genotype.text(space.notation), "```", ""]
    return "\n".join(lines)


def _accuracies(records: RunRecords) -> list[str]:
    """The supernet's accuracies at the end of the search and of each order's selection."""
    tuned = records.stage("select")
    last = {m["order"]: m for m in tuned}
    rows = [("at the end of the search", end_of_search(records.metrics))]
    rows += [("after selection" + (f", order {order}" if len(last) > 1 else ""), m) for order, m in last.items()]
    lines = table_head("supernet", "training accuracy, %", "validation accuracy, %")
    for name, m in rows:
        values = (m.get(f"{half}_accuracy") for half in ("train", "valid"))
        lines.append(table_row(name, *("not looked at" if v is None else f"{v:.2f}" for v in values)))
    note = "Training accuracy is that of the epoch's own augmented batches, validation that of unaugmented images with running statistics."
    return [*lines, "", note]


def _stopped(records: RunRecords) -> list[str]:
    """A sentence about a search that its curvature ended."""
    stopped = next((m for m in records.metrics if "returned_to" in m), None)
    if not stopped:
        return []
    returned = end_of_search(records.metrics)["epoch"]
    return [
        "",
        f"The search was stopped after epoch {stopped['epoch']}, as the Hessian's largest eigenvalue in the alphas had "
        f"grown to {stopped['curvature']:.4g}, and returned to epoch {returned}.",
    ]


def _retraining(config: Config, records: RunRecords) -> list[str]:
    """The discrete network's accuracy on the test set, if it has been trained to its end."""
    result = records.retrained
    if not result:
        done = len(records.stage("retrain"))
        return ["", f"Retraining is not finished: {done} of {config.retrain.epochs} epochs are done."] if done else []
    last, best = (f"{result[name]:.2f}" for name in ("test_accuracy", "best_test_accuracy"))
    return [
        "", "## Retrained network", "", *table_head("", "test accuracy, %"),
        table_row(f"after epoch {result['epochs']}, the last", last),
        table_row(f"after epoch {result['best_epoch']}, the best on the test set itself", best),
    ]  # fmt: skip


def _cautions(records: RunRecords) -> list[str]:
    found = cautions.of_run(records.decisions, records.metrics, records.genotypes)
    return [line for text in found for line in ("", f"**Warning:** {text}.")]


def _networks(records: RunRecords) -> list[str]:
    """The size of the discrete networks, if stage `report` has measured it, and their latency."""
    found = measures.networks(records)
    if found is None:
        return []
    head, rows, note = found
    table = [*table_head(*head), *(table_row(*row) for row in rows), ""] if rows else []
    return ["## Discrete network", "", *table, note, ""]


def _architecture(space: SearchSpace, decisions: Sequence[Mapping], genotype: Genotype) -> list[str]:
    """Each kept edge with its operation and the lead by which that was chosen."""
    operations = [d for d in decisions if d["order"] == 1 and d["type"] == "operation"]
    taken = {(d["kind"], d["edge"]): d for d in operations}
    lines = table_head("cell", "node", "from", "operation", "ahead of the next by")
    for kind, graph in space.cells.items():
        edges = {(edge.source, edge.target): e for e, edge in enumerate(graph.edges)}
        for number, node in enumerate(genotype.cells[kind]):
            for operation, source in node:
                lead = _lead(taken[kind, edges[source, number + graph.inputs]])
                lines.append(table_row(kind, number, graph.state_name(source), operation, lead))
    return lines


def _lead(decision: Mapping) -> str:
    """By how much the operation of a decision was ahead, in words."""
    if drawn(decision):
        return "chosen at random"
    if len(decision.get("eligible", ())) == 1:  # of operations
        return "no other may be chosen"
    if "criterion" not in decision:
        return f"{decision['margin']:.4g} in {direct.values_of(decision)[0]}"
    criterion = CRITERIA[decision["criterion"]]
    unit = f"of {decision['images']} {criterion.unit}" if criterion.counts else criterion.unit
    return f"{decision['margin']:.4g} {unit}"


def _orders(space: SearchSpace, decisions: Sequence[Mapping], orders: int) -> list[str]:
    """How often each operation was chosen, and each edge kept, over all orders of edges."""
    chosen, dropped = collections.Counter(), collections.Counter()
    for d in decisions:
        if d["type"] == "operation":
            chosen[d["kind"], d["edge"], d["choice"]] += 1
        else:
            dropped.update((d["kind"], e) for e in d["edges"] if e not in d["choice"])
    lines = [f"Of {orders} selections from the same supernet, this many chose each operation and kept each edge:", ""]
    lines += table_head("cell", "edge", "from", "to node", "operation", "kept")
    agreed = 0
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            counts = [(chosen[kind, e, name], name) for name in edge.candidates]
            text = ", ".join(f"{name} {count}" for count, name in sorted(counts, key=lambda c: -c[0]) if count)
            agreed += max(counts)[0] == orders
            source, node = graph.state_name(edge.source), edge.target - graph.inputs
            lines.append(table_row(kind, e, source, node, text, orders - dropped[kind, e]))
    edges = sum(len(graph.edges) for graph in space.cells.values())
    return [*lines, "", f"All selections agree on the operation of {agreed} of {edges} edges."]


def _operations(space: SearchSpace, genotypes: Mapping[str, Genotype]) -> list[str]:
    """How often each architecture has each operation."""
    lines, plain = table_head("cell", "operation", *genotypes), measures.plain_kinds(space)
    for kind, graph in space.cells.items():
        for name in dict.fromkeys(name for edge in graph.edges for name in edge.candidates):
            counts = (genotype.operations(kind).count(name) for genotype in genotypes.values())
            lines.append(table_row(kind, name, *counts))
        if kind in plain:
            free = [measures.without_parameters(genotype, kind) for genotype in genotypes.values()]
            lines.append(table_row(kind, "*without parameters*", *free))
    return lines


def _agreement(config: Config, records: RunRecords) -> str:
    """How many decisions were ties, and how many agree with the alphas."""
    edge_weights = end_of_search(records.metrics)["edge_weights"]
    taken = [d for d in records.decisions if d["type"] == "operation"]
    tied = sum(map(certainty.is_tie, taken))
    text = f"{len(taken)} operation decisions, {tied} of them by a tie"
    raced = decisions.raced(records.decisions)
    if not learns_alphas(config):
        return f"{text}. {raced}".strip()
    same = sum(int(np.argmax(edge_weights[d["kind"]][d["edge"]])) == d["choice_index"] for d in taken)
    return f"{text}; {same} chose the operation with the largest alpha. {raced}".strip()


def _benchmark(path: str, genotypes: Mapping[str, Genotype]) -> list[str]:
    if not path:
        return ["No accuracies: name a NAS-Bench-201 table by --config.report.nasbench201=FILE.npz.", ""]
    head, rows = measures.benchmark(path, genotypes)
    return ["## NAS-Bench-201", "", *table_head(*head), *(table_row(*row) for row in rows), ""]


def times(records: RunRecords) -> str:
    """A table of the seconds and images of each phase."""
    lines = table_head("phase", "seconds", "of them compiling", "images", "images/s without compiling")
    for name, (seconds, compiling, images) in records.phases().items():
        rate = f"{images / (seconds - compiling):.0f}" if images and seconds > compiling else ""
        lines.append(table_row(name, f"{seconds:.1f}", f"{compiling:.1f}", f"{images:,.0f}", rate))
    return "\n".join(lines)

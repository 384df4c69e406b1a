"""The stage `report`: report.md, report.html and the drawings, from the records of the run alone."""

import collections
import json
import pathlib

import jax
import numpy as np

from darts_pt_jax import draw, network, record
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.config.schema import seed_of
from experiments.config.settings import Settings
from experiments.engine.scalars import Scalars
from experiments.reporting import page
from experiments.reporting.markdown import table_head, table_row
from experiments.reporting.measures import without_parameters
from experiments.reporting.records import Records, benchmark
from experiments.stages.lines import end_of_search, genotype_name
from experiments.training import network as retraining


def write(settings: Settings) -> str | None:
    """Writes report.md, report.html and the drawings, unless they stand there already; returns what the screen shows of it.

    TensorBoard's view is written anew before: a kill may have cut it short. report.md, the last, says that all is there.
    """
    config, workdir = settings.config, settings.workdir
    records, files = Records.read(workdir, config), [workdir / name for name in ("report.html", "report.md")]
    summary, details = build(settings, records)
    texts = [page.build(config, records), f"{summary}\n{details}"]
    if all(file.exists() and file.read_text() == text for file, text in zip(files, texts, strict=True)):
        return None
    _draw(workdir / "drawings", records)
    if config.tensorboard:
        Scalars(workdir / "tensorboard", records.metrics + records.decisions).close()
    for file, text in zip(files, texts, strict=True):
        record.write_text(file, text)
    return f"{summary}\n## Time\n\n{_times(records)}\n"


def build(settings: Settings, records: Records) -> tuple[str, str]:
    """The report as Markdown: a summary, and details."""
    config, decisions = settings.config, records.decisions
    if config.genotype:
        return _of_genotype(settings, records), ""
    space, select = SPACES[config.space], config.select
    searched = end_of_search(records.metrics)
    genotypes = records.names(config)
    summary = [f"# {space.name}, seed {seed_of(config, 'search')}, selected with seed {seed_of(config, 'select')}", ""]
    summary += _accuracies(searched, [m for m in records.metrics if m["stage"] == "select"])
    if stopped := [m for m in records.metrics if "returned_to" in m]:
        summary += ["", f"The search was stopped after epoch {stopped[0]['epoch']}, as the Hessian's largest eigenvalue in "
                    f"the alphas had grown to {stopped[0]['curvature']:.4g}, and went back to epoch {searched['epoch']}."]  # fmt: skip
    summary += _retrained(records.retrained, records.metrics, config.retrain.epochs)
    of_order = " of order 1" if select.orders > 1 else ""
    summary += ["", f"## Architecture{of_order}", "", *_architecture(space, decisions, records.genotypes[0]), ""]
    summary += ["```", records.genotypes[0].text(space.notation), "```", ""]
    if select.orders > 1:
        summary += ["## Orders", "", *_orders(space, decisions, select.orders), ""]
    summary += _networks(settings, records, genotypes)
    if space.notation == "nasbench201":
        summary += _benchmark(config.report.nasbench201, genotypes)
    details = ["## Operations", "", *_operations(space, genotypes), ""]
    if "perturbation" in select.method:
        details += [_agreement(decisions, searched["edge_weights"], config.search.alpha), ""]
    for method, genotype in genotypes.items():
        details += [f"By {method}:", "", "```", genotype.text(space.notation), "```", ""]
    return "\n".join(summary), "\n".join(details)


def _of_genotype(settings: Settings, records: Records) -> str:
    """The report of a run that only retrains."""
    (genotype,) = records.genotypes
    config = settings.config
    lines = [f"# Retrained with seed {seed_of(config, 'retrain')}"]
    lines += _retrained(records.retrained, records.metrics, config.retrain.epochs)
    lines += ["", "```", genotype.text(genotype.notation), "```", ""]
    lines += _networks(settings, records, {"given": genotype})
    if genotype.notation == "nasbench201":
        lines += _benchmark(config.report.nasbench201, {"given": genotype})
    return "\n".join(lines)


def _networks(settings: Settings, records: Records, genotypes: dict[str, Genotype]) -> list[str]:
    """Size of the discrete networks, with the latency of those that the run is about."""
    config, run = settings.config, records.run
    if "classes" not in run:  # begun by an earlier version
        return []
    lines = ["## Discrete network", "", *table_head("architecture", "parameters", "multiply-adds", "ms an image")]
    for name, genotype in genotypes.items():
        try:
            net = retraining.discrete_network(config, genotype, run["classes"])
        except ValueError as error:
            return ["## Discrete network", "", f"There is none: {error}.", ""]
        parameters, multiply_adds = network.size(net, run["image_shape"])
        timed = config.report.latency and genotype in records.genotypes
        latency = f"{_latency(settings.workdir, net, run['image_shape']):.3g}" if timed else ""
        lines.append(table_row(name, f"{parameters:,}", f"{multiply_adds:,}", latency))
    cells = f"{config.retrain.cells} cells" + " a stage" * (net.form == "nasbench201")
    note = f"{cells} of {config.retrain.channels} channels, images of {_size(run['image_shape'])}."
    if config.report.latency:
        note += f" The time is of one image at a time on {jax.devices()[0].device_kind}, of what the run has chosen."
    return [*lines, "", note, ""]


def _size(image_shape: list[int]) -> str:
    return "x".join(map(str, image_shape))


def _latency(workdir: pathlib.Path, net: network.Network, image_shape: list[int]) -> float:
    """Measured once for a run directory and a device, and then kept in latency.json: the report stays as it is."""
    file = workdir / "latency.json"
    known = json.loads(file.read_text()) if file.exists() else []
    what = {
        "device": jax.devices()[0].device_kind, "precision": jax.numpy.dtype(net.dtype).name, "image": _size(image_shape),
        "form": net.form, "cells": net.cells, "channels": net.channels, "genotype": net.genotype.text(net.genotype.notation),
    }  # fmt: skip
    for entry in known:
        if {**entry, **what} == entry:
            return entry["milliseconds"]
    known.append({"milliseconds": network.latency(net, image_shape), **what})
    record.write_text(file, json.dumps(known, indent=1) + "\n")
    return known[-1]["milliseconds"]


def _retrained(result: dict | None, metrics: list[dict], epochs: int) -> list[str]:
    """The discrete network's accuracy on the test set, if it has been trained to its end."""
    if not result:
        done = sum(m["stage"] == "retrain" for m in metrics)
        return ["", f"Retraining is not finished: {done} of {epochs} epochs are done."] if done else []
    last, best = (f"{result[name]:.2f}" for name in ("test_accuracy", "best_test_accuracy"))
    return [
        "", "## Retrained network", "", *table_head("", "test accuracy, %"),
        table_row(f"after epoch {result['epochs']}, the last", last),
        table_row(f"after epoch {result['best_epoch']}, the best on the test set itself", best),
    ]  # fmt: skip


def _draw(directory: pathlib.Path, records: Records):
    """The cells of every order, and the supernet's accuracy over its decisions where that was looked at."""
    directory.mkdir(exist_ok=True)
    for order, genotype in enumerate(records.genotypes):
        suffix = genotype_name(order).removeprefix("genotype")
        for kind in genotype.cells:
            draw.save(draw.cell(genotype, kind), directory / f"{kind}{suffix}")
        taken = [d for d in records.decisions if d["order"] == order + 1]
        tuning = [m for m in records.metrics if m["stage"] == "select" and m["order"] == order + 1]
        if any(m["tuning_epoch"] for m in tuning) or any("baseline" in d or "passes" in d for d in taken):
            draw.save(draw.accuracy(taken, tuning), directory / f"accuracy{suffix}")


def _accuracies(searched: dict, tuned: list[dict]) -> list[str]:
    last = {m["order"]: m for m in tuned}  # of every order, the last epoch
    rows = [("at the end of the search", searched)]
    rows += [("after selection" + (f", order {order}" if len(last) > 1 else ""), m) for order, m in last.items()]
    lines = table_head("supernet", "training accuracy, %", "validation accuracy, %")
    for name, m in rows:
        values = (m.get(f"{half}_accuracy") for half in ("train", "valid"))
        lines.append(table_row(name, *("not looked at" if v is None else f"{v:.2f}" for v in values)))
    note = "Training accuracy is that of the epoch's own augmented batches, validation that of unaugmented images with running statistics."
    if any(m["tuning_epoch"] == 0 for m in tuned):
        note += " Nothing was tuned after the decisions: it is the supernet just cut down, and says little of the architecture."
    return [*lines, "", note]


def _architecture(space: SearchSpace, decisions: list[dict], genotype: Genotype) -> list[str]:
    """Every kept edge with its operation and by how much it was chosen."""
    margins = {(d["kind"], d["edge"]): d for d in decisions if d["order"] == 1 and d["type"] == "operation"}
    lines = table_head("cell", "node", "from", "operation", "ahead of the next by")
    for kind, graph in space.cells.items():
        edges = {(edge.source, edge.target): e for e, edge in enumerate(graph.edges)}
        for number, node in enumerate(genotype.cells[kind]):
            for operation, source in node:
                taken = margins[kind, edges[source, number + graph.inputs]]
                units = {"acc": f"of {taken.get('images')} images", "loss": "in loss", None: "in weight"}
                lead = f"{taken['margin']:.4g} {units[taken.get('criterion')]}"
                lead = "chosen at random" if taken.get("method") == "random" else lead
                lines.append(table_row(kind, number, graph.state_name(source), operation, lead))
    return lines


def _orders(space: SearchSpace, decisions: list[dict], orders: int) -> list[str]:
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
            source, target, kept = (
                graph.state_name(edge.source),
                edge.target - graph.inputs,
                orders - dropped[kind, e],
            )
            lines.append(table_row(kind, e, source, target, text, kept))
    edges = sum(len(graph.edges) for graph in space.cells.values())
    return [*lines, "", f"All selections agree on the operation of {agreed} of {edges} edges."]


def _operations(space: SearchSpace, genotypes: dict[str, Genotype]) -> list[str]:
    lines = table_head("cell", "operation", *genotypes)
    for kind, graph in space.cells.items():
        names = dict.fromkeys(name for edge in graph.edges for name in edge.candidates)
        for name in names:
            lines.append(
                table_row(kind, name, *(genotype.operations(kind).count(name) for genotype in genotypes.values()))
            )
        if not graph.reduction:  # there, skip_connect has parameters
            free = [without_parameters(genotype, kind) for genotype in genotypes.values()]
            lines.append(table_row(kind, "*without parameters*", *free))
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
    head, rows = benchmark(path, genotypes)
    return ["## NAS-Bench-201", "", *table_head(*head), *(table_row(*row) for row in rows), ""]


def _times(records: Records) -> str:
    """Seconds and images of every phase."""
    lines = table_head("phase", "seconds", "of them compiling", "images", "images/s without compiling")
    for name, (seconds, compiling, images) in records.phases().items():
        rate = f"{images / (seconds - compiling):.0f}" if images else ""
        lines.append(table_row(name, f"{seconds:.1f}", f"{compiling:.1f}", f"{images:,.0f}", rate))
    return "\n".join(lines)

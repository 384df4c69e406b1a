"""The report page of one run: report.html, made from its records alone, finished or not."""

import io
import itertools
import json
import shlex
from collections.abc import Sequence

import matplotlib

from darts_pt_jax import draw
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import noise
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.config.schema import Config, flatten, seed_of
from experiments.reporting import charts, decisions, records, render
from experiments.reporting.charts import Chart, Table
from experiments.reporting.records import Records
from experiments.stages.lines import end_of_search
from experiments.stages.pipeline import pipeline


def build(config: Config, found: Records) -> str:
    """The page as HTML; equal records give equal bytes.

    Raises:
      TableError: report.nasbench201 is no table.
    """
    space, names = SPACES[config.space], found.names(config)
    lookup = config.report.nasbench201 and names and all(g.notation == "nasbench201" for g in names.values())
    benchmark = records.benchmark(config.report.nasbench201, names) if lookup else None
    taken = [decisions.described(space, config, d) for d in found.decisions]
    return render.render(
        "run.html.j2",
        title=_title(config, found),
        answers=_answers(config, found, taken, benchmark),
        cells=[cell for order, g in enumerate(found.genotypes) for cell in _cells(g, order, len(found.genotypes))],
        texts=[(name, g.text(g.notation)) for name, g in names.items()],
        decisions=taken,
        leads=decisions.leads(config, taken),
        errors="recorded" if any("paired" in c.scores for d in taken for c in d["contests"]) else "missing",
        criterion=config.select.criterion,
        images=next((c.scores["images"] for d in taken for c in d["contests"]), 0),
        accuracies=_accuracies(found),
        alphas=_alphas(space, config, found),
        benchmark=benchmark and Table("Test accuracy in percent, from the table of NAS-Bench-201", *benchmark),
        is_benchmark=any(g.notation == "nasbench201" for g in found.genotypes),
        times=_times(found),
        facts=_facts(config, found),
        command=[shlex.quote(part) for part in records.command(found)],
        settings=_settings(found),
    )


def _title(config: Config, found: Records) -> str:
    if config.genotype:
        name = config.genotype if len(config.genotype) < 80 else "an architecture"
        return f"Retraining {name}, seed {seed_of(config, 'retrain')}"
    return f"{config.space}: selection by {config.select.method}, seed {seed_of(config, 'select')}"


def _answers(config: Config, found: Records, decisions: Sequence[dict], benchmark) -> list[tuple[str, str, str]]:
    """What was chosen, how sure, how good: question, answer, explanation."""
    answers = [("Chosen", *_progress(config, found, len(decisions)))]
    if any(d["contests"] for d in decisions):
        verdicts = [[c.within_noise for c in d["contests"]] for d in decisions]
        within, missing = (sum(value in of for of in verdicts) for value in (True, None))
        text = f"{within} of {len(decisions)} decisions within noise"
        why = f"a runner-up is less than {noise.NOISE:g} paired standard errors behind"
        if missing:
            text = "Error not recorded" if missing == len(decisions) else text
            why = f"{missing} of {len(decisions)} decisions were made by an earlier version, which recorded no error"
        answers.append(("How sure", text, why))
    elif decisions:
        how = "at random" if config.select.method == "random" else "by the alphas"
        answers.append(("How sure", f"{len(decisions)} decisions {how}", "no images were scored, so there is no error"))
    after = [m["valid_accuracy"] for m in found.of("select") if m["order"] == 1 and "valid_accuracy" in m]
    before = [m["valid_accuracy"] for m in _search(found) if "valid_accuracy" in m]
    if result := found.retrained:
        answers.append(("How good", f"{result['test_accuracy']:.2f} % test accuracy", "of the network retrained, last epoch"))  # fmt: skip
    elif benchmark:
        head, (row, *_) = benchmark
        answers.append(
            (
                "How good",
                f"{row[1]} % on CIFAR-10",
                f"NAS-Bench-201's test accuracy, {head[-1].replace('rank', f'rank {row[-1]}')}",
            )
        )
    if before or after:
        values = " to ".join(f"{v[-1]:.2f}" for v in (before, after) if v)
        when = "from the search to the selection" if before and after else "at the last look"
        answers.append(("Supernet", f"{values} %", f"validation accuracy, {when}"))
    return answers


def _search(found: Records) -> list[dict]:
    """The lines of the search up to the supernet that it ended with."""
    lines = found.of("search")
    return [m for m in lines if m["epoch"] <= end_of_search(lines)["epoch"]] if lines else []


def _progress(config: Config, found: Records, decided: int) -> tuple[str, str]:
    """What is there, or how far the run is."""
    done = {stage: len(found.of(stage)) for stage in ("search", "retrain")}
    if found.genotypes:
        operations = [o for kind in found.genotypes[0].cells for o in found.genotypes[0].operations(kind)]
        counts = {o: operations.count(o) for o in sorted(set(operations), key=lambda o: (-operations.count(o), o))}
        text = ", ".join(f"{count}\u00a0\u00d7\u00a0{name}" for name, count in counts.items())
        if len(found.genotypes) < config.select.orders and not config.genotype:
            return text, f"order 1; {len(found.genotypes)} of {config.select.orders} orders are finished"
        if done["retrain"] and not found.retrained:
            return text, f"retraining goes on: {done['retrain']} of {config.retrain.epochs} epochs"
        return text, "on the edges that are kept" + (", order 1" if len(found.genotypes) > 1 else "")
    if decided:
        units = pipeline(config)["select"]
        return "Not finished", f"{decided} of {sum(u.type == 'decision' for u in units)} decisions are taken"
    if config.genotype:
        return "Not finished", f"{done['retrain']} of {config.retrain.epochs} epochs are done"
    return "Not finished", f"{done['search']} of {config.search.epochs} epochs of the search are done"


def _cells(genotype: Genotype, order: int, orders: int) -> list[dict]:
    """Every cell as a picture, with its edges as a table."""
    cells = []
    for kind, nodes in genotype.cells.items():
        inputs = genotype.inputs(kind)
        names = [f"input {i}" for i in range(inputs)] + [f"node {n}" for n in range(len(nodes))]
        rows = [(f"node {n}", names[source], operation) for n, node in enumerate(nodes) for operation, source in node]
        of_order = f", order {order + 1}" if orders > 1 else ""
        caption = f"Edges of the {kind} cell{of_order}"
        cells.append({"name": f"{kind} cell{of_order}", "picture": render.picture(_svg(genotype, kind)),
                      "table": Table(caption, ("node", "from", "operation"), rows)})  # fmt: skip
    return cells


def _svg(genotype: Genotype, kind: str) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "darts-pt-jax", "svg.fonttype": "none"}):
        draw.cell(genotype, kind).savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue()


def _accuracies(found: Records) -> list[tuple[str, str, Chart]]:
    """Accuracy over the search, over decisions and tuning, over retraining: heading, explanation, chart."""
    parts = []
    for stage, heading, halves in (
        ("search", "During the search", {"train": "training", "valid": "validation"}),
        ("retrain", "During retraining", {"train": "training", "test": "test"}),
    ):
        values = [(m["epoch"], name, m[f"{half}_accuracy"]) for m in found.of(stage) for half, name in halves.items()
                  if f"{half}_accuracy" in m]  # fmt: skip
        if values:
            parts.append((heading, "", _curves(values, "epoch", heading)))
    orders = sorted({m["order"] for m in found.decisions + found.of("select")})
    for order in orders:
        values = _selection(found, order)
        if values:
            heading = "Through the selection" + (f", order {order}" if len(orders) > 1 else "")
            text = (
                "Before a decision: the unmasked supernet on the images that are scored (augmented, batch statistics, unless "
                "the settings say otherwise). After it: the same at the next decision, with what was tuned in between. "
                "Validation and training accuracy are those of tuning epochs; validation is of unaugmented images."
            )
            parts.append((heading, text, _curves(values, "decisions taken", heading)))
    return parts


def _selection(found: Records, order: int) -> list[tuple]:
    """Decisions taken before, series, accuracy."""
    values = []
    for d in found.decisions:
        if d["order"] == order and (contest := next(iter(noise.contests(d)), None)):
            scores = contest.scores
            accuracy = 100 * scores["baseline"]["correct"] / scores["images"]
            values.append((d["decision"] - 1, "before the next decision, scored images", accuracy))
    tuned = [m for m in found.of("select") if m["order"] == order]
    for decided, group in itertools.groupby(tuned, lambda m: m["decisions"]):
        last = list(group)[-1]
        for half, name in (("train", "tuning, training images"), ("valid", "after tuning, validation images")):
            if f"{half}_accuracy" in last:
                values.append((decided, name, last[f"{half}_accuracy"]))
    return values


def _curves(values: Sequence[tuple], x: str, says: str) -> Chart:
    """Lines of accuracy, and the table with a row for each place."""
    series = list(dict.fromkeys(name for _, name, _ in values))
    at = {(place, name): value for place, name, value in values}
    rows = [
        (str(place), *(f"{at[place, name]:.2f}" if (place, name) in at else "" for name in series))
        for place in sorted({place for place, _, _ in values})
    ]
    points = [{x: place, "series": name, "accuracy, %": round(value, 4)} for place, name, value in values]
    table = Table(f"{says}: accuracy in percent", (x, *series), rows)
    return Chart(charts.lines(points, x, "accuracy, %", "series"), f"{says}: accuracy in percent", table)


def _alphas(space: SearchSpace, config: Config, found: Records) -> list[tuple[str, Chart]]:
    """Edge weights over the epochs of the search and, after them, of the first order's tuning: heading and chart."""
    lines = _search(found) + [m for m in found.of("select") if m["order"] == 1]
    history = [m["edge_weights"] for m in lines if "edge_weights" in m]
    parts = []
    if config.genotype or not history or config.search.alpha != "learned":
        return parts
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            ends = " to ".join(graph.state_name(state) for state in (edge.source, edge.target))
            heading = f"{kind} cell, edge {e}, {ends}"
            rows = [(str(epoch), *(f"{w:.4f}" for w in weights[kind][e])) for epoch, weights in enumerate(history, 1)]
            points = [
                {"epoch": epoch, "operation": name, "weight": round(w, 4)}
                for epoch, weights in enumerate(history, 1)
                for name, w in zip(edge.candidates, weights[kind][e], strict=True)
            ]
            table = Table(f"Edge weights, {heading}", ("epoch", *edge.candidates), rows)
            spec = charts.lines(points, "epoch", "weight", "operation", 150, False)
            parts.append((heading, Chart(spec, f"Edge weights over epochs, {heading}", table)))
    return parts


def _times(found: Records) -> Chart | None:
    """Seconds, compilation and images of every phase."""
    rows, points, total = [], [], [0.0, 0.0, 0]
    for name, (seconds, compiling, images) in found.phases().items():
        rate = f"{images / (seconds - compiling):,.0f}" if images and seconds > compiling else ""
        rows.append((name, f"{seconds:,.1f}", f"{compiling:,.1f}", f"{images:,.0f}", rate))
        points += [{"phase": name, "seconds": round(s, 3), "part": part} for part, s in
                   (("computing", seconds - compiling), ("compiling", compiling))]  # fmt: skip
        total = [a + b for a, b in zip(total, (seconds, compiling, images), strict=True)]
    if not rows:
        return None
    rows.append(("all", f"{total[0]:,.1f}", f"{total[1]:,.1f}", f"{total[2]:,.0f}", ""))
    head = ("phase", "seconds", "of them compiling", "images", "images/s without compiling")
    table = Table("Seconds and images of every phase", head, rows, [""] * (len(rows) - 1) + ["total"])
    return Chart(charts.bars(points, "phase", "seconds", "part"), "Seconds of every phase", table)


def _facts(config: Config, found: Records) -> list[tuple[str, str]]:
    """Seeds, data, devices and versions."""
    run = found.run
    parts = ("retrain",) if config.genotype else ("search", "select", "retrain")
    seeds = ", ".join(f"{seed_of(config, part)} ({part})" for part in parts)
    facts = [("Seeds", seeds), ("Data, SHA-256", run.get("data_sha256", "not recorded"))]
    if "image_shape" in run:
        facts.append(("Images", f"{'x'.join(map(str, run['image_shape']))}, {run['classes']} classes"))
    facts.append(("Devices", "; then ".join(run.get("devices", [])) or "not recorded"))
    versions = ["; ".join(f"{name} {version}" for name, version in of.items()) for of in run.get("versions", [])]
    return [*facts, ("Versions", " / then ".join(versions) or "not recorded")]


def _settings(found: Records) -> tuple[Table, Table]:
    """The keys that were set, and all keys."""
    defaults, config = flatten(Config()), found.run["config"]
    text = {key: json.dumps(value) for key, value in config.items()}
    rows = [(key, text[key], json.dumps(defaults[key]) if key in defaults else "no such key now")
            for key in records.changed(found.run)]  # fmt: skip
    changed = Table("Keys that differ from the defaults", ("key", "value", "default"), rows)
    return changed, Table("All keys", ("key", "value"), list(text.items()))

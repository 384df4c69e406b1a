"""The report page of one run: report.html, made from its records alone, finished or not."""

import io
import itertools
import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence

import matplotlib

from darts_pt_jax import draw
from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting import cautions, charts, decisions, matrix, measures, records, render
from darts_pt_jax.experiments.reporting.charts import Chart, Table
from darts_pt_jax.experiments.reporting.decisions import Decision
from darts_pt_jax.experiments.reporting.lines import end_of_search
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.selection.strategies import LEAVE_ONE_OUT, STRATEGIES
from darts_pt_jax.spaces import SPACES, SearchSpace


def build(config: Config, found: RunRecords) -> str:
    """The page as HTML; equal records give equal bytes.

    Raises:
      TableError: report.nasbench201 is no table.
    """
    space, names = SPACES[config.space], found.architectures(config)
    lookup = config.report.nasbench201 and names and all(g.notation == "nasbench201" for g in names.values())
    benchmark = measures.benchmark(config.report.nasbench201, names) if lookup else None
    taken = [decisions.described(space, config.select.orders, record) for record in found.decisions]
    scorings = [contest.scores for decision in taken for contest in decision.contests]
    criterion = CRITERIA[config.select.criterion]
    matrices = matrix.matrices(space, [decision for decision in taken if decision.record["order"] == 1])
    networks, beside = measures.networks(found), measures.alternatives(found)
    return render.render(
        "run.html.j2",
        title=_title(config, found),
        answers=_answers(config, found, taken, benchmark),
        cautions=cautions.of_run(found.decisions, found.metrics, found.genotypes),
        architectures=_architectures(config, names, found.decisions),
        networks=networks and (Table("Discrete network of each architecture", *networks[:2]), networks[2]),
        alternatives=beside and Table("Alternatives: the runner-up in the decisions of least margin", *beside),
        decisions=taken,
        matrices=matrices,
        marks=VERDICTS,
        verdicts=_among(VERDICTS, {row.verdict for of_kind in matrices for row in of_kind.rows}),
        barred=any(entry and entry.role == "barred" for m in matrices for row in m.rows for entry in row.entries),
        leads=decisions.leads(criterion, taken),
        lead_verdicts=_among(VERDICTS, {verdict.says for decision in taken for verdict in decision.verdicts}),
        errors="recorded" if any("paired" in scores for scores in scorings) else "missing",
        strong=matrix.STRONG,
        reach=certainty.WITHIN_NOISE,
        augmented=config.select.augment,
        criterion=criterion,
        raced=decisions.raced(found.decisions),
        limited=decisions.limited(schema.limits(config), found.decisions),
        rule=_rule(config, found),
        strategy=STRATEGIES[config.select.strategy],
        scored=any(decision.contests for decision in taken if decision.record["type"] == "operation"),
        weighed=taken[0].measure if taken else "",
        sections=[(name, parts) for name, make in CHARTS.items() if (parts := make(config, found))],
        alphas=_alphas(space, config, found),
        operations=decisions.every_candidate(*space.cells.values()),
        tuned=any(m["tuning_epoch"] for m in found.stage("select")),
        benchmark=benchmark and Table("Test accuracy in percent, from the table of NAS-Bench-201", *benchmark),
        is_benchmark=any(g.notation == "nasbench201" for g in found.genotypes),
        times=_times(found),
        facts=_facts(config, found),
        command=[shlex.quote(part) for part in records.command(found)],
        settings=_settings(found),
    )


def _title(config: Config, found: RunRecords) -> str:
    if config.genotype:
        name = config.genotype if len(config.genotype) < 80 else "an architecture"
        return f"Retraining {name}, seed {schema.seed_of(config, 'retrain')}"
    if not found.decisions:
        return f"{config.space}: search, seed {schema.seed_of(config, 'search')}"
    method, space = METHODS[config.select.method], SPACES[config.space]
    inputs = any(map(space.choosable_nodes, space.cells))
    what = "operations and inputs" if inputs else "operations"
    how = "at random" if method.at_random else f"by {method.name}"
    if method.scores and config.select.strategy != LEAVE_ONE_OUT.name:
        how += f", {config.select.strategy}"
    return f"{config.space}: {what} selected {how}, seed {schema.seed_of(config, 'select')}"


VERDICTS = {"clear": "kept", "within noise": "doubt", "a tie": "tie", "error not recorded": "other"}
"""The mark of each verdict on a decision."""


def _rule(config: Config, found: RunRecords) -> str:
    """How the images decided; "" if they did not."""
    images = next((d.get("raced", {}).get("of", d["images"]) for d in found.decisions if "images" in d), None)
    if images is None:
        return ""
    method = METHODS[config.select.method]
    if method.values:
        return f"On {images:,} images, {method.about} decides"
    noun = CRITERIA[config.select.criterion].noun
    inputs = any(d["type"] == "topology" for d in found.decisions)
    of_inputs = "; an input whose removal costs least is dropped" if inputs else ""
    return STRATEGIES[config.select.strategy].rule.format(images=images, noun=noun) + of_inputs


def _among(marks: Mapping[str, str], names: Collection[str]) -> list[tuple[str, str]]:
    """The entries of a legend that occur."""
    return [(name, mark) for name, mark in marks.items() if name in names]


Answer = tuple[str, str, str]
"""A question, its answer, and an explanation."""


def _answers(config: Config, found: RunRecords, taken: Sequence[Decision], benchmark) -> list[Answer]:
    """What was chosen, how sure that is, and how good."""
    answers = [("Chosen", *_progress(config, found))]
    if taken:
        answers.append(_how_sure(config, taken))
    if result := found.retrained:
        answers.append(("How good", f"{result['test_accuracy']:.2f} % test accuracy", "of the network retrained, last epoch"))  # fmt: skip
    elif benchmark:
        head, (row, *_) = benchmark
        rank = head[-1].replace("rank", f"rank {row[-1]}")
        answers.append(("How good", f"{row[1]} % on CIFAR-10", f"NAS-Bench-201's test accuracy, {rank}"))
    if found.networks and "parameters" in found.networks[0]:
        one = found.networks[0]
        why = f"{one['multiply_adds']:,} multiply-adds, as retrain.* describes the network"
        if "milliseconds" in one:
            why += f"; {one['milliseconds']:.3g} ms an image on {one['device']}"
        answers.append(("Size", f"{one['parameters']:,} parameters", why))
    before = [m["valid_accuracy"] for m in _search(found) if "valid_accuracy" in m]
    after = [m["valid_accuracy"] for m in found.stage("select") if m["order"] == 1 and "valid_accuracy" in m]
    if before or after:
        values = " to ".join(f"{accuracies[-1]:.2f}" for accuracies in (before, after) if accuracies)
        when = "from the search to the selection" if before and after else "at the last look"
        answers.append(("Supernet", f"{values} %", f"validation accuracy, {when}"))
    return answers


def _how_sure(config: Config, taken: Sequence[Decision]) -> Answer:
    """How many decisions have a scoring within noise, how many one without a recorded error, and how many none."""
    scored = [decision for decision in taken if decision.contests]
    if not scored:
        if "images" in taken[0].record:
            return "How sure", "Error not known", f"{taken[0].measure} decides"
        how = "at random" if METHODS[config.select.method].at_random else "by the alphas"
        return "How sure", f"{len(taken)} decisions {how}", "no images were scored, so there is no error"
    verdicts = [[contest.within_noise for contest in decision.contests] for decision in scored]
    within, unknown = (sum(value in of_decision for of_decision in verdicts) for value in (True, None))
    text = f"{within} of {len(scored)} decisions within noise"
    if not unknown:
        why = f"a runner-up is less than {certainty.WITHIN_NOISE:g} paired standard errors behind"
        if len(scored) < len(taken):
            why += f"; no error is known of the others, by {taken[0].measure}"
        return "How sure", text, why
    why = f"{unknown} of {len(scored)} decisions were made by an earlier version, which recorded no error"
    return "How sure", "Error not recorded" if unknown == len(scored) else text, why


def _search(found: RunRecords) -> list[dict]:
    """The lines of the search up to the supernet that it ended with."""
    lines = found.stage("search")
    return [m for m in lines if m["epoch"] <= end_of_search(lines)["epoch"]] if lines else []


def _progress(config: Config, found: RunRecords) -> tuple[str, str]:
    """The chosen operations, or how far the run is; and an explanation."""
    searched, retrained = (len(found.stage(stage)) for stage in ("search", "retrain"))
    if found.genotypes:
        operations = [o for kind in found.genotypes[0].cells for o in found.genotypes[0].operations(kind)]
        counts = {o: operations.count(o) for o in sorted(set(operations), key=lambda o: (-operations.count(o), o))}
        text = ", ".join(f"{count}\u00a0\u00d7\u00a0{name}" for name, count in counts.items())
        if len(found.genotypes) < config.select.orders and not config.genotype:
            return text, f"order 1; {len(found.genotypes)} of {config.select.orders} orders are finished"
        if retrained and not found.retrained:
            return text, f"retraining: {retrained} of {config.retrain.epochs} epochs"
        return text, "on the edges that are kept" + (", order 1" if len(found.genotypes) > 1 else "")
    if taken := len(found.decisions):
        in_all = decisions.in_all(SPACES[config.space], config.select.orders, found.decisions)
        return "Not finished", f"{taken} of {in_all} decisions are taken"
    if config.genotype:
        return "Not finished", f"{retrained} of {config.retrain.epochs} epochs are done"
    return "Not finished", f"{searched} of {config.search.epochs} epochs of the search are done"


def _architectures(
    config: Config, names: Mapping[str, Genotype], taken: Sequence[Mapping]
) -> list[tuple[str, bool, str, list[dict]]]:
    """Of each architecture: how it was found, whether to fold it (orders after the first), its text, and its cells."""
    found = []
    for number, (name, genotype) in enumerate(names.items(), 1):
        selected = number <= config.select.orders and not config.genotype
        heading, cells = "As given" if name == "given" else f"By {name}", _cells(genotype)
        for kind, cell in zip(genotype.cells, cells, strict=True):
            cell["choices"] = decisions.choices(SPACES[config.space], kind, number, taken) if selected else None
        found.append((heading, selected and number > 1, genotype.text(genotype.notation), cells))
    return found


def _cells(genotype: Genotype) -> list[dict]:
    """Each cell of an architecture as a picture, and the inputs of its nodes in words."""
    cells = []
    for kind, nodes in genotype.cells.items():
        names = [f"input {i}" for i in range(genotype.inputs(kind))] + [f"node {n}" for n in range(len(nodes))]
        inputs = [
            (f"node {n}", [(operation, names[source]) for operation, source in node]) for n, node in enumerate(nodes)
        ]
        cells.append({"name": f"{kind} cell", "picture": render.picture(_svg(genotype, kind)), "nodes": inputs})
    return cells


def _svg(genotype: Genotype, kind: str) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "darts-pt-jax", "svg.fonttype": "none"}):
        draw.cell(genotype, kind).savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue()


Part = tuple[str, str, Chart]
"""A heading, a note or "", and a chart."""


def _accuracies(config: Config, found: RunRecords) -> list[Part]:
    """Accuracy over the search, over decisions and tuning, over retraining."""
    parts = []
    for stage, heading, halves in (
        ("search", "During the search", {"train": "training", "valid": "validation"}),
        ("retrain", "During retraining", {"train": "training", "test": "test"}),
    ):
        values = [
            (m["epoch"], name, m[f"{half}_accuracy"])
            for m in found.stage(stage)
            for half, name in halves.items()
            if f"{half}_accuracy" in m
        ]
        if values:
            parts.append((heading, "", _curves(values, "epoch", heading)))
    orders = sorted({m["order"] for m in found.decisions + found.stage("select")})
    for order in orders:
        if values := _selection(found, order):
            heading = "Through the selection" + (f", order {order}" if len(orders) > 1 else "")
            note = _selection_note(config, {name for _, name, _ in values})
            parts.append((heading, note, _curves(values, "decisions taken", heading)))
    return parts


CHARTS: dict[str, Callable[[Config, RunRecords], list[Part]]] = {"Accuracy": _accuracies}
"""Sections of charts by heading. A section without parts is left out."""


BEFORE, TUNING = "before a decision", "tuning, training images"
TUNED, CUT_DOWN = "tuning, validation", "not tuned, validation"
"""The series of the accuracy through a selection."""


def _selection(found: RunRecords, order: int) -> list[tuple[int, str, float]]:
    """The accuracies of an order's selection: how many decisions came before, series, percent."""
    values = []
    for decision in found.decisions:
        contests = certainty.contests(decision) if decision["order"] == order else []
        if contests:
            scores = contests[0].scores
            accuracy = 100 * scores["baseline"]["correct"] / scores["images"]
            values.append((decision["decision"] - 1, BEFORE, accuracy))
    tuned = [m for m in found.stage("select") if m["order"] == order]
    for decided, group in itertools.groupby(tuned, lambda m: m["decisions"]):
        last = list(group)[-1]
        for half, name in (("train", TUNING), ("valid", TUNED if last["tuning_epoch"] else CUT_DOWN)):
            if f"{half}_accuracy" in last:
                values.append((decided, name, last[f"{half}_accuracy"]))
    return values


def _selection_note(config: Config, series: Collection[str]) -> str:
    """What the series are that occur."""
    select = config.select
    images = f"{'augmented' if select.augment else 'unaugmented'}, with {select.bn} statistics"
    notes = {
        BEFORE: f"Before a decision: the unmasked supernet on the images that are scored ({images}).",
        TUNING: "Tuning: the last epoch before a decision, on its own augmented batches.",
        TUNED: "Validation: after that epoch, on unaugmented images.",
        CUT_DOWN: "Not tuned: the supernet just cut down, on unaugmented validation images.",
    }
    return " ".join(note for name, note in notes.items() if name in series)


def _curves(values: Sequence[tuple[int, str, float]], x: str, says: str) -> Chart:
    """Lines of accuracy from (place, series, percent), and a table with a row for each place."""
    series = list(dict.fromkeys(name for _, name, _ in values))
    at = {(place, name): value for place, name, value in values}
    rows = [
        (str(place), *(f"{at[place, name]:.2f}" if (place, name) in at else "" for name in series))
        for place in sorted({place for place, _, _ in values})
    ]
    points = [{x: place, "series": name, "accuracy, %": round(value, 4)} for place, name, value in values]
    table = Table(f"{says}: accuracy in percent", (x, *series), rows)
    return Chart(charts.lines(points, x, "accuracy, %", "series"), f"{says}: accuracy in percent", table)


def _alphas(space: SearchSpace, config: Config, found: RunRecords) -> list[tuple[str, list, Table]]:
    """Edge weights over the epochs of the search and, after them, of the first order's tuning.

    For each cell kind: its name, heading and chart of every edge, all on one scale, and a table of all their numbers.
    """
    lines = _search(found) + [m for m in found.stage("select") if m["order"] == 1]
    history = [m["edge_weights"] for m in lines if "edge_weights" in m]
    if config.genotype or not history or not records.learns_alphas(config):
        return []
    every = [w for epoch in history for kind in epoch.values() for row in kind for w in row]
    names, scale = decisions.every_candidate(*space.cells.values()), (min(every), max(every))
    parts = []
    for kind, graph in space.cells.items():
        figures, rows = [], []
        for e, edge in enumerate(graph.edges):
            heading = f"edge {e}, {graph.state_name(edge.source)} → {edge.target - graph.inputs}"
            over_epochs = list(enumerate((weights[kind][e] for weights in history), 1))
            points = [
                {"epoch": epoch, "operation": name, "weight": round(w, 4)}
                for epoch, weights in over_epochs
                for name, w in zip(edge.candidates, weights, strict=True)
            ]
            spec = charts.small(points, "epoch", "weight", "operation", names, scale)
            figures.append((heading, spec, f"Edge weights over epochs, {kind} cell, {heading}"))
            for epoch, weights in over_epochs:
                by_name = dict(zip(edge.candidates, weights, strict=True))
                rows.append((str(e), str(epoch), *(f"{by_name[n]:.4f}" if n in by_name else "" for n in names)))
        parts.append((f"{kind} cell", figures, Table(f"Edge weights, {kind} cell", ("edge", "epoch", *names), rows)))
    return parts


def _times(found: RunRecords) -> Chart | None:
    """Seconds, compilation and images of each phase."""
    rows, points, phases = [], [], found.phases()
    if not phases:
        return None
    for name, (seconds, compiling, images) in phases.items():
        rate = f"{images / (seconds - compiling):,.0f}" if images and seconds > compiling else ""
        rows.append((name, f"{seconds:,.1f}", f"{compiling:,.1f}", f"{images:,.0f}", rate))
        for part, duration in (("computing", seconds - compiling), ("compiling", compiling)):
            points.append({"phase": name, "seconds": round(duration, 3), "part": part})
    seconds, compiling, images = sum(phases.values())
    rows.append(("all", f"{seconds:,.1f}", f"{compiling:,.1f}", f"{images:,.0f}", ""))
    head = ("phase", "seconds", "of them compiling", "images", "images/s without compiling")
    table = Table("Seconds and images of every phase", head, rows, [""] * len(phases) + ["total"])
    return Chart(charts.bars(points, "phase", "seconds", "part"), "Seconds of every phase", table)


def _facts(config: Config, found: RunRecords) -> list[tuple[str, str]]:
    """Seeds, data, devices and versions."""
    run, missing = found.run, "not recorded"
    parts = ("retrain",) if config.genotype else ("search", "select", "retrain")
    seeds = ", ".join(f"{schema.seed_of(config, part)} ({part})" for part in parts)
    facts = [("Seeds", seeds), ("Data set", " ".join(filter(None, (config.data.source, config.data.path))))]
    if "image_shape" in run:
        shape = f"{'x'.join(map(str, run['image_shape']))}, {run['classes']} classes"
        counts = "{:,} training and {:,} test images of ".format(*run["images"]) if "images" in run else ""
        facts.append(("Images", counts + shape))
    facts += [
        ("Data, SHA-256", run.get("data_sha256", missing)),
        ("Devices", "; then ".join(run.get("devices", [])) or missing),
    ]
    used = run.get("versions", [])
    commits = dict.fromkeys(versions["commit"] for versions in used if "commit" in versions)
    facts.append(("Commit", "; then ".join(commits) or missing))
    texts = ["; ".join(f"{name} {v}" for name, v in versions.items() if name != "commit") for versions in used]
    return [*facts, ("Versions", " / then ".join(dict.fromkeys(texts)) or missing)]


def _settings(found: RunRecords) -> tuple[Table, Table]:
    """The keys that were set, and all keys."""
    config, defaults = schema.from_flat(found.run["config"]), schema.defaults()
    text = {key: json.dumps(value) for key, value in schema.flatten(config).items()}
    rows = [(key, text[key], json.dumps(defaults[key])) for key in schema.not_default(config)]
    changed = Table("Keys that differ from the defaults", ("key", "value", "default"), rows)
    return changed, Table("All keys", ("key", "value"), list(text.items()))

"""When the alphas collapse: on how many edges skip_connect has the largest, over the steps of searches (paper, Figure 4).

It compares searches of different settings, and reads only their records.
"""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from darts_pt_jax import record
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, refuse_repeated
from darts_pt_jax.experiments.config import schema
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.lines import end_of_search
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.records import config_of, learns_alphas
from darts_pt_jax.experiments.training.checks import weight_images
from darts_pt_jax.spaces import SPACES, SearchSpace

SKIP = "skip_connect"
MARKS = {
    True: ({"fillstyle": "full"}, "a seed: skip_connect on all edges from here on"),
    False: ({"fillstyle": "none"}, "a seed: the search ended without"),
}
"""Style and label of a mark, by whether the seed collapsed."""


def run(workdirs: Sequence[pathlib.Path], options: Options) -> Result:
    """The edges with skip_connect at each epoch, and the step from which skip_connect keeps them all."""
    opened = {workdir: read_run(workdir) for workdir in workdirs}
    configs = {workdir: config_of(one) for workdir, one in opened.items()}
    searches = _searches(opened, configs)
    refuse_repeated({workdir: tuple(map(str, search.values())) for workdir, search in searches.items()})
    rows, ends = [], []
    for workdir, search in searches.items():
        points = _points(workdir, configs[workdir], _steps(workdir, opened[workdir], configs[workdir]))
        rows += [{"run": workdir.name, **search, **point} for point in points]
        ends.append({"run": workdir.name, **search, "collapsed_at_step": collapsed(points), **points[-1]})
    *keys, _ = next(iter(searches.values()))
    settings = _settings(keys, ends)
    lines = table_head("run", *keys, "seed", "skip_connect on all edges from step", "edges at the end", "steps")
    for end in ends:
        found = "never" if end["collapsed_at_step"] is None else end["collapsed_at_step"]
        edges = f"{end['skip_edges']} of {end['edges']}"
        lines.append(table_row(end["run"], *(end[key] for key in keys), end["seed"], found, edges, end["step"]))
    lines += ["", *table_head(*keys, "seeds", "collapsed", "from step, mean", "smallest", "largest", "steps")]
    for one in settings:
        steps = one["from_step"]
        found = [f"{steps['mean']:,.0f}", steps["smallest"], steps["largest"]] if steps else [""] * 3
        searched = " to ".join(str(step) for step in dict.fromkeys((min(one["steps"]), max(one["steps"]))))
        lines.append(table_row(*(one[key] for key in keys), one["seeds"], one["collapsed"], *found, searched))
    return Result({"keys": keys, "settings": settings, "runs": ends}, rows, "\n".join(lines))


def _settings(keys: Sequence[str], ends: Sequence[dict]) -> list[dict]:
    """How many seeds of each setting have collapsed, and from which step on: mean and range over those."""
    of_setting: dict[tuple[str, ...], list[dict]] = {}
    for end in ends:
        of_setting.setdefault(tuple(str(end[key]) for key in keys), []).append(end)
    found = []
    for of_seeds in of_setting.values():
        steps = [end["collapsed_at_step"] for end in of_seeds if end["collapsed_at_step"] is not None]
        over_seeds = {"mean": float(np.mean(steps)), "smallest": min(steps), "largest": max(steps)} if steps else None
        found.append({
            **{key: of_seeds[0][key] for key in keys}, "seeds": len(of_seeds), "collapsed": len(steps),
            "from_step": over_seeds, "steps": [end["step"] for end in of_seeds],
        })  # fmt: skip
    return found


def draw(_: str, results: Sequence[Result]) -> dict[str, Figure]:
    """A band for each setting: the share of edges with skip_connect, mean over seeds, up to the shortest search.

    A mark for each seed on its band: where skip_connect has taken all edges for good, or where the search ended before.
    """
    (result,) = results
    keys, bands, ends = result.numbers["keys"], {}, {}
    for row in result.rows:
        runs = bands.setdefault(_name(keys, row), {})
        runs.setdefault(row["seed"], {})[row["step"]] = row["skip_edges"] / row["edges"]
    for end in result.numbers["runs"]:
        ends.setdefault(_name(keys, end), []).append(end)
    title = "share of the edges on which skip_connect has the largest alpha, mean over seeds"
    if keys:
        title += "\n" + textwrap.fill(f"rows: {', '.join(keys)}", 90)
    figure, (axes,) = figures.panels(title, [("steps of the search", "")], height=1.4 + 0.25 * len(bands))
    colours = matplotlib.colormaps["Blues"]
    for place, (name, runs) in enumerate(bands.items()):
        start = 0
        for step in sorted(set.intersection(*map(set, runs.values()))):
            share = np.mean([of_run[step] for of_run in runs.values()])
            axes.barh(place, step - start, left=start, color=colours(float(share)), height=0.8)
            start = step
        _mark(axes, place, ends[name])
    axes.set_yticks(range(len(bands)), list(bands))
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes, format=PercentFormatter(1, 0))
    bar.ax.tick_params(labelsize=7)
    for style, label in MARKS.values():
        axes.plot([], [], "o", color=figures.COLOURS[1], markersize=5, label=label, **style)
    figures.legend(figure, axes)
    return {"collapse": figure}


def _mark(axes: Axes, place: int, ends: Sequence[dict]):
    """Marks where each seed of a setting collapsed, or ended; seeds lie beside each other."""
    for end, offset in zip(ends, np.linspace(-0.3, 0.3, len(ends) + 2)[1:-1], strict=True):
        step = end["collapsed_at_step"]
        style, _ = MARKS[step is not None]
        at = end["step"] if step is None else step
        axes.plot(at, place + offset, "o", color=figures.COLOURS[1], markersize=5, clip_on=False, **style)


def _name(keys: Sequence[str], row: dict) -> str:
    """What the figure calls a setting."""
    return ", ".join(str(row[key]) for key in keys)


def _searches(opened: Mapping[pathlib.Path, dict], configs: Mapping[pathlib.Path, Config]) -> dict[pathlib.Path, dict]:
    """Settings in which the searches differ, and the seed last, of each run."""
    deciding = schema.deciding() & schema.of_supernet()
    if not any(config.curvature.stop for config in configs.values()):
        deciding = {key for key in deciding if not key.startswith("curvature.")}
    if all(config.search.schedule_epochs for config in configs.values()):
        deciding = deciding - {"search.epochs"}  # it only says how far the searches went
    keys = schema.varying(list(configs.values()), deciding)
    settings = {workdir: {key: schema.value(config, key) for key in keys} for workdir, config in configs.items()}
    images = {workdir: one["data_sha256"][:8] for workdir, one in opened.items()}
    with_images = {(str(settings[workdir]), images[workdir]) for workdir in opened}
    if len(with_images) > len({text for text, _ in with_images}):
        settings = {workdir: {**one, "images": images[workdir]} for workdir, one in settings.items()}
    return {workdir: {**one, "seed": schema.seed_of(configs[workdir], "search")} for workdir, one in settings.items()}


def collapsed(points: Sequence[dict]) -> int | None:
    """The step from which on skip_connect has the largest alpha on every edge, up to the end; None if there is none."""
    found = None
    for point in reversed(points):
        if point["skip_edges"] < point["edges"]:
            break
        found = point["step"]
    return found


def skip_edges(space: SearchSpace, edge_weights: dict) -> tuple[int, int]:
    """On how many edges skip_connect has the largest weight, and how many offer it beside other candidates.

    Args:
      space: the search space.
      edge_weights: those of a line of metrics, lists [E][O] by cell kind.
    """
    largest, edges = 0, 0
    for kind, graph in space.cells.items():
        for edge, weights in zip(graph.edges, edge_weights[kind], strict=True):
            if SKIP in edge.candidates and len(edge.candidates) > 1:
                edges += 1
                largest += edge.candidates[int(np.argmax(weights[: len(edge.candidates)]))] == SKIP
    return largest, edges


def _points(workdir: pathlib.Path, config: Config, steps: int) -> list[dict]:
    """Step and edges after each epoch of the search."""
    space = SPACES[config.space]
    metrics = record.JsonLines(workdir / "metrics.jsonl").read()
    lines = [m for m in metrics if m["stage"] == "search" and "edge_weights" in m]
    if not lines or not learns_alphas(config):
        raise ConfigError(f"--run {workdir}: no epoch of a search whose alphas learn is recorded: take another run")
    last, points = end_of_search(metrics)["epoch"], []
    for line in (line for line in lines if line["epoch"] <= last):
        largest, edges = skip_edges(space, line["edge_weights"])
        points.append({"epoch": line["epoch"], "step": line["epoch"] * steps, "skip_edges": largest, "edges": edges})
    if not points[0]["edges"]:
        raise ConfigError(f"--run {workdir}: no edge of {space.name} has skip_connect beside other candidates")
    return points


def _steps(workdir: pathlib.Path, run: dict, config: Config) -> int:
    """The steps of an epoch."""
    count = run["images"][0] if "images" in run else config.data.examples
    if not count:
        raise ConfigError(f"--run {workdir}: an early version wrote it, without its number of images: take another run")
    return weight_images(config, count) // config.search.batch_size

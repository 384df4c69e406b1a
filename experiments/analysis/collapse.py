"""When the alphas collapse: on how many edges skip_connect has the largest, over the steps of searches (paper, Figure 4).

It compares searches of different settings, and reads only their records.
"""

import math
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from darts_pt_jax import record
from darts_pt_jax.spaces import SPACES, SearchSpace
from experiments.analysis import figures
from experiments.analysis.result import Result
from experiments.analysis.subject import Options
from experiments.config import schema
from experiments.config.schema import Config
from experiments.errors import ConfigError
from experiments.reporting.markdown import table_head, table_row
from experiments.reporting.records import config_of, learns_alphas, read_run

SKIP = "skip_connect"


def run(workdirs: Sequence[pathlib.Path], options: Options) -> Result:
    """The edges with skip_connect at each epoch, and the step from which skip_connect keeps them all."""
    opened = [read_run(workdir) for workdir in workdirs]
    configs = [config_of(one) for one in opened]
    keys = schema.differing(configs, schema.deciding() & schema.of_supernet())
    rows, ends = [], []
    for workdir, one, config in zip(workdirs, opened, configs, strict=True):
        points = _points(workdir, config, _steps(workdir, one, config))
        settings = {key: schema.value(config, key) for key in keys}
        of_run = {"run": workdir.name, **settings, "seed": schema.seed_of(config, "search")}
        rows += [{**of_run, **point} for point in points]
        last = points[-1]
        ends.append({**of_run, "collapsed_at_step": collapsed(points), **last})
    lines = table_head(*keys, "seed", "skip_connect on all edges from step", "edges at the end", "steps")
    for end in ends:
        found = "never" if end["collapsed_at_step"] is None else end["collapsed_at_step"]
        edges = f"{end['skip_edges']} of {end['edges']}"
        lines.append(table_row(*(str(end[key]) for key in keys), end["seed"], found, edges, end["step"]))
    return Result({"keys": keys, "runs": ends}, rows, "\n".join(lines))


def draw(_: str, results: Sequence[Result]) -> dict[str, Figure]:
    """A band for each setting: the share of edges with skip_connect over the steps, mean over seeds."""
    (result,) = results
    keys, bands = result.numbers["keys"], {}
    for row in result.rows:
        band = bands.setdefault(", ".join(str(row[key]) for key in keys), {})
        band.setdefault(row["step"], []).append(row["skip_edges"] / row["edges"])
    title = "share of the edges on which skip_connect has the largest alpha"
    if keys:
        title += f"; rows: {', '.join(keys)}"
    figure, (axes,) = figures.panels(title, [("steps of the search", "")], height=1.2 + 0.25 * len(bands))
    colours = matplotlib.colormaps["Blues"]
    for place, band in enumerate(bands.values()):
        start = 0
        for step, shares in sorted(band.items()):
            axes.barh(place, step - start, left=start, color=colours(float(np.mean(shares))), height=0.8)
            start = step
    axes.set_yticks(range(len(bands)), list(bands))
    axes.invert_yaxis()
    bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes, format=PercentFormatter(1, 0))
    bar.ax.tick_params(labelsize=7)
    return {"collapse": figure}


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
    points = []
    for line in lines:
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
    return math.ceil(config.data.train_fraction * count - 0.5) // config.search.batch_size

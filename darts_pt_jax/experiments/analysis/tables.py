"""The paper's Tables 2 to 5: ours beside the paper's, every cell marked by how it was run.

A run belongs to a cell by its space, data and method. Its protocol is full if all keys that decide a result have the
values of the cell's own config (configs/table2.py, table3.py, table4.py, retrain_imagenet.py), else reduced. A cell with
full runs averages those alone. The paper does not say which architecture Table 5 retrains; any of DARTS+PT's counts.
"""

import json
import pathlib
from collections.abc import Sequence

from matplotlib.figure import Figure

from darts_pt_jax import nasbench201
from darts_pt_jax.configs import common, retrain_imagenet, table2, table3, table4
from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options
from darts_pt_jax.experiments.config.schema import KEYS, Config, deciding, flatten, frozen, seed_of
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.measures import spread
from darts_pt_jax.experiments.reporting.records import config_of, learns_alphas, read_genotype
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop.published import genotypes
from darts_pt_jax.selection.methods import METHODS

OPTIONS = {"table": {"metavar": "NPZ", "help": "accuracies of NAS-Bench-201"}}

Cell = tuple[str, str, str, str]
"""A cell of the paper's tables: table (or section), space, data set, method."""

PAPER = {
    **{("2", "darts", "cifar10", method): error for method, error in {
        "darts": 3.00, "darts_pt": 2.61, "sdarts_rs": 2.67, "sdarts_rs_pt": 2.54, "sgas": 2.66, "sgas_pt": 2.56,
    }.items()},
    **{("3", space, data, method): error for data, of_data in {
        "cifar10": {"s1": (3.84, 3.50, 2.86), "s2": (4.85, 2.79, 2.59), "s3": (3.34, 2.49, 2.52), "s4": (7.20, 2.64, 2.58)},
        "cifar100": {"s1": (29.46, 24.48, 24.40), "s2": (26.05, 23.16, 23.30), "s3": (28.90, 22.03, 21.94), "s4": (22.85, 20.80, 20.66)},
        "svhn": {"s1": (4.58, 2.62, 2.39), "s2": (3.53, 2.53, 2.32), "s3": (3.41, 2.42, 2.32), "s4": (3.05, 2.42, 2.39)},
    }.items() for space, errors in of_data.items() for method, error in zip(common.COMPARED, errors, strict=True)},
    **{("4", space, "cifar10", method): error for space, errors in {
        "darts": (3.00, 2.61, 2.87), "nasbench201": (45.7, 11.89, 6.20),
    }.items() for method, error in zip(common.COMPARED, errors, strict=True)},
    ("6.2", "darts", "cifar10", "darts_pt_mag"): 2.85,
    ("5", "darts", "imagenet2012", "darts"): 26.7, ("5", "darts", "imagenet2012", "darts_pt"): 25.5,
}  # fmt: skip
"""Test error in percent (top 1) of each cell; in Table 3, of the best of four seeds."""

TABLE5 = "DARTS_V2", "darts_pt_s5"
"""Beginnings of the names of the published architectures that Table 5 may be about."""

FINDING = frozenset(("space", "genotype", "data.source"))
"""Keys by which a cell is found."""


def own_config(cell: Cell) -> Config:
    """The config of a cell's full protocol."""
    table, space, data, method = cell
    make = {
        **dict.fromkeys(("2", "6.2"), lambda: table2.get_config(method)),
        "3": lambda: table3.get_config(f"{space},{data},{method}"),
        "4": lambda: table4.get_config(f"{space},{method}"),
        "5": retrain_imagenet.get_config,
    }[table]
    return frozen(make())


def _signature(config: Config) -> tuple:
    """How a run searches and selects; `fixed` is `darts` whose alphas rest."""
    search = config.search
    sampler = "darts" if search.sampler == "fixed" else search.sampler
    return learns_alphas(config), sampler, search.unrolled, config.select.method


def cells_of(config: Config, genotype: Genotype | None = None) -> list[Cell]:
    """The cells that a run belongs to; `genotype` is what it retrains, if it has no search."""
    data = pathlib.Path(config.data.path).stem if config.data.source == "npz" else config.data.source
    streamed = {"folder": "imagenet2012"} if config.data.crop else {}
    data = ({"svhn_cropped": "svhn"} | streamed).get(data, data)
    if config.genotype:
        names = {name for name, published in genotypes().items() if published == genotype}
        methods = {"darts" if name == "DARTS_V2" else "darts_pt" for name in names if name.startswith(TABLE5)}
        return [cell for cell in PAPER if cell[0] == "5" and data == cell[2] and cell[3] in methods]
    signature, found = _signature(config), []
    for cell in PAPER:
        theirs = own_config(cell) if cell[0] != "5" else None
        if theirs and _signature(theirs) == signature and theirs.space == config.space and cell[2] == data:
            found.append(cell)
    return found


def differing(config: Config, cell: Cell, looked_up: bool = False) -> list[str]:
    """The keys in which a run differs from a cell's full protocol.

    Only keys that decide its result count; those of retraining do not decide that of a run that is `looked_up`.
    """
    ours, theirs = flatten(config), flatten(own_config(cell))
    idle = set(FINDING)
    if looked_up:
        idle |= _keys("retrain.")
    if config.genotype:
        idle |= _keys("search.", "supernet.", "data.train_fraction", "curvature.", "select.", "sgas.")
    elif (method := METHODS[config.select.method]).selector and not method.draws:
        idle |= _keys("select.", "sgas.")
    if not config.curvature.stop:
        idle |= _keys("curvature.every", "curvature.images", "curvature.window")
    return [key for key in ours if ours[key] != theirs[key] and key in deciding() - idle]


def _keys(*beginnings: str) -> set[str]:
    return {key for key in KEYS if key.startswith(beginnings)}


def run(workdirs: Sequence[pathlib.Path], options: Options) -> Result:
    """All cells, with the given runs and sweeps."""
    found, left_out = _found(workdirs, options.table)
    rows = [_row(cell, found.get(cell, [])) for cell in PAPER]
    lines = table_head("table", "space", "data", "method", "paper, %", "ours, %", "best", "runs, seeds", "protocol")
    for row in rows:
        sd = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
        ours, best = ("" if row["ours"] is None else f"{row[name]:.2f}" for name in ("ours", "best"))
        cells = (row[name] for name in ("table", "space", "data", "method", "paper"))
        lines.append(table_row(*cells, ours + sd, best, f"{row['runs']}, {row['seeds']}", row["protocol"]))
    return Result({"left_out": left_out}, rows, "\n".join([*lines, "", *left_out]))


Found = tuple[int, float, list[str]]
"""Of a run: its seed, its test error in percent, and the keys in which it differs from the full protocol."""


def _found(workdirs: Sequence[pathlib.Path], table: str | None) -> tuple[dict[Cell, list[Found]], list[str]]:
    """The runs of each cell, and why others are left out."""
    found, left_out = {}, []
    for workdir in _runs(workdirs):
        try:
            config = config_of(read_run(workdir))
            cells = cells_of(config, read_genotype(workdir) if config.genotype else None)
            error, looked_up = _error(workdir, config, table)
        except (OSError, RunError, ValueError) as wrong:
            left_out.append(f"{workdir.name}: {wrong}")
            continue
        if not cells or error is None:
            left_out.append(f"{workdir.name}: {'of no table' if not cells else 'neither retrained nor looked up'}")
        seed = seed_of(config, "retrain" if config.genotype else "search")
        for cell in cells if error is not None else ():
            found.setdefault(cell, []).append((seed, error, differing(config, cell, looked_up)))
    return found, left_out


def draw(_: str, results: Sequence[Result]) -> dict[str, Figure]:
    """The paper's errors and ours, a line for each cell."""
    rows = results[0].rows
    figure, (axes,) = figures.panels(
        "test error of the paper, and ours", [("test error, %", "")], height=0.13 * len(rows) + 1
    )
    for i, row in enumerate(rows):
        axes.plot(row["paper"], i, "o", color=figures.GREY, markersize=4, label="paper" if i == 0 else None)
        if row["runs"]:
            axes.plot(row["ours"], i, "x", color=figures.COLOURS[0], markersize=4)
    axes.plot([], [], "x", color=figures.COLOURS[0], markersize=4, label="ours")
    names = [f"Table {row['table']}: {row['space']}, {row['data']}, {row['method']}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=5)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=7)
    return {"tables": figure}


def _runs(workdirs: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Run directories, each once; a sweep stands for its own."""
    found = []
    for workdir in workdirs:
        of_sweep = [file.parent for file in sorted(workdir.glob("*/run.json"))]
        within = [workdir] if (workdir / "run.json").is_file() else of_sweep
        if not within:
            raise ConfigError(f"--run {workdir}: neither a run directory nor a sweep's: it has no run.json")
        found += within
    return list(dict.fromkeys(found))


def _error(workdir: pathlib.Path, config: Config, table: str | None) -> tuple[float | None, bool]:
    """Test error in percent, and whether it was looked up: else it is of the retrained network; None if unknown."""
    if (workdir / "retrained.json").exists():
        return 100 - json.loads((workdir / "retrained.json").read_text())["test_accuracy"], False
    table = table or config.report.nasbench201
    if table and config.space == "nasbench201" and (workdir / "genotype.json").exists():
        return 100 - nasbench201.Table(table).accuracies(read_genotype(workdir).text("nasbench201"))["c10_test"], True
    return None, False


def _row(cell: Cell, runs: list[Found]) -> dict:
    """Mean, standard deviation and best of the runs with the full protocol, or of all if none has it."""
    counted = [one for one in runs if not one[2]] or runs
    errors, keys = [error for _, error, _ in counted], sorted({key for *_, differ in counted for key in differ})
    return {
        **dict(zip(("table", "space", "data", "method"), cell, strict=True)), "paper": PAPER[cell],
        **dict(zip(("ours", "sd"), spread(errors), strict=True)), "best": min(errors, default=None),
        "runs": len(errors), "seeds": len({seed for seed, *_ in counted}),
        "protocol": "not run" if not errors else f"reduced: {', '.join(keys)}" if keys else "full",
    }  # fmt: skip

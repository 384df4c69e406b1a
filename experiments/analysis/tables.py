"""The paper's Tables 2 to 5: ours beside the paper's, every cell marked by how it was run.

A run is put into a cell by its space, data and method. Its protocol is full if all keys that decide a result are those of
the cell's own config (configs/table2.py, table3.py, table4.py, retrain_imagenet.py), else reduced.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from configs import common, retrain_imagenet, table2, table3, table4
from darts_pt_jax import nasbench201
from darts_pt_jax.published import find
from experiments import directory
from experiments.analysis import figures
from experiments.analysis.subject import Options, Result, restored
from experiments.report import table_head, table_row
from experiments.retraining import own
from experiments.rules import ConfigError, flatten

OPTIONS = {"table": {"metavar": "NPZ", "help": "accuracies of NAS-Bench-201"}}

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
    ("5", "darts", "imagenet2012", "darts"): 26.7, ("5", "darts", "imagenet2012", "darts_pt"): 25.5,
}  # fmt: skip
"""Test error in percent (top 1) by table, space, data set and method; Table 3 is of the best of four seeds, Table 2 a mean."""

TABLE5 = {"DARTS_V2": "darts", "darts_pt_s5_3": "darts_pt"}
"""Published architectures that Table 5 may be of; the paper does not name its own."""

WITHOUT_EFFECT = (*directory.FREE, "seed", "search.seed", "select.seed", "retrain.seed", "eval.", "checkpoint.",
                  "search.gradients", "search.scan", "select.restrict_every", "select.mask_batch", "matmul_precision",
                  "curvature.", "init_from", "init_epoch", "retrain.test_every", "space", "genotype", "data.source")  # fmt: skip
"""Keys, or beginnings of keys, that decide no result, or by which a cell is found."""


def own_config(cell: tuple[str, str, str, str]) -> ConfigDict:
    """The config of a cell's full protocol."""
    table, space, data, method = cell
    return {
        "2": lambda: table2.get_config(method),
        "3": lambda: table3.get_config(f"{space},{data},{method}"),
        "4": lambda: table4.get_config(f"{space},{method}"),
        "5": retrain_imagenet.get_config,
    }[table]()


def _signature(config: ConfigDict) -> tuple:
    search = config.search
    return search.alpha, search.perturb, search.unrolled, config.select.method


def cells_of(config: ConfigDict) -> list[tuple[str, str, str, str]]:
    """The cells that a run belongs to."""
    data = pathlib.Path(config.data.path).stem if config.data.source == "npz" else config.data.source
    data = data.removesuffix("_cropped")
    if config.genotype:
        text = find(config.genotype)
        names = [name for published, name in TABLE5.items() if find(published) == text]
        return [cell for cell in PAPER if cell[0] == "5" and data == cell[2] and cell[3] in names]
    signature, found = _signature(config), []
    for cell in PAPER:
        theirs = own_config(cell) if cell[0] != "5" else None
        if theirs and _signature(theirs) == signature and theirs.space == config.space and cell[2] == data:
            found.append(cell)
    return found


def differing(config: ConfigDict, cell: tuple[str, str, str, str]) -> list[str]:
    """Keys that decide a result, by which a run leaves a cell's full protocol."""
    ours, theirs = flatten(config), flatten(own_config(cell))
    return [key for key in ours if ours[key] != theirs.get(key) and not key.startswith(WITHOUT_EFFECT)]


def run(workdirs: Sequence[pathlib.Path], options: Options) -> Result:
    """All cells, with the runs and sweeps that are given."""
    found, left_out = {}, []
    for workdir in _runs(workdirs):
        stored = directory.stored(workdir)
        config = restored(stored["config"], workdir)
        cells, error = cells_of(config), _error(workdir, config, options.table)
        if not cells or error is None:
            left_out.append(f"{workdir}: {'of no table' if not cells else 'neither retrained nor looked up'}")
            continue
        for cell in cells:
            found.setdefault(cell, []).append((error, differing(config, cell)))
    rows = [_row(cell, found.get(cell, [])) for cell in PAPER]
    lines = table_head("table", "space", "data", "method", "paper, %", "ours, %", "seeds", "protocol")
    for row in rows:
        sd = "" if row["sd"] is None else f" ± {row['sd']:.2f}"
        ours = "" if row["ours"] is None else f"{row['ours']:.2f}{sd}"
        lines.append(
            table_row(
                *(row[n] for n in ("table", "space", "data", "method", "paper")), ours, row["seeds"], row["protocol"]
            )
        )
    figure, (axes,) = figures.panels(
        "test error of the paper, and ours", [("test error, %", "")], height=0.13 * len(rows) + 1
    )
    for i, row in enumerate(rows):
        axes.plot(row["paper"], i, "o", color=figures.GREY, markersize=4, label="paper" if i == 0 else None)
        if row["seeds"]:
            axes.plot(row["ours"], i, "x", color=figures.COLOURS[0], markersize=4)
    axes.plot([], [], "x", color=figures.COLOURS[0], markersize=4, label="ours")
    axes.set_yticks(
        range(len(rows)), [f"Table {r['table']}: {r['space']}, {r['data']}, {r['method']}" for r in rows], fontsize=5
    )
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=7)
    lines += ["", *left_out]
    return Result({"left_out": left_out}, rows, {"tables": figure}, "\n".join(lines))


def _runs(workdirs: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """Run directories, those of a sweep in place of it."""
    for workdir in workdirs:
        if (workdir / "run.json").is_file():
            yield workdir
            continue
        within = sorted(file.parent for file in workdir.glob("*/run.json"))
        if not within:
            raise ConfigError(f"--run {workdir}: neither a run directory nor a sweep's: it has no run.json")
        yield from within


def _error(workdir: pathlib.Path, config: ConfigDict, table: str | None) -> float | None:
    """Test error in percent: of the retrained network after its last epoch, or looked up; None if it is not known."""
    if (workdir / "retrained.json").exists():
        return 100 - json.loads((workdir / "retrained.json").read_text())["test_accuracy"]
    table = table or config.report.nasbench201
    if table and config.space == "nasbench201" and (workdir / "genotype.json").exists():
        return 100 - nasbench201.Table(table).accuracies(own(workdir).text("nasbench201"))["c10_test"]
    return None


def _row(cell: tuple[str, str, str, str], runs: list[tuple[float, list[str]]]) -> dict:
    errors, keys = [error for error, _ in runs], sorted({key for _, differ in runs for key in differ})
    return {
        **dict(zip(("table", "space", "data", "method"), cell, strict=True)), "paper": PAPER[cell],
        "ours": float(np.mean(errors)) if errors else None,
        "sd": float(np.std(errors, ddof=1)) if len(errors) > 1 else None, "seeds": len(errors),
        "protocol": "not run" if not errors else f"reduced: {', '.join(keys)}" if keys else "full",
    }  # fmt: skip

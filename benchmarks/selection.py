"""Seconds of a whole selection by its phases, with and without restriction of the supernet.

    python -m benchmarks.selection --config configs/s4_c10_small.py --json selection.json -- --config.select.interval=1

It searches once and selects twice from that supernet (`init_from`): with select.restrict_every=0, and with
--restrict-every. All three are runs of `experiments.main` in a temporary directory, each with an empty compilation cache;
arguments after `--` go to all of them. The columns give the seconds of timings.jsonl; brackets give the part that is
compilation.
"""

import pathlib
import tempfile
from collections.abc import Callable

from benchmarks import commands, measure
from benchmarks.measure import Table

PHASES: dict[str, Callable[[dict], bool]] = {
    "search epochs": lambda line: line["stage"] == "search",
    "decisions (scoring)": lambda line: line["type"] == "decision",
    "restriction": lambda line: line["type"] == "restriction",
    "tuning epochs": lambda line: line["type"] == "tuning epoch",
    "all units of selection": lambda line: line["stage"] == "select",
}
"""By phase: whether a line of timings.jsonl belongs to it."""


def phase(lines: list[dict]) -> dict:
    """Number of units, their seconds, and the seconds of compilation among these."""
    sums = {key: round(sum(line[key] for line in lines), 2) for key in ("seconds", "compile_seconds")}
    return {"units": len(lines), **sums}


def words(cell: dict) -> str:
    """A cell of the table."""
    if "units" not in cell:
        return f"{cell['seconds']:.1f} s"
    return f"{cell['seconds']:.1f} s ({cell['compile_seconds']:.1f} s) in {cell['units']}" if cell["units"] else "-"


def measured(config: str, every: int, overrides: list[str]) -> tuple[dict[str, float], dict[str, list[dict]]]:
    """Seconds of the process, and lines of timings.jsonl (the search's included), of each of the two selections."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _, search = commands.run(folder / "search", config, ["stages=search"], overrides)
        seconds, lines = {}, {}
        for column, value in (("never", 0), (f"every {every}", every)):
            keys = ["stages=select", f"init_from={folder / 'search'}", f"select.restrict_every={value}"]
            seconds[column], selection = commands.run(folder / f"select{value}", config, keys, overrides)
            lines[column] = search + selection
    return seconds, lines


@measure.command
def main():
    """Prints the table."""
    parser = measure.parser(__doc__, sizes=False)
    parser.add_argument("--config", default="configs/s4_c10_small.py", help="default: %(default)s")
    parser.add_argument("--restrict-every", type=int, default=4, metavar="N", help="decision points (default: 4)")
    parser.add_argument("overrides", nargs="*", metavar="--config.KEY=VALUE", help="settings of the runs, after --")
    args = parser.parse_args()
    if args.restrict_every < 1:
        parser.error("--restrict-every is less than 1")
    table = Table(args.json, ("phase", "never", f"every {args.restrict_every}"))
    seconds, lines = measured(args.config, args.restrict_every, args.overrides)
    for name, belongs in PHASES.items():
        row = {column: phase([line for line in lines[column] if belongs(line)]) for column in lines}
        table.add_line([name, *map(words, row.values())], {"phase": name, **row})
    row = {column: {"seconds": round(process_seconds, 2)} for column, process_seconds in seconds.items()}
    table.add_line(["whole command of selection", *map(words, row.values())], {"phase": "command", **row})


if __name__ == "__main__":
    main()

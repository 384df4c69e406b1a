"""Seconds of tracing, lowering and compiling a bilevel step and a scorer, cold and from a warm cache.

    python -m benchmarks.compilation --json compilation.json

Cold: without a cache of compiled programs. Warm: a new process that traces, and loads what another process has compiled
into a temporary cache folder. The row of the quickstart is the sum of `compile_seconds` in the timings.jsonl of a whole run
that starts with an empty cache; arguments after `--` go to that run.
"""

import argparse
import pathlib
import tempfile

from benchmarks import commands, measure
from benchmarks.measure import Row, Table

PROGRAMS = {
    "step": ("bilevel step, darts", "step", "separate", (90, 150)),
    "step-shared": ("bilevel step, darts, shared gradients", "step", "shared", (90, 150)),
    "scorer": ("scorer of normal edges, darts", "score", "separate", (30, 60)),
    "scorer-reduce": ("scorer of reduction edges, darts", "score_reduce", "separate", (30, 60)),
}
"""Words, what, gradients, goal and limit in seconds of a cold compilation, by name."""
WARM = 25, 40
QUICKSTART = "configs/quickstart.py"


def compile_seconds(args: argparse.Namespace, name: str, warm: bool) -> float:
    """Seconds for one of `PROGRAMS`; if `warm`, in the second of two processes that share a cache."""
    _, what, gradients, _ = PROGRAMS[name]
    options = f"--what={what}", f"--gradients={gradients}", *(["--cache"] if warm else [])
    command = measure.ours(args, "darts", *options, "--runs=0")
    with tempfile.TemporaryDirectory() as folder:
        env = commands.cache(pathlib.Path(folder))
        for _ in range(1 + warm):
            answer = measure.ask(command, env)
    return answer["compile_s"][what]["all"]


def quickstart_seconds(overrides: list[str]) -> float:
    """Seconds of compilation in a run of the quickstart."""
    with tempfile.TemporaryDirectory() as folder:
        _, timings = commands.run(pathlib.Path(folder) / "run", QUICKSTART, (), overrides)
    return sum(line["compile_seconds"] for line in timings)


def names() -> list[str]:
    """The names of all rows, for --only."""
    return [f"{name}-{state}" for state in ("cold", "warm") for name in PROGRAMS] + ["quickstart"]


@measure.command
def main():
    """Prints the table."""
    parser = measure.parser(f"{__doc__}\nThe rows are {', '.join(names())}.")
    parser.add_argument(
        "overrides", nargs="*", metavar="--config.KEY=VALUE", help="settings of the quickstart, after --"
    )
    args = parser.parse_args()
    table = Table(args.json)
    for name in measure.chosen(names(), args.only):
        if name == "quickstart":
            words, size, seconds = "quickstart, all compilation, cold", QUICKSTART, quickstart_seconds(args.overrides)
            goal, limit = 60, 90
        else:
            program, _, state = name.rpartition("-")
            words, size = f"{PROGRAMS[program][0]}, {state}", measure.size_words(args, "darts")
            goal, limit = WARM if state == "warm" else PROGRAMS[program][-1]
            seconds = compile_seconds(args, program, state == "warm")
        table.add(Row(words, size, seconds, goal=goal, limit=limit, of_ratio=False))


if __name__ == "__main__":
    main()

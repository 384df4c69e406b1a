"""Seconds of a first-order bilevel step, and of a run's other work; our program and the peer run alternately.

    python -m benchmarks.steps --peer 'TORCH_ENVIRONMENT/bin/python benchmarks/torch_peer.py --what=step' \\
        --json steps.json

The benchmark adds --space, --channels, --cells, --size, --batch, --runs and --decided to the peer's command. The peer prints
a JSON line with `bilevel_step_s` and `parameters`, as benchmarks/torch_peer.py does. Without a peer, only our program is
measured. In the row "over our own with none decided", the column "peer" is our own step with no edge decided.
"""

import argparse
import dataclasses
from collections.abc import Mapping

from benchmarks import measure
from benchmarks.measure import Row, Table


@dataclasses.dataclass(frozen=True)
class Case:
    """A step of `space` with the first `decided` edges of every kind decided; goal and limit apply to the ratio."""

    words: str
    space: str
    gradients: str = "separate"
    decided: int = 0
    goal: float | None = None
    limit: float | None = None


STEPS = {
    "darts": Case("step, darts", "darts", goal=0.4, limit=0.8),
    "darts-shared": Case("step, darts, shared gradients", "darts", gradients="shared"),
    "darts-decided": Case("step, darts, 7 of 14 edges decided", "darts", decided=7, goal=0.6, limit=0.9),
    "s2": Case("step, s2", "s2", goal=0.4, limit=0.8),
    "nasbench201": Case("step, nasbench201", "nasbench201", goal=0.6, limit=0.9),
}
"""Rows with a peer, by their names for --only."""

BESIDE = {
    "pipeline": ("data pipeline, share of a step, darts", "darts", "pipeline", 1, 3, 5),
    "records-darts": ("logging and checkpoints, share of 100 steps, darts", "darts", "records", 100, 5, 10),
    "records-nasbench201": (
        "logging and checkpoints, share of 100 steps, nasbench201", "nasbench201", "records", 100, 5, 10,
    ),
}  # fmt: skip
"""Rows of our program alone: words, space, measurement, number of steps to divide by, goal and limit in percent."""


def add_steps(table: Table, args: argparse.Namespace, space: str, cases: Mapping[str, Case]):
    """Measures `cases`, all of one space, and adds a row for each."""
    commands = {}
    for name, case in cases.items():
        if args.peer:
            commands[_peer(case)] = measure.with_sizes(args.peer, args, space, f"--decided={case.decided}")
        commands[name] = _ours(args, case)
        if case.decided:
            commands.setdefault(space, _ours(args, STEPS[space]))
    answers = measure.alternate(commands, args.alternations)
    seconds = {name: measure.column(lines, "bilevel_step_s") for name, lines in answers.items()}
    size = measure.size_words(args, space)
    for name, case in cases.items():
        if args.peer:
            table.torch = answers[_peer(case)][0].get("torch")
        peer = seconds[_peer(case)] if args.peer else None
        table.add(Row.compared(case.words, size, seconds[name], peer, goal=case.goal, limit=case.limit))
        if case.decided:
            words = f"{case.words}, over our own with none decided"
            table.add(Row.compared(words, size, seconds[name], seconds[space], goal=0.65))


def _ours(args: argparse.Namespace, case: Case) -> list[str]:
    options = "--cache", "--what=step", f"--decided={case.decided}", f"--gradients={case.gradients}"
    return measure.ours(args, case.space, *options)


def _peer(case: Case) -> str:
    return f"peer with {case.decided} edges decided"


def add_beside(table: Table, args: argparse.Namespace, name: str):
    """Measures and adds a row of `BESIDE`."""
    words, space, what, steps, goal, limit = BESIDE[name]
    answers = [measure.ask(measure.ours(args, space, "--cache", f"--what={what},step"))]
    (beside,), (step,) = measure.column(answers, f"{what}_s"), measure.column(answers, "bilevel_step_s")
    share = 100 * beside / (steps * step)
    size = measure.size_words(args, space)
    table.add(Row(words, size, share, goal=goal, limit=limit, unit="%", of_ratio=False))


@measure.command
def main():
    """Prints the table."""
    args = measure.parser(__doc__, peer=True).parse_args()
    names = measure.chosen([*STEPS, *BESIDE], args.only)
    table = Table(args.json)
    for space in measure.SIZES:
        if cases := {name: case for name, case in STEPS.items() if name in names and case.space == space}:
            add_steps(table, args, space, cases)
    for name in BESIDE:
        if name in names:
            add_beside(table, args, name)


if __name__ == "__main__":
    main()

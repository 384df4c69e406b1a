"""Compiles the programs of a run for GPUs and TPUs without having them, and says what the compiled programs do.

    python -m benchmarks.accelerator --targets h100,v5e --spaces s2 --cells 3 --json accelerator.json --top 20

Each program is compiled in a process of its own. "model" is the least time by a model, not a measurement: nothing runs.
docs/accelerator_programs.md explains the columns. It needs `pip install -e '.[accelerators]' -c requirements.lock`.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator

from benchmarks import measure
from benchmarks.accelerator import programs
from benchmarks.accelerator.targets import TARGETS
from benchmarks.measure import Failure, Table

FORMS = ("plain", "restricted")
PRECISIONS = ("float32", "bfloat16")
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
"""Of a process that compiles: it looks for no hardware."""

COLUMNS = {
    "kernels": ("kernels", 1), "one block": ("one_block", 1), "convolutions": ("convolutions", 1),
    "library calls": ("library_calls", 1), "copies": ("copies", 1), "collectives": ("collectives", 1),
    "command buffers": ("command_buffers", 1), "host launches": ("host_launches", 1), "read, GB": ("read_bytes", 1e9),
    "written, GB": ("written_bytes", 1e9), "temporaries, GB": ("temporary_bytes", 1e9),
    "arguments, GB": ("argument_bytes", 1e9), "Gflop": ("flops", 1e9), "tracing, s": ("trace_s", 1),
    "lowering, s": ("lower_s", 1), "compiling, s": ("compile_s", 1), "model (not run), ms": ("model_s", 1e-3),
}  # fmt: skip
"""The key in the row, and the unit, by the words of the table."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = measure.parser(__doc__, sizes=False)
    for name, values in {"targets": TARGETS, "spaces": measure.SIZES, "precisions": PRECISIONS, "forms": FORMS}.items():
        parser.add_argument(f"--{name}", type=_names, metavar="NAME[,NAME]", help=f"of {', '.join(values)}")
    parser.add_argument("--programs", type=_names, metavar="NAME[,NAME]", help="such as 'weight gradient,validation'")
    for name in measure.SIZES["darts"]:
        parser.add_argument(f"--{name}", type=int, help="another size, of the retrained network too")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="list the N most expensive kernels of each")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return text.split(",")


def targets(args: argparse.Namespace) -> list[str]:
    """The targets that programs can be compiled for; says what to install for the others.

    Raises:
      Failure: a target that the command names, or every target, lacks its compiler.
    """
    chosen = measure.chosen(TARGETS, args.targets, "--targets", "the targets")
    missing = {name: what for name in chosen if (what := TARGETS[name].missing())}
    found = [name for name in chosen if name not in missing]
    if (args.targets and missing) or not found:
        raise Failure("; ".join(sorted(set(missing.values()))))
    for what in sorted(set(missing.values())):
        print(f"warning: {what}", file=sys.stderr)
    return found


def cases(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    """What to compile, in the order of the table."""
    spaces = measure.chosen(measure.SIZES, args.spaces, "--spaces", "the spaces")
    known = list(dict.fromkeys(name for space in spaces for name in programs.names(space)))
    asked = measure.chosen(known, args.programs, "--programs", "the programs")
    precisions = measure.chosen(PRECISIONS, args.precisions, "--precisions", "the precisions")
    forms = measure.chosen(FORMS, args.forms, "--forms", "the forms")
    for target, space, precision, form in itertools.product(targets(args), spaces, precisions, forms):
        for program in programs.names(space):
            same = form == "restricted" and program in ("batch", "retraining step")  # as plain ones
            if program in asked and not (same and "plain" in forms):
                yield {"target": target, "space": space, "precision": precision, "form": form, "program": program}


def command(args: argparse.Namespace, case: dict[str, str]) -> list[str]:
    """The command line of the process that compiles a program."""
    options = {name: case[name] for name in ("target", "space", "program", "precision")}
    options |= measure.sizes(args, case["space"]) | {"top": args.top}
    options |= {f"retrain_{name}": value for name in ("cells", "channels", "batch") if (value := getattr(args, name))}
    given = (f"--{name}={value}" for name, value in options.items())
    line = [sys.executable, "-m", "benchmarks.accelerator.one", *given]
    return [*line, "--restricted"] if case["form"] == "restricted" else line


@measure.command
def main():
    """Prints the table."""
    args = parse()
    todo, failed = list(cases(args)), 0
    table = Table(args.json, ["program", *COLUMNS])
    for case in todo:
        words = ", ".join(case.values())
        try:
            row = measure.ask(command(args, case), ENVIRONMENT)
        except Failure as failure:
            failed += 1
            print(f"{words}: {' '.join(str(failure).split())}", file=sys.stderr)
            continue
        numbers = [_number(row[key] / unit) for key, unit in COLUMNS.values()]
        table.add_line([words, *numbers], case | measure.sizes(args, case["space"]) | row)
        for kernel in row.get("most_expensive", []):
            print(_expensive(kernel), flush=True)
    if failed:
        raise Failure(f"{failed} of {len(todo)} programs could not be compiled: see above")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _expensive(kernel: dict) -> str:
    time = f"model {kernel['seconds'] * 1e6:8.1f} us"
    what = f"{kernel['times']:4} x {kernel['kind']} {kernel['name']}"
    work = f"{kernel['bytes'] / 1e6:.3g} MB and {kernel['flops'] / 1e6:.3g} Mflop each"
    return f"    {time}, {what}, {work}: {kernel['source'] or 'no line of code'}"


if __name__ == "__main__":
    main()

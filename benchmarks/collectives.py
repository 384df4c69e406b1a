"""Counts the collective operations of the compiled programs: what devices communicate.

    python -m benchmarks.collectives --devices 8 [--json FILE]

It compiles the programs for N devices of a CPU, and does not run them.
"""

import os

from benchmarks import measure
from benchmarks.measure import Table

HEADER = ("program", "operation", "how many", "bytes in all", "bytes of the largest")


@measure.command
def main():
    """Prints the table."""
    parser = measure.parser(__doc__)
    parser.add_argument("--devices", type=int, default=8, help="default: 8")
    args = parser.parse_args()
    table = Table(args.json, HEADER)
    quickly = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"}
    for space in measure.chosen(measure.SIZES, args.only):
        answer = measure.ask(measure.ours(args, space, "--what=collectives", f"--devices={args.devices}"), quickly)
        for program, operations in answer["collectives"].items():
            for operation, sizes in operations.items() or [("none", [])]:
                numbers = (f"{number:,}" for number in (len(sizes), sum(sizes), max(sizes, default=0)))
                cells = [f"{space}, {program}", operation, *numbers]
                table.add_line(cells, {"space": space, "program": program, "operation": operation, "bytes": sizes})


if __name__ == "__main__":
    main()

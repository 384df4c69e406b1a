"""Compares a step and a scoring on several devices of a CPU, which share its cores, with the same on one device.

    python -m benchmarks.scaling --devices 2 [--json FILE]

The two run alternately. The column "ours" has the seconds on --devices devices, "peer" those on one.
"""

from benchmarks import measure
from benchmarks.measure import Row, Table

ROWS = {
    "step": ("bilevel step", "step", "bilevel_step_s"),
    "score": ("scoring a normal edge", "score", "score_normal_s"),
}
"""Rows by their names for --only: words, the measurement, and its key in the answer."""


@measure.command
def main():
    """Prints the table."""
    parser = measure.parser(__doc__)
    parser.add_argument("--space", choices=measure.SIZES, default="nasbench201")
    parser.add_argument("--devices", type=int, default=2, help="default: 2")
    parser.add_argument("--alternations", type=int, default=3, help="how often both are run (default: 3)")
    args = parser.parse_args()
    table = Table(args.json)
    for name in measure.chosen(ROWS, args.only):
        words, what, key = ROWS[name]
        commands = {
            n: measure.ours(args, args.space, "--cache", f"--what={what}", f"--devices={n}") for n in (args.devices, 1)
        }
        answers = measure.alternate(commands, args.alternations)
        several, one = (measure.column(of, key) for of in answers.values())
        size = measure.size_words(args, args.space)
        table.add(Row.compared(f"{words}, {args.space}, {args.devices} devices over one", size, several, one))


if __name__ == "__main__":
    main()

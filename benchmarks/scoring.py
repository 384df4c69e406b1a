"""Seconds to score all removals of one edge on one batch; our program and the peer run alternately.

    python -m benchmarks.scoring --peer 'TORCH_ENVIRONMENT/bin/python benchmarks/torch_peer.py --what=score' \\
        --json scoring.json

Our program scores all removals and the unmasked supernet in one call, one pass more than the peer, and crops and flips the
images. The peer runs the whole supernet for each removal, so its `score_edge_s`, measured on a normal edge, also holds for
a reduction edge.
"""

from benchmarks import measure
from benchmarks.measure import Row, Table

EDGES = {
    "darts": ("darts", "normal", 0.5, 0.9),
    "darts-reduce": ("darts", "reduce", 0.35, 0.65),
    "s2": ("s2", "normal", None, None),
    "nasbench201": ("nasbench201", "normal", None, None),
}
"""Rows by their names for --only: space, cell kind, goal and limit of the ratio."""


@measure.command
def main():
    """Prints the table."""
    args = measure.parser(__doc__, peer=True).parse_args()
    names, table = measure.chosen(EDGES, args.only), Table(args.json)
    for space in measure.SIZES:
        rows = {name: EDGES[name] for name in names if EDGES[name][0] == space}
        if not rows:
            continue
        what = {"normal": "score", "reduce": "score_reduce"}
        commands = {
            n: measure.ours(args, space, "--cache", f"--what={what[kind]}") for n, (_, kind, *_) in rows.items()
        }
        if args.peer:
            commands["peer"] = measure.with_sizes(args.peer, args, space)
        answers = measure.alternate(commands, args.alternations)
        peer = measure.column(answers["peer"], "score_edge_s") if args.peer else None
        table.torch = answers["peer"][0].get("torch") if args.peer else None
        for name, (_, kind, goal, limit) in rows.items():
            seconds = measure.column(answers[name], f"score_{kind}_s")
            words = f"scoring a {'normal' if kind == 'normal' else 'reduction'} edge, {space}"
            size = measure.size_words(args, space)
            table.add(Row.compared(words, size, seconds, peer, goal=goal, limit=limit))


if __name__ == "__main__":
    main()

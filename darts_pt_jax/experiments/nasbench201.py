"""Look up architectures of NAS-Bench-201 in a compact table.

    python -m experiments.nasbench201 query ARCH|INDEX     all accuracies, and the rank
    python -m experiments.nasbench201 rank ARCH|INDEX      1 + the number of architectures strictly better on c10_test
    python -m experiments.nasbench201 rank --top N         the N best on c10_test: rank, accuracy, index, arch
    python -m experiments.nasbench201 random               accuracy of random choice: mean, percentiles, expected best of N
    python -m experiments.nasbench201 import FILE          makes the table from an official file

FILE is NAS-Bench-201-v1_0-e61699.pth or -v1_1-096897.pth (needs torch), or the unpacked folder NATS-tss-v1_0-3ffb9-simple.

ARCH is an arch string, another notation of docs/reference/notations.md, or a file such as a run's genotype.json.

Exit codes: 0 done, 1 failed, 2 a setting or a file is wrong.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from darts_pt_jax.data import nasbench201_files
from darts_pt_jax.experiments import commands
from darts_pt_jax.interop.published import find
from darts_pt_jax.nasbench201 import SUMMARY, Table


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    parser = commands.parser("nasbench201", __doc__)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--table", default="data/nasbench201.npz", metavar="NPZ", help="default: data/nasbench201.npz")
    works = parser.add_subparsers(dest="command", required=True)
    works.add_parser("query", parents=[shared]).add_argument("arch", metavar="ARCH|INDEX")
    what = works.add_parser("rank", parents=[shared]).add_mutually_exclusive_group(required=True)
    what.add_argument("arch", nargs="?", metavar="ARCH|INDEX")
    what.add_argument("--top", type=int, metavar="N")
    works.add_parser("random", parents=[shared])
    works.add_parser("import", parents=[shared]).add_argument("file", type=pathlib.Path)
    asked = parser.parse_args(argv)
    try:
        if asked.command == "import":
            count = nasbench201_files.convert(asked.file, pathlib.Path(asked.table))
            print(f"{asked.table}: {count:,} architectures")
        else:
            {"query": _query, "rank": _rank, "random": _random}[asked.command](Table(asked.table), asked)
    except ValueError as error:
        return commands.fail(error, 2)
    return 0


def _row(table: Table, text: str) -> int:
    if text.isdecimal():
        return table.row(text)
    try:
        genotype = find(text)
    except ValueError as error:
        raise ValueError(f"{error}; expected an index, a file, or an arch string |...|+|...|+|...|") from error
    if genotype.notation != "nasbench201":
        raise ValueError(f"{text:.80} is no architecture of NAS-Bench-201, expected one cell |...|+|...|+|...|")
    return table.row(genotype.text("nasbench201"))


def _query(table: Table, asked: argparse.Namespace):
    row = _row(table, asked.arch)
    print(f"{'index':18}{row}\n{'arch':18}{table.arch(row)}")
    for name, value in table.accuracies(row).items():
        print(f"{name:18}{value:.2f}")
    print(f"{'rank':18}{table.rank(row)} of {len(table):,} on c10_test")


def _rank(table: Table, asked: argparse.Namespace):
    if asked.top is None:
        print(table.rank(_row(table, asked.arch)))
        return
    if not 1 <= asked.top <= len(table):
        raise ValueError(f"--top is {asked.top}, expected 1 to {len(table)}")
    accuracies = table.column("c10_test")
    for row in np.argsort(-accuracies, kind="stable")[: asked.top].tolist():
        print(f"{table.rank(row):6}{accuracies[row]:8.2f}{row:8}  {table.arch(row)}")


def _random(table: Table, asked: argparse.Namespace):
    columns = {name: table.random_choice(name) for name in SUMMARY}
    print(f"{'':22}" + "".join(f"{name:>12}" for name in columns))
    for label in columns[SUMMARY[0]]:
        print(f"{label:22}" + "".join(f"{values[label]:12.2f}" for values in columns.values()))


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

"""The report page of a run, or a page that compares several, from their records alone.

    python -m experiments.report RUN_DIR              writes RUN_DIR/report.html, also while it runs
    python -m experiments.report RUN_DIR RUN_DIR...   compares runs: methods, selections, mean and spread over seeds
    python -m experiments.report RUN_DIR --serve      also shows the page, as it is then, at an address of this machine

Exit codes: 0 done, 1 a record is damaged or the page cannot be written, 2 an argument is wrong.
"""

import argparse
import contextlib
import functools
import pathlib
import sys
from collections.abc import Iterator, Sequence

import jax

from darts_pt_jax import record
from darts_pt_jax.experiments import commands
from darts_pt_jax.experiments.config import plugins
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.reporting import comparison, page, serving
from darts_pt_jax.experiments.reporting.records import RunRecords, config_of
from darts_pt_jax.nasbench201 import TableError
from darts_pt_jax.record import RecordError


def main(argv: Sequence[str]) -> int:
    """Writes one page, shows it if asked, and returns the exit code."""
    asked = _arguments(argv)
    plugins.use(asked.plugins)
    jax.config.update("jax_platforms", "cpu")  # the accelerator is for the run
    one = len(asked.runs) == 1
    file = asked.out or (asked.runs[0] / "report.html" if one else pathlib.Path("comparison.html"))
    make = functools.partial(_page, asked.runs, asked.nasbench201)
    try:
        record.write_text(file, make())
        print(f"the page is in {file}", flush=True)
        if asked.serve:
            serving.serve(make, asked.port, lambda address: print(f"and at {address}, until Ctrl-C", flush=True))
    except (ConfigError, TableError, OverflowError) as error:  # the last from --port
        return commands.fail(error, 2)
    except (RunError, RecordError, OSError) as error:
        return commands.fail(error, 1)
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = commands.parser("report", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=pathlib.Path, metavar="RUN_DIR")
    add("--out", type=pathlib.Path, metavar="FILE", help="default: RUN_DIR/report.html, or comparison.html for several")
    add("--nasbench201", default="", metavar="NPZ", help="table of accuracies, if not the run's own")
    add("--serve", action="store_true", help="show the page, made anew each time, to this machine alone")
    add("--port", type=int, default=0, help="of --serve; default: any free one")
    plugins.add_option(parser)
    return parser.parse_args(argv)


def _page(runs: Sequence[pathlib.Path], table: str) -> str:
    """The page of what the records say now."""
    read = {}
    for workdir in runs:
        config = config_of(read_run(workdir))
        config = config.changed({"report.nasbench201": table or config.report.nasbench201})
        with _naming(workdir):
            read[str(workdir)] = config, RunRecords.read(workdir, config, finished=False)
    chosen = [genotype for _, found in read.values() for genotype in found.genotypes]
    if table and chosen and all(genotype.notation != "nasbench201" for genotype in chosen):
        raise ConfigError(f"--nasbench201 {table}: no run has chosen an architecture of NAS-Bench-201: leave it out")
    with _naming(", ".join(read)):
        return page.build(*next(iter(read.values()))) if len(runs) == 1 else comparison.build(read)


@contextlib.contextmanager
def _naming(runs: pathlib.Path | str) -> Iterator[None]:
    """Names the runs whose records do not hold what a run writes."""
    try:
        yield
    except (ConfigError, TableError):
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise RunError(f"{runs}: the records are not as a run writes them: {type(error).__name__}: {error}") from error


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

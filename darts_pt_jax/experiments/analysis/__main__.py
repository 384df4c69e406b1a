"""The analyses of the paper. They only read the runs.

    python -m experiments.analysis NAME --run RUN_DIR [RUN_DIR ...] [--out DIR]

Leaves summary.md, numbers.json, rows.csv, and figures as SVG and PNG in DIR (default: RUN_DIR-analysis/NAME). Several runs
differ in their seeds only (tables and collapse take any), and need --out; figures then show mean and range. Measurements
that take long are kept, and the same command again continues, also with more runs. `python -m experiments.analysis NAME
--help` lists the options of an analysis.

Exit codes: 0 done, 1 failed, 2 a setting or a file is wrong, 130 interrupted (Ctrl-C), 143 terminated.
"""

import argparse
import csv
import gc
import io
import json
import os
import pathlib
import sys
from collections.abc import Sequence

from darts_pt_jax.experiments import commands, streams
from darts_pt_jax.experiments.engine.interrupts import Interrupts, exit_code
from darts_pt_jax.experiments.engine.large_pages import use_large_pages


def main(argv: Sequence[str]) -> int:
    """Carries out one analysis and returns the exit code."""
    return exit_code(lambda stop: _carry_out(argv, stop))


def _carry_out(argv: Sequence[str], stop: Interrupts) -> int:
    import jax
    from absl import logging

    from darts_pt_jax.experiments import analysis
    from darts_pt_jax.experiments.analysis.result import joined
    from darts_pt_jax.experiments.analysis.subject import opened, title_of
    from darts_pt_jax.experiments.config import plugins
    from darts_pt_jax.experiments.engine import failures, locks, machine
    from darts_pt_jax.experiments.errors import ConfigError, RunError
    from darts_pt_jax.record import RecordError

    logging.set_verbosity(logging.FATAL)  # what orbax logs, it raises too
    try:
        plugins.use(plugins.named_by(argv))
        plugins.load("")  # they may add analyses
        asked = _arguments(argv, analysis.ANALYSES)
        chosen = analysis.ANALYSES[asked.name]
        runs = [pathlib.Path(os.path.abspath(run_directory)) for run_directory in asked.run]
        several = len(runs) > 1 and not chosen.whole
        if several and not asked.out:
            raise ConfigError(f"--out is missing: name a folder for what {asked.name} finds in {len(runs)} runs")
        out = pathlib.Path(asked.out or runs[0].with_name(f"{runs[0].name}-analysis") / asked.name)
        for place in (out / run.name for run in runs) if several else (out,):
            if any(run.resolve() in (place.resolve(), *place.resolve().parents) for run in runs):
                raise ConfigError(f"--out {out} writes into a run, which is only read: name another")
        subjects = []
        if not chosen.whole:
            keys = {"data.path": asked.data, "report.nasbench201": asked.table}
            subjects = opened(runs, {key: value for key, value in keys.items() if value}, out, stop)
            machine.prepare(subjects[0].config)
            chosen.prepare(subjects, asked)
        out.mkdir(parents=True, exist_ok=True)
        with locks.locked(out / "lock"):
            title = title_of(subjects)
            results = _carried_out(chosen, subjects, asked) if subjects else {"": chosen.run(runs, asked)}
            result = joined(results) if len(results) > 1 else next(iter(results.values()))
            drawn = {**result.figures, **chosen.draw(title, list(results.values()))}
            about = {"analysis": asked.name, "paper": chosen.paper, "runs": asked.run}
            _write(out, about, title, result, drawn)
    except (RunError, RecordError, FloatingPointError, OSError) as error:
        return commands.fail(error, 1)
    except ValueError as error:  # ConfigError, DataError, TableError
        return commands.fail(error, 2)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if failures.out_of_memory(error):
            return commands.fail(f"{asked.name}: out of memory: name fewer --images, or a run with fewer channels", 1)
        return commands.fail(f"{type(error).__name__}: {str(error)[:300]}", 1)
    print(result.says)
    print(f"the numbers and {', '.join(f'{name}.svg' for name in drawn)} are in {out}")
    return 0


def _carried_out(chosen, subjects: list, asked: argparse.Namespace) -> dict:
    """The result of each run by its name; a run's images and programs are freed before the next."""
    import jax

    results = {}
    while subjects:
        subject = subjects.pop(0)
        subject.out.mkdir(exist_ok=True)
        results[subject.directory.name] = chosen.run(subject, asked)
        if subjects:
            del subject
            gc.collect()  # a `Training` refers to itself
            jax.clear_caches()
    return results


def _arguments(argv: Sequence[str], analyses: dict) -> argparse.Namespace:
    from darts_pt_jax.experiments.config import plugins

    parser = commands.parser("analysis", __doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, one in analyses.items():
        command = names.add_parser(name, help=f"{one.paper}: {one.about}", description=one.about)
        command.add_argument(
            "--run",
            required=True,
            nargs="+",
            metavar="RUN_DIR",
            help="runs, unless said otherwise with a finished search",
        )
        command.add_argument("--out", metavar="DIR", help=f"default: RUN_DIR-analysis/{name}")
        plugins.add_option(command)
        if not one.whole:
            command.add_argument("--data", metavar="NPZ", help="where the run's images are now")
            command.add_argument("--table", metavar="NPZ", help="accuracies of NAS-Bench-201")
        for option, says in one.options.items():
            command.add_argument(f"--{option}", **says)
    return parser.parse_args(argv)


def _write(out: pathlib.Path, about: dict, title: str, result, drawn: dict):
    from darts_pt_jax import draw, record

    rows = io.StringIO()
    names = dict.fromkeys(name for row in result.rows for name in row)
    writer = csv.DictWriter(rows, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.rows)
    record.write_text(out / "rows.csv", rows.getvalue())
    for name, figure in drawn.items():
        draw.save(figure, out / name)
    heading = f"{about['analysis']}: {title}" if title else about["analysis"]
    record.write_text(out / "summary.md", f"# {heading}\n\n{result.says}\n")
    numbers = {**about, "context": result.context, "numbers": result.numbers, "rows": result.rows}
    record.write_text(out / "numbers.json", json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    streams.prepare()  # before the program is restarted, which would inherit a closed stream
    use_large_pages()
    commands.start(main, sys.argv[1:])

"""Search a supernet, select an architecture, retrain it: `python -m experiments.main --config=configs/quickstart.py`.

Exit codes: 0 done, 1 the run failed, 2 a setting or the data is wrong (nothing was done),
130 interrupted (Ctrl-C), 141 nothing reads the output any more, 143 terminated.
"""

import contextlib
import io
import sys
import traceback
from typing import TYPE_CHECKING

from darts_pt_jax.experiments import commands, streams
from darts_pt_jax.experiments.engine.interrupts import Interrupts, exit_code
from darts_pt_jax.experiments.engine.large_pages import use_large_pages

if TYPE_CHECKING:
    from darts_pt_jax.experiments.config.settings import Settings


def main(argv: list[str]) -> int:
    """Carries out one command and returns the exit code."""
    code = exit_code(lambda stop: _carry_out(argv, stop))
    if hosts := sys.modules.get("darts_pt_jax.hosts"):  # otherwise the command was stopped before this import
        hosts.leave(code)
    return code


def _carry_out(argv: list[str], stop: Interrupts) -> int:
    # Imports stand in functions, so that Ctrl-C during them, too, prints one line, and a command needs only what it uses.
    from absl import logging

    from darts_pt_jax import hosts
    from darts_pt_jax.data.images import DataError
    from darts_pt_jax.experiments.config import settings
    from darts_pt_jax.experiments.errors import ConfigError, RunError
    from darts_pt_jax.record import RecordError, WriteError

    logging.set_verbosity(logging.FATAL)  # orbax raises what it logs
    asked = None
    try:
        asked = settings.parse(argv)
        _execute(asked, stop)
    except (ConfigError, DataError) as error:
        return commands.fail(error, 2)
    except (RunError, RecordError, WriteError) as error:
        return commands.fail(error, 1)
    except Exception as error:
        details = ""
        if asked and not asked.plan and (asked.workdir / "run.json").exists():
            with contextlib.suppress(OSError):
                file = asked.workdir / f"traceback{f'-{hosts.number()}' * (not hosts.first())}.txt"
                file.write_text(traceback.format_exc())
                details = f" (details in {file})"
        if hosts.several():
            details += "; if another host has ended, what it said is the reason"
        message = str(error)[:300] or f"without a message, in {traceback.extract_tb(error.__traceback__)[-1].name}"
        return commands.fail(f"{type(error).__name__}: {message}{details}", 1)
    return 0


def _execute(asked: "Settings", stop: Interrupts):
    from darts_pt_jax.experiments.config import settings
    from darts_pt_jax.experiments.engine.execute import execute
    from darts_pt_jax.experiments.stages.pipeline import pipeline

    units = pipeline(asked.config)
    if asked.plan:
        from darts_pt_jax.experiments.stages import plan

        with contextlib.redirect_stdout(io.StringIO()) as text:
            plan.show(asked, units)
        streams.write(text.getvalue())
    else:
        settings.join(asked)
        execute(asked, units, _report, stop)


def _report(asked: "Settings") -> str | None:
    """Stage `report`. Its libraries can fail where a search does not: they draw, and may need a home or a display."""
    from darts_pt_jax.experiments.errors import RunError

    try:
        from darts_pt_jax.experiments.stages import report
    except Exception as error:
        raise RunError(
            f"stage report: a library that it needs fails ({type(error).__name__}: {error!s:.200}); all other stages are "
            "done: mend the installation and repeat the command"
        ) from error
    return report.write(asked)


if __name__ == "__main__":
    streams.prepare()  # before the program is restarted, which would inherit a closed stream
    use_large_pages()
    commands.start(main, sys.argv)

"""Search a supernet, select an architecture, retrain it: `python -m experiments.main --config=configs/quickstart.py`.

Exit codes: 0 done, 1 the run failed, 2 a setting or the data is wrong (nothing was done),
130 interrupted (Ctrl-C), 143 terminated.
"""

import contextlib
import sys
import traceback

from experiments.engine.interrupts import Interrupts, exit_code
from experiments.engine.large_pages import use_large_pages


def main(argv: list[str]) -> int:
    """Carries out one command and returns the exit code."""
    code = exit_code(lambda stop: _carry_out(argv, stop))
    if hosts := sys.modules.get("darts_pt_jax.hosts"):  # otherwise the command was stopped before this import
        hosts.leave(code)
    return code


def _carry_out(argv: list[str], stop: Interrupts) -> int:
    # imported here, so that Ctrl-C during the imports, too, prints one line
    from absl import logging

    from darts_pt_jax import hosts
    from darts_pt_jax.checkpoints import DamagedError
    from darts_pt_jax.data.images import DataError
    from darts_pt_jax.record import RecordError, WriteError
    from experiments import commands
    from experiments.config import settings
    from experiments.engine.execute import execute
    from experiments.errors import ConfigError, RunError
    from experiments.stages import plan, report
    from experiments.stages.pipeline import pipeline

    logging.set_verbosity(logging.FATAL)  # orbax raises what it logs
    asked = None
    try:
        asked = settings.parse(argv)
        units = pipeline(asked.config)
        if asked.plan:
            plan.show(asked, units)
        else:
            settings.join(asked)
            execute(asked, units, report.write, stop)
    except (ConfigError, DataError) as error:
        return commands.fail(error, 2)
    except (RunError, DamagedError, RecordError, WriteError) as error:
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


if __name__ == "__main__":
    use_large_pages()
    sys.exit(main(sys.argv))

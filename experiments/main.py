"""Search a supernet and select an architecture: `python -m experiments.main --config=configs/quickstart.py`.

Exit codes: 0 done, 1 the run failed, 2 a setting or the data is wrong (nothing was done),
130 interrupted (Ctrl-C), 143 terminated.
"""

import sys
import traceback

from darts_pt_jax.data.sources import DataError
from experiments import directory, plan, report, run, search, select, settings
from experiments.interrupts import Interrupted, Interrupts


def main(argv: list[str]) -> int:
    """Carries out one command and returns the exit code."""
    asked = None
    try:
        with Interrupts() as stop:
            asked = settings.parse(argv)
            pipeline = {"search": search.units(asked.config), "select": select.units(asked.config), "report": []}
            if asked.plan:
                plan.show(asked, pipeline)
            else:
                run.execute(asked, pipeline, report.write, stop)
    except (settings.ConfigError, DataError) as error:
        return fail(error, 2)
    except directory.RunError as error:
        return fail(error, 1)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code
    except Exception as error:
        details = ""
        if asked and not asked.plan and (asked.workdir / "run.json").exists():
            (asked.workdir / "traceback.txt").write_text(traceback.format_exc())
            details = f" (details in {asked.workdir / 'traceback.txt'})"
        return fail(f"{type(error).__name__}: {str(error)[:300]}{details}", 1)
    return 0


def fail(message, code: int) -> int:
    """Says in one line what went wrong, and returns the exit code."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))

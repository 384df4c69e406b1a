"""Search a supernet and select an architecture: `python -m experiments.main --config=configs/quickstart.py`.

Exit codes: 0 done, 1 the run failed, 2 a setting or the data is wrong (nothing was done),
130 interrupted.
"""

import sys
import traceback

from darts_pt_jax.data.sources import DataError
from experiments import plan, report, run, search, select, settings


def main(argv: list[str]) -> int:
    """Carries out one command and returns the exit code."""
    asked = None
    try:
        asked = settings.parse(argv)
        pipeline = {"search": search.units(asked.config), "select": select.units(asked.config), "report": []}
        if asked.plan:
            plan.show(asked, pipeline)
        else:
            run.execute(asked, pipeline, report.write)
    except (settings.ConfigError, DataError) as error:
        return _fail(error, 2)
    except run.RunError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted: the same command goes on from the last checkpoint", 130)
    except Exception as error:
        details = ""
        if asked and not asked.plan and (asked.workdir / "run.json").exists():
            (asked.workdir / "traceback.txt").write_text(traceback.format_exc())
            details = f" (details in {asked.workdir / 'traceback.txt'})"
        return _fail(f"{type(error).__name__}: {str(error)[:300]}{details}", 1)
    return 0


def _fail(message, code: int) -> int:
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))

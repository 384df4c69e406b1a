"""What to cite for a run: `python -m experiments.cite RUN_DIR` prints BibTeX.

That is this software, the paper, and the space, search, selection and data that the run's config names.

Exit codes: 0 done, 1 run.json is damaged, 2 there is no run.
"""

import pathlib
import sys
from collections.abc import Sequence

from darts_pt_jax.experiments import commands, streams
from darts_pt_jax.experiments.config.stored import config_in
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.reporting import citations


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    parser = commands.parser("cite", __doc__)
    parser.add_argument("run", type=pathlib.Path, metavar="RUN_DIR", help="it may be unfinished")
    asked = parser.parse_args(argv)
    try:
        streams.write(citations.of_run(config_in(asked.run)))
    except ConfigError as error:
        return commands.fail(error, 2)
    except RunError as error:
        return commands.fail(error, 1)
    return 0


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

"""What every launcher has: the runs that it gets, and what it answers.

A worker imports these modules on its own machine, so they are light: jax is for the process of the run.
"""

import dataclasses
import pathlib
from typing import ClassVar, Protocol


class LauncherError(ValueError):
    """A launcher cannot do what was asked of it; the message is one line. The sweep exits with code 2."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a sweep.

    Attributes:
      workdir: its run directory.
      command: begins or continues it; exits with the codes of `experiments.main`.
      needs: the run directory that it takes its supernet from, if any.
    """

    workdir: pathlib.Path
    command: tuple[str, ...]
    needs: pathlib.Path | None = None

    @property
    def lock(self) -> pathlib.Path:
        """What a process that carries it out holds; beside the run directory, which may not be there yet."""
        return self.workdir.with_name(f"{self.workdir.name}.lock")

    @property
    def log(self) -> pathlib.Path:
        """Where its output goes, if not to the screen."""
        return self.workdir.with_name(f"{self.workdir.name}.log")


class Launcher(Protocol):
    """One way to carry out runs.

    Made as `Class(options, workdir, say)`: the values of --launcher-option by name, the directory of the sweep, and what
    shows a line. An exception there becomes one line. If a package is missing, that line names the extra that is
    called like the launcher.

    Attributes:
      about: what it does with a run, for `--help`.
      takes: what its options are, for `--help`; "" if it has none.
      remote: whether `submit` returns at once, and the output goes to the run's log.
    """

    about: ClassVar[str]
    takes: ClassVar[str]
    remote: ClassVar[bool]

    def submit(self, run: Run):
        """Has a run carried out."""

    def outcome(self, run: Run) -> int | str | None:
        """The exit code of a run, or what became of its worker; None while it runs."""

    def stop(self, run: Run):
        """Asks a run to save and end."""

"""Finished selections that an analysis shows, from the supernets of the searches that it is about."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from darts_pt_jax import record
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.config.schema import KEYS, Config, deciding, value, varying
from darts_pt_jax.experiments.config.stored import read_run
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.lines import end_of_search
from darts_pt_jax.experiments.reporting.records import config_of

OPTION = {
    "nargs": "*",
    "metavar": "RUN_DIR",
    "help": "finished selections from these supernets, by any method, to show in place of selecting by perturbation; "
    "without a name: magnitude alone",
}


@dataclasses.dataclass(frozen=True)
class Selected:
    """A finished selection.

    Attributes:
      directory: its run directory.
      config: its config.
      searched: the lines of metrics.jsonl of the search up to its supernet, which it took over.
    """

    directory: pathlib.Path
    config: Config
    searched: list[dict]

    @classmethod
    def read(cls, directory: pathlib.Path) -> "Selected":
        """Reads a run directory.

        Raises:
          ConfigError: it has not selected.
        """
        config = config_of(read_run(directory))
        metrics = record.JsonLines(directory / "metrics.jsonl").read()
        searched = [m for m in metrics if m["stage"] == "search"]
        if not (searched and (directory / "genotype.json").exists()):
            raise ConfigError(f"--selected {directory}: it has not selected from a supernet: let it finish")
        return cls(directory, config, searched)

    @property
    def epoch(self) -> int:
        """The epoch of the search that made its supernet."""
        return end_of_search(self.searched)["epoch"]

    def is_of(self, subject: Subject) -> bool:
        """Whether a supernet of that search was taken: the lines of the search are the same."""
        ours, theirs = (
            [{name: m[name] for name in m if name != "returned_to"} for m in lines]
            for lines in (self.searched, subject.searched[: len(self.searched)])
        )
        return ours == theirs


def find(subjects: Sequence[Subject], options: Options):
    """Replaces the directories in `options.selected` by the selections of each run directory, by name.

    The name is that of the method, with the settings in which the selections by this method differ.

    Raises:
      ConfigError: a selection is from no supernet of the runs, or two are the same.
    """
    if options.selected is None:
        return
    everyone = [Selected.read(pathlib.Path(os.path.abspath(directory))) for directory in options.selected]
    names = _names(everyone)
    options.selected = {subject.directory: [] for subject in subjects}
    seen = {}
    for one, name in zip(everyone, names, strict=True):
        run = next((subject.directory for subject in subjects if one.is_of(subject)), None)
        if run is None:
            raise ConfigError(
                f"--selected {one.directory}: its supernet is of no --run: name the run that searched too"
            )
        if same := seen.get((run, one.epoch, name)):
            raise ConfigError(f"--selected {one.directory}: the same selection as {same}: name one of them")
        seen[run, one.epoch, name] = one.directory
        options.selected[run].append((name, one))


def _names(selections: Sequence[Selected]) -> list[str]:
    """What figures call each selection."""
    by_method: dict[str, list[Config]] = {}
    for one in selections:
        by_method.setdefault(one.config.select.method, []).append(one.config)
    settings = {key for key in deciding() if KEYS[key].stage == "select"}
    keys = {method: varying(configs, settings) for method, configs in by_method.items()}
    names = []
    for one in selections:
        method = one.config.select.method
        names.append(", ".join([method, *(f"{key}={value(one.config, key)}" for key in keys[method])]))
    return names

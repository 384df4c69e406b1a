"""Where a selection takes its supernet from: another run, or a PyTorch checkpoint (`torch_source`)."""

import os
import pathlib
import re

import numpy as np

from darts_pt_jax import record
from darts_pt_jax.architecture import EdgeWeights
from darts_pt_jax.checkpoints import MANIFEST, Checkpoints, DamagedError
from darts_pt_jax.experiments.config import plugins
from darts_pt_jax.experiments.config.schema import flatten, from_flat, of_supernet
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.config.stored import config_in
from darts_pt_jax.experiments.engine.directory import differing, stored
from darts_pt_jax.experiments.engine.torch_source import TorchSource
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.training.supernet import Training, supernet_of
from darts_pt_jax.samplers import make_sampler
from darts_pt_jax.supernet import Supernet


class Source:
    """The supernet of another run after one of its search epochs; the run is only read.

    Attributes:
      epoch: the search epoch, from 1.
      kept: all search epochs whose supernets exist, ascending.
      data_sha256: fingerprint of the images that the supernet was trained on.
      notes: lines for the screen.
    """

    notes = ()

    def __init__(self, settings: Settings):
        """Finds the supernet that `init_from` and `init_epoch` name.

        Raises:
          ConfigError: there is none, or its space, data, supernet or search differ from the config.
        """
        self._directory = directory = pathlib.Path(settings.config.init_from)
        if not (directory / "run.json").is_file():
            raise ConfigError(f"init_from {directory}: not a run directory: it has no run.json")
        run = stored(directory)
        theirs, ours = flatten(from_flat(run["config"])), flatten(settings.config)
        self.data_sha256, self._epochs = run["data_sha256"], theirs["search.epochs"]
        if other := [key for key in differing(ours, theirs) if key in of_supernet()]:
            values = ", ".join(f"{key} is {theirs[key]!r} there and {ours[key]!r} here" for key in other)
            hint = "; the selection's own seed is select.seed" if other == ["seed"] else ""
            or_leave_out = " or leave out --config (that run knows its config)" * settings.config_named
            raise ConfigError(f"init_from {directory}: {values}: set it as there{or_leave_out}{hint}")
        kept = self._kept(theirs)
        self.kept = sorted(kept)
        wanted = settings.config.init_epoch or max(kept, default=0)
        if wanted not in kept:
            if not kept:
                raise ConfigError(f"init_from {directory}: it keeps no supernet after a search epoch")
            epochs = ", ".join(map(str, self.kept))
            raise ConfigError(f"init_epoch is {wanted}, but {directory} keeps {epochs} (see checkpoint.snapshots)")
        self.epoch, (self._folder, self._number) = wanted, kept[wanted]

    @classmethod
    def named(cls, settings: Settings, before: dict | None) -> "Source | TorchSource | None":
        """The source that a command needs; None if it names none, or continues a run (`before`), which has its supernet."""
        if before or not settings.config.init_from:
            return None
        return (TorchSource if os.path.isfile(settings.config.init_from) else cls)(settings)

    @property
    def digest(self) -> str:
        """SHA-256 of the supernet's manifest."""
        return record.digest(self._folder / str(self._number) / MANIFEST)[1]

    def check(self, training: Training):
        """Does nothing: the configs have been compared already."""

    def _kept(self, config: dict) -> dict[int, tuple[pathlib.Path, int]]:
        """Folder and checkpoint number of every search epoch whose supernet still exists."""
        rolling, snapshots = (self._directory / name for name in ("checkpoints", "snapshots"))
        kept = {}
        if config["genotype"]:
            return kept
        if snapshots.exists():
            kept |= {number: (snapshots, number) for number in Checkpoints(snapshots, read_only=True).numbers()}
        if config["search.epochs"] not in kept and not config["init_from"]:
            checkpoints = Checkpoints(rolling, read_only=True)
            for number in checkpoints.numbers():
                try:
                    position = checkpoints.position(number)
                except (DamagedError, OSError, ValueError) as error:
                    if number in checkpoints.numbers():  # otherwise the other run has just deleted it
                        raise RunError(f"init_from {self._directory}: {error}") from error
                    continue
                if 0 < position["units"] <= config["search.epochs"] and not position["within"]:
                    kept.setdefault(position["units"], (rolling, number))
        return kept

    def state(self, like):
        """The search state, shaped and placed `like`.

        Raises:
          RunError: the supernet has been deleted since.
        """
        return self._checkpoints().restore(self._number, like)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the search state by name, such as ".params['head']['bias']".

        Raises:
          RunError: the supernet has been deleted since.
        """
        return self._checkpoints().arrays(self._number)

    def _checkpoints(self) -> Checkpoints:
        checkpoints = Checkpoints(self._folder, read_only=True)
        if self._number not in checkpoints.numbers():
            raise RunError(f"init_from {self._directory}: epoch {self.epoch} is gone: give the command again")
        return checkpoints

    def metrics(self) -> list[dict]:
        """The lines of the search up to that epoch."""
        lines = record.JsonLines(self._directory / "metrics.jsonl").read()
        lines = [line for line in lines if line["stage"] == "search" and line["epoch"] <= self.epoch]
        if not lines:
            raise RunError(f"init_from {self._directory}: its metrics.jsonl has no line of the search")
        # the supernet of the epoch itself, not the one to which a stopped search returned
        if lines[-1]["epoch"] == self.epoch < self._epochs:
            lines[-1].pop("returned_to", None)
        return lines


def read_supernet(directory: pathlib.Path, epoch: int = 0) -> tuple[Supernet, dict, EdgeWeights]:
    """The supernet of a run, for use in Python. The run, which may be at work, is only read.

    Args:
      directory: the run directory; its plugins are imported.
      epoch: a search epoch that the run keeps (`checkpoint.snapshots`); 0: the last that it keeps.

    Returns:
      The module, its variables ("params" and "batch_stats"), and the edge weights [E, O] by cell kind.

    Raises:
      ConfigError: it is no run directory, or does not keep that supernet.
      RunError: the run is damaged.
    """
    config = config_in(directory)
    plugins.load(config.plugins)
    taken = config.changed({"init_from": str(directory), "init_epoch": epoch})
    arrays = Source(Settings(taken, directory, False, None, ())).arrays()
    params, statistics, alphas = (_tree(arrays, name) for name in (".params", ".batch_stats", ".alphas"))
    net = supernet_of(config, len(params["head"]["bias"]))
    weights = make_sampler(config.search.sampler, vars(config.search)).undecided(net.space, alphas)
    return net, {"params": params, "batch_stats": statistics}, weights


def _tree(arrays: dict[str, np.ndarray], collection: str) -> dict:
    """The arrays whose names begin with `collection`, as nested dicts."""
    tree: dict = {}
    for name, array in arrays.items():
        if name.startswith(f"{collection}["):
            *keys, last = re.findall(r"\['(.*?)'\]", name)
            inner = tree
            for key in keys:
                inner = inner.setdefault(key, {})
            inner[last] = array
    return tree

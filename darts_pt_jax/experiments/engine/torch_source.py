"""The supernet of a PyTorch checkpoint of the reference implementation, in place of a run's."""

import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from darts_pt_jax import architecture, spaces
from darts_pt_jax.bilevel import SearchState
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.training.supernet import Training
from darts_pt_jax.interop import from_torch, torch_checkpoints
from darts_pt_jax.samplers import make_sampler
from darts_pt_jax.selection.methods import METHODS
from darts_pt_jax.spaces import SPACES


class TorchSource:
    """A `sources.Source` that reads a file. The config describes its supernet, and the tensors must agree with it.

    The states of the optimisers come from the file if they fit, and start afresh otherwise; a note says so if it matters.

    Attributes:
      epoch: the search epoch from the file, or search.epochs.
      data_sha256: None, since the file does not say which images the supernet was trained on.
      notes: lines for the screen, once `check` has been called.
    """

    data_sha256 = None

    def __init__(self, settings: Settings):
        """Reads the file that `init_from` names.

        Raises:
          ConfigError: it is no checkpoint, or its search differs from the config.
        """
        config = settings.config
        self._place, self._space, self.notes = f"init_from {config.init_from}", SPACES[config.space], []
        if config.init_epoch:
            raise ConfigError(f"init_epoch is {config.init_epoch}, but {self._place} is one epoch's file: leave it out")
        try:
            self._checkpoint = torch_checkpoints.load(pathlib.Path(config.init_from))
        except ValueError as error:
            raise ConfigError(f"init_from {error}") from error
        self.epoch = config.search.epochs if self._checkpoint.epoch is None else self._checkpoint.epoch
        if not 0 <= self.epoch <= config.search.epochs:
            raise ConfigError(
                f"{self._place}: it is of epoch {self.epoch}, but search.epochs is {config.search.epochs}: "
                "give the config that it was searched with"
            )
        search = config.search
        self._sampler = make_sampler(search.sampler, vars(search), search.alpha == "learned")
        learns = self._sampler.learns
        self._alphas = self._read_alphas(uniform=not learns and search.alpha_init == "zero")
        self._state = None
        self._relevant = {"weights": METHODS[config.select.method].greedy,  # all other methods reset it anyway
                          "alphas": learns}  # fmt: skip

    def _read_alphas(self, uniform: bool) -> architecture.Alphas:
        shapes = {kind: row.shape for kind, row in self._sampler.init(self._space, jax.random.key(0), 0.0).items()}
        given = self._checkpoint.alphas
        if not given and uniform:
            return {kind: np.zeros(shape, np.float32) for kind, shape in shapes.items()}
        if [alpha.shape for alpha in given] != list(shapes.values()):
            got = ", ".join(str(list(alpha.shape)) for alpha in given) or "none"
            expected = ", ".join(f"{list(shape)} of {kind}" for kind, shape in shapes.items())
            advice = "take the space that it was searched in" if given else "save them beside it as 'alpha'"
            raise ConfigError(f"{self._place}: got alphas {got}, space {self._space.name} has {expected}: {advice}")
        return dict(zip(shapes, given, strict=True))

    def check(self, training: Training):
        """Maps the file's tensors onto the supernet, and notes what differs from the file.

        Raises:
          ConfigError: they do not fit.
        """
        like, tensors = training.abstract_state(), self._checkpoint.tensors
        try:
            with warnings.catch_warnings(record=True, action="always") as said:
                variables = from_torch.variables(tensors, training.net, like.variables)
        except ValueError as error:
            raise ConfigError(f"{self._place}: {error} (space, supernet.cells, supernet.channels, data)") from error
        params, decisions = variables["params"], architecture.undecided(self._space)
        weight_state, has_momentum = self._momentum(training, params)
        alpha_state, has_moments = self._moments(training)
        self._state = SearchState(
            params, variables["batch_stats"], self._alphas, weight_state, alpha_state, decisions,
            training.sampler.init_state(self._space),
        )  # fmt: skip
        found = {"weights": has_momentum, "alphas": has_moments}
        fresh = [name for name, relevant in self._relevant.items() if relevant and not found[name]]
        self.notes = [f"{self._place}: {warning.message}" for warning in said]
        if fresh:
            self.notes.append(
                f"{self._place} has no fitting optimiser state of the {' and '.join(fresh)}: it begins afresh"
            )

    def _momentum(self, training: Training, params: dict) -> tuple[optax.OptState, bool]:
        """The state of the weights' optimiser, and whether it comes from the file."""
        state = training.weight_optimizer.init(params)
        buffers = torch_checkpoints.optimizer_values(self._checkpoint.weight_optimizer, "momentum_buffer")
        try:
            named = {f"momentum {number}": np.asarray(buffer) for number, buffer in enumerate(buffers)}
            trace = from_torch.variables(named, training.net, {"params": params})["params"]
        except ValueError:
            return state, False
        return optax.tree_utils.tree_set(state, trace=trace), True

    def _moments(self, training: Training) -> tuple[optax.OptState, bool]:
        """The state of the alphas' optimiser, and whether it comes from the file."""
        state, raw = training.alpha_optimizer.init(self._alphas), self._checkpoint.alpha_optimizer
        means, squares, steps = (torch_checkpoints.optimizer_values(raw, n) for n in ("exp_avg", "exp_avg_sq", "step"))
        shapes = [alpha.shape for alpha in self._alphas.values()]
        if any([np.shape(value) for value in values] != shapes for values in (means, squares)) or None in steps:
            return state, False
        mu, nu = (dict(zip(self._alphas, values, strict=True)) for values in (means, squares))
        return optax.tree_utils.tree_set(state, mu=mu, nu=nu, count=jnp.int32(steps[0])), True

    def state(self, like: SearchState) -> SearchState:
        """The search state that `check` has made, shaped and placed `like`."""

        def placed(leaf, model):
            return jax.device_put(jnp.array(leaf, model.dtype), model.sharding)

        return jax.tree.map(placed, self._state, like)

    def metrics(self) -> list[dict]:
        """One line for the search, whose accuracies are unknown."""
        weights = self._sampler.undecided(self._space, self._alphas)
        return [{"stage": "search", "epoch": self.epoch, "edge_weights": spaces.as_lists(weights, self._space)}]

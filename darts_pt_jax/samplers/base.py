"""The sampler: how alphas become the edge weights of a step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas, Decisions, EdgeWeights
from darts_pt_jax.spaces import SearchSpace


class Sample(Protocol):
    """Draws the edge weights of one training step, differentiable in the alphas."""

    def __call__(self, space: SearchSpace, alphas: Alphas, key: jax.Array, level: Any, state: Any, /) -> EdgeWeights:
        """Returns edge weights [E, O] by cell kind.

        Args:
          space: the search space.
          alphas: float [E, O] by cell kind.
          key: key for the draw.
          level: value of `Sampler.schedule` at this point of the search, a float32 scalar.
          state: the sampler's state.
        """


class Perturb(Protocol):
    """Makes a function that perturbs the edge weights of a weight step (SDARTS)."""

    def __call__(
        self, space: SearchSpace, loss: Callable[..., jax.Array], program: Callable, scan: bool
    ) -> Callable[..., EdgeWeights]:
        """Returns `perturb(state, batch, key, level)`, which returns edge weights [E, O] by cell kind.

        Those of decided and removed edges are as the state's decisions say.

        Args:
          space: the search space.
          loss: `loss(edge_weights, state, batch)`, the summed training loss with running statistics.
          program: compiles a part of the computation separately; the identity if a whole epoch is one program.
          scan: whether a whole epoch is one program, so that loops must be `lax.scan`.
        """


def split(key: jax.Array, rows: Mapping[str, Any]) -> dict[str, jax.Array]:
    """A key for each cell kind of `rows`."""
    return dict(zip(rows, jax.random.split(key, len(rows)), strict=True))


def linear(first: float, last: float) -> Callable[[float], float]:
    """A schedule by progress: linear from `first` to `last`."""
    return lambda progress: first + (last - first) * progress


def _constant(progress: float) -> float:
    return 0.0


def _nothing(space: SearchSpace) -> tuple:
    return ()


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How alphas become edge weights. The rows of `samplers.SAMPLERS` are factories of samplers.

    A sampler's edge weights apply to open edges; `architecture.decided` replaces the rows of decided and removed edges.

    Attributes:
      mean: `mean(space, alphas)` gives the edge weights [E, O] by cell kind of validation, scoring and magnitude.
      edges: `edges(space, alphas)` gives a factor for each edge, [E] by cell kind. It multiplies the row of the mean or of
        the sample, also when the edge is decided. None: no factor.
      sample: draws the edge weights of alpha steps and weight steps; alpha steps differentiate through it. None: use the
        mean.
      perturb: perturbs the edge weights of weight steps alone, in place of `sample`.
      schedule: `schedule(progress)` gives the level that `sample` and `perturb` receive, such as SDARTS' epsilon or a
        temperature; progress runs from 0 to 1 through the search.
      sums_to_one: whether the weights of every open edge sum to 1, as SGAS needs.
      learns: whether the alphas are trained.
      init: `init(space, key, scale)` gives the alphas before the first step.
      init_state: `init_state(space)` gives the sampler's state before the first step, a pytree; part of the search state.
      update_state: `update_state(state, alphas, key, level)` gives the sampler's state after a training step; None: the
        state never changes.
    """

    mean: Callable[[SearchSpace, Alphas], EdgeWeights] = architecture.mixtures
    edges: Callable[[SearchSpace, Alphas], Mapping[str, jax.Array]] | None = None
    sample: Sample | None = None
    perturb: Perturb | None = None
    schedule: Callable[[float], float] = _constant
    sums_to_one: bool = True
    learns: bool = True
    init: Callable[[SearchSpace, jax.Array, float], Alphas] = architecture.init_alphas
    init_state: Callable[[SearchSpace], Any] = _nothing
    update_state: Callable[[Any, Alphas, jax.Array, Any], Any] | None = None

    def at_rest(self) -> "Sampler":
        """The same sampler without training of the alphas (paper, section 6.3)."""
        return dataclasses.replace(self, learns=False)

    def undecided(self, space: SearchSpace, alphas: Alphas) -> EdgeWeights:
        """The mean edge weights [E, O] by cell kind as the alphas alone say, whatever is decided."""
        return self._scaled(space, alphas, self.mean(space, alphas))

    def weights(self, space: SearchSpace, alphas: Alphas, decisions: Decisions) -> EdgeWeights:
        """The mean edge weights [E, O] by cell kind, with one-hot or zero rows for decided and removed edges."""
        return self._scaled(space, alphas, architecture.decided(self.mean(space, alphas), decisions))

    def drawn(
        self, space: SearchSpace, alphas: Alphas, decisions: Decisions, key: jax.Array, level: Any, state: Any
    ) -> EdgeWeights:
        """As `weights`, but of a sample; the last three arguments are those of `Sample`."""
        assert self.sample is not None
        sample = self.sample(space, alphas, key, level, state)
        return self._scaled(space, alphas, architecture.decided(sample, decisions))

    def _scaled(self, space: SearchSpace, alphas: Alphas, weights: EdgeWeights) -> EdgeWeights:
        if self.edges is None:
            return weights
        factors = self.edges(space, alphas)
        return {kind: factors[kind][:, None] * row for kind, row in weights.items()}

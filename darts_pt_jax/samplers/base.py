"""The sampler: how alphas become the edge weights of a step."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas, EdgeWeights
from darts_pt_jax.spaces import SearchSpace


class Sample(Protocol):
    """Draws the edge weights of one training step, differentiable in the alphas."""

    def __call__(self, space: SearchSpace, alphas: Alphas, key: jax.Array, level: Any, own: Any, /) -> EdgeWeights:
        """Returns edge weights [E, O] by cell kind.

        Args:
          space: the search space.
          alphas: float [E, O] by cell kind.
          key: of what is drawn.
          level: what `Sampler.schedule` gives at this point of the search, a float32 scalar.
          own: the sampler's own state.
        """


class Attack(Protocol):
    """Makes edge weights under which a weight step is harder, from the training loss (SDARTS-ADV)."""

    def __call__(
        self, space: SearchSpace, loss: Callable[..., jax.Array], program: Callable, scan: bool
    ) -> Callable[..., EdgeWeights]:
        """Returns `attack(state, batch, key, level)`, which gives edge weights [E, O] by cell kind.

        Args:
          space: the search space.
          loss: `loss(edge_weights, state, batch)`, the summed training loss by running statistics.
          program: compiles a part of the computation by itself; the identity where a whole epoch is one program.
          scan: whether a whole epoch is one program, so that loops are `lax.scan`.
        """


def _constant(progress: float) -> float:
    return 0.0


def _nothing(space: SearchSpace) -> tuple:
    return ()


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How alphas become edge weights. A factory of one is a row of `samplers.SAMPLERS`.

    Edge weights stand for open edges alone: decided and removed ones get their rows from the decisions
    (`architecture.decided`).

    Attributes:
      mean: `mean(space, alphas)`, the edge weights of validation, scoring and magnitude, [E, O] by cell kind.
      sample: draws those of a weight step; None: the mean.
      samples_alpha_steps: whether alpha steps are taken under a sample too, and differentiated through it.
      attack: makes those of a weight step from the training loss, in place of `sample`.
      schedule: `schedule(progress)`, for progress from 0 to 1 through the search, the level that `sample` and `attack`
        are told, such as SDARTS' epsilon or a temperature.
      learns: whether the alphas are trained.
      init: `init(space, key, scale)`, the alphas before the first step.
      init_own: `init_own(space)`, the sampler's own state before the first step, a pytree; a part of the search state.
      update_own: `update_own(own, alphas, key, level)`, its own state after a training step; None: it stays.
    """

    mean: Callable[[SearchSpace, Alphas], EdgeWeights] = architecture.mixtures
    sample: Sample | None = None
    samples_alpha_steps: bool = False
    attack: Attack | None = None
    schedule: Callable[[float], float] = _constant
    learns: bool = True
    init: Callable[[SearchSpace, jax.Array, float], Alphas] = architecture.init_alphas
    init_own: Callable[[SearchSpace], Any] = _nothing
    update_own: Callable[[Any, Alphas, jax.Array, Any], Any] | None = None

    def at_rest(self) -> "Sampler":
        """The same sampler, whose alphas are not trained (paper, section 6.3)."""
        return dataclasses.replace(self, learns=False)

    def weights(self, space: SearchSpace, alphas: Alphas, decisions: architecture.Decisions) -> dict[str, jax.Array]:
        """The mean edge weights [E, O] by cell kind, with the rows of decided and removed edges."""
        return architecture.decided(self.mean(space, alphas), decisions)

"""Selection methods as values: how to select an architecture from a supernet."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

from darts_pt_jax.selection import direct
from darts_pt_jax.selection.direct import Choice
from darts_pt_jax.spaces import SearchSpace

Selector = Callable[..., Choice]
"""`selector(space, edge_weights, rng)` takes all decisions at once, from edge weights [E, O] by cell kind.

If it has an argument `budget` too (`budgets.Budget`), its method takes select.max_parameters and the like.
"""


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to select.

    Attributes:
      name: the value of `select.method`.
      about: what it does, in a few words, for `--help` and the docs.
      scores: whether it chooses operations by scoring the supernet under masks; otherwise by the alphas, or at random.
      reads_alphas: whether it needs trained alphas.
      selector: takes all decisions at once, without tuning; None: decisions alternate with tuning.
      values: what a selector gets in place of the edge weights, measured on images: a key of `direct.VALUES`; "": nothing.
      greedy: whether SGAS' criterion chooses the next edge, while the training of the search continues.
      draws: whether its result depends on select.seed, through the order of edges or a draw.
    """

    name: str
    about: str
    scores: bool = False
    reads_alphas: bool = False
    selector: Selector | None = None
    values: str = ""
    greedy: bool = False
    draws: bool = True

    def barred(self, space: SearchSpace, none_is_candidate: bool) -> tuple[str, ...]:
        """The operations of a space that it never chooses."""
        if self.greedy or (self.scores and not none_is_candidate):
            return ("none",)
        return () if self.scores else space.magnitude_ignores

    @property
    def keeps_budgets(self) -> bool:
        """Whether it can stay within limits on the discrete network."""
        return self.selector is None or "budget" in inspect.signature(self.selector).parameters

    @property
    def at_random(self) -> bool:
        """Whether it goes by neither scores nor alphas."""
        return not (self.scores or self.reads_alphas or self.values)


METHODS = {
    method.name: method
    for method in (
        Method("perturbation", "keeps the operation whose removal hurts the supernet most (DARTS-PT)", scores=True),
        Method("magnitude_tuned", "the largest alpha at that moment, with tuning between (PT-Mag)", reads_alphas=True),
        Method("magnitude", "the largest alpha (DARTS)", reads_alphas=True, selector=direct.magnitude, draws=False),
        Method(
            "shapley", "the largest Shapley value over sampled orders of removal (Shapley-NAS)",
            selector=direct.magnitude, values="shapley",
        ),
        Method(
            "fisher", "the least Fisher information of an operation's output (IS-DARTS' score)",
            selector=direct.magnitude, values="fisher",
        ),
        Method("random", "any operation, any inputs", selector=direct.random),
        Method("sgas", "the largest alpha, edge by edge as SGAS' criterion says", reads_alphas=True, greedy=True, draws=False),
        Method(
            "sgas_perturbation", "on the same edges, the operation whose removal hurts most (SGAS+PT)", scores=True,
            reads_alphas=True, greedy=True, draws=False,
        ),
    )
}  # fmt: skip
"""Methods by the value of `select.method`."""


def drawn(record: Mapping) -> bool:
    """Whether a recorded decision was drawn at random, by neither scores nor alphas."""
    return "method" in record and METHODS[record["method"]].at_random

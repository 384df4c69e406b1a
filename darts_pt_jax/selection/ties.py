"""Ties: what decides between removals that the scored images cannot tell apart.

A rule is a row of `TIES`. It sees only the tied ones. This module does not import jax, so that records can be read
without jax.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from darts_pt_jax.selection.criteria import CRITERIA

Choose = Callable[[np.ndarray, Sequence[int]], tuple[int, float]]
"""`choose(harms, eligible)` gives the position that wins by harms [K], and its margin: a strategy, or `least_harmful`."""


@dataclasses.dataclass(frozen=True)
class TieRule:
    """Decides a tie.

    Attributes:
      name: the value of `select.ties`.
      words: which of the tied operations it keeps.
      pick: `pick(choose, scores, tied, costs)` gives one of the positions `tied`: those in the order in which the
        reference code would take them, the record of the scoring, and `costs()`, what it costs to take each mask's choice
        [K]: the multiply-adds of the operation that is kept, or minus those of the one that is dropped with its edge.
    """

    name: str
    words: str
    pick: Callable[[Choose, Mapping, Sequence[int], Callable[[], Sequence[int]]], int]


def _first(choose, scores, tied, costs) -> int:
    return tied[0]


def _by_loss(choose, scores, tied, costs) -> int:
    return choose(CRITERIA["loss"].harms(scores), sorted(tied))[0]


def _fewest_multiply_adds(choose, scores, tied, costs) -> int:
    return min(tied, key=costs().__getitem__)


FIRST = TieRule("first", "the first of the tied candidates", _first)

TIES = {
    rule.name: rule
    for rule in (
        FIRST,
        TieRule("loss", "the one that the loss prefers", _by_loss),
        TieRule("multiply_adds", "the one with the fewest multiply-adds", _fewest_multiply_adds),
    )
}
"""Rules by the value of `select.ties`."""


def rule_of(record: Mapping) -> TieRule:
    """The rule that decided a tie, from the record of an operation's decision or of a pass; `FIRST` is not recorded."""
    return TIES[record.get("ties", FIRST.name)]


def settled(
    rule: TieRule, choose: Choose, harms: np.ndarray, eligible: Sequence[int], scores: Mapping,
    costs: Callable[[], Sequence[int]],
) -> tuple[int, float, dict]:  # fmt: skip
    """Chooses by harms [K], and by the rule where that is a tie.

    Returns:
      The position, its margin, and {"ties": name of the rule} if a rule other than `FIRST` decided; else {}.
    """
    position, margin = choose(harms, eligible)
    if margin or len(eligible) < 2 or rule is FIRST:
        return position, margin, {}
    tied = [i for i in eligible if harms[i] == harms[position]]
    in_order = tied if position == tied[0] else tied[::-1]  # `choose` takes the first of equal ones, or the last
    return rule.pick(choose, scores, in_order, costs), margin, {"ties": rule.name}

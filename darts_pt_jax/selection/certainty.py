"""Certainty of a decision by perturbation: differences between masks, with their paired standard errors.

All masks of a decision are scored on the same images. So the error of a difference depends on how many images the two
masks differ on, and not on the error of either accuracy. Everything here follows from the record of a decision.
"""

from collections.abc import Mapping
from typing import NamedTuple

from darts_pt_jax.selection.criteria import CRITERIA, Criterion
from darts_pt_jax.selection.methods import drawn
from darts_pt_jax.selection.strategies import strategy_of

WITHIN_NOISE = 2.0
"""A lead below this many standard errors is within noise."""


class Contest(NamedTuple):
    """The outcome of one scoring.

    Attributes:
      scores: the record of the scoring, as `scoring.Score` returns it.
      winner: position of the operation kept, or of the edge dropped.
      runner_up: position of the next best choice, or None if there was no other.
      lead: by how much the winner is ahead, in units of the criterion; 0 is a tie.
      error: paired standard error of `lead`, or None if it was not recorded.
      smallest_lead: the smallest possible lead: one image, or 0 for a criterion that does not count.
    """

    scores: Mapping
    winner: int
    runner_up: int | None
    lead: float
    error: float | None
    smallest_lead: int

    @property
    def within_noise(self) -> bool | None:
        """Whether the lead is a tie, or less than `WITHIN_NOISE` standard errors; None if that is not known.

        The standard error is taken about a tie, and one image is subtracted from the lead. For accuracy this is
        McNemar's test with the continuity correction.
        """
        if self.runner_up is None:
            return False
        if self.error is None:
            return True if self.lead == 0 else None
        about_a_tie = (self.error**2 + self.lead**2 / self.scores["images"]) ** 0.5
        return self.lead <= 0 or self.lead - self.smallest_lead < WITHIN_NOISE * about_a_tie


def is_tie(record: Mapping) -> bool:
    """Whether the operation of a recorded decision was chosen by a tie: another eligible candidate was as good.

    The first of the tied candidates is chosen. A choice at random is no tie.
    """
    return record["type"] == "operation" and record["margin"] == 0 and len(record["eligible"]) > 1 and not drawn(record)


def excess(scores: Mapping, one: int | None, other: int | None, criterion: Criterion) -> tuple[float, float | None]:
    """How much more the mask `one` hurts than the mask `other`, with the paired standard error.

    Both are in the criterion's units, over the same n images. Let d be the sum over the images of the differences, and D
    the sum of their squares; the standard error of d is sqrt(D - d^2 / n). For accuracy, if b images are right only under
    `other` and c only under `one`, d = b - c and D = b + c.

    Args:
      scores: the record of a scoring.
      one, other: positions of masks; None stands for the unmasked supernet.
      criterion: what to compare.

    Returns:
      The difference, and its standard error, which is None if `paired` was not recorded.
    """
    name, sign = criterion.record, 1 if criterion.rises else -1
    first, second = (scores["baseline"][name] if i is None else scores[name][i] for i in (one, other))
    difference, n = sign * (first - second), scores["images"]
    if "paired" not in scores:
        return difference, None
    row, column = (0 if i is None else i + 1 for i in (one, other))
    scale = 1 if criterion.counts else n
    squares = scores["paired"][name][row][column] - (scale * difference) ** 2 / n
    return difference, max(squares, 0) ** 0.5 / scale


def contests(record: Mapping) -> list[Contest]:
    """The outcome of each scoring of a recorded decision; empty if no images were scored."""
    criterion, strategy, found = CRITERIA[record.get("criterion", "acc")], strategy_of(record), []
    for scores in record.get("passes", [record]):
        if "baseline" not in scores:
            continue
        harm = strategy.worth(criterion.harms(scores)).tolist()
        if "removed" in scores:
            winner = scores["edges"].index(scores["removed"])
            rest = [i for i in range(len(harm)) if i != winner]
            runner_up = min(rest, key=harm.__getitem__, default=None)
            order = runner_up, winner
        else:
            winner = record["choice_index"]
            runner_up = max((i for i in record["eligible"] if i != winner), key=harm.__getitem__, default=None)
            order = (runner_up, winner) if strategy.keeps else (winner, runner_up)
        lead, error = (0, None) if runner_up is None else excess(scores, *order, criterion)
        found.append(Contest(scores, winner, runner_up, lead, error, criterion.smallest_lead))
    return found

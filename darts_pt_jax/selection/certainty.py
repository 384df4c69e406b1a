"""How sure a decision by perturbation is: differences between masks with their paired standard errors.

All masks of a decision are scored on the same images, so what counts is on how many of them two masks differ, and not
how large the error of either accuracy is. Everything follows from the record of a decision.
"""

from collections.abc import Mapping
from typing import NamedTuple

from darts_pt_jax.selection.criteria import CRITERIA, Criterion

WITHIN_NOISE = 2.0
"""Standard errors below which a lead is within noise."""


class Contest(NamedTuple):
    """The outcome of one scoring.

    Attributes:
      scores: the record of the scoring, as `scoring.Score` gives it.
      winner: position of the operation kept, or of the edge dropped.
      runner_up: position of what would have been instead, or None where nothing else might.
      lead: by how much the winner is ahead, in units of the criterion; 0 is a tie.
      error: the paired standard error of `lead`, or None where it was not recorded.
      unit: the smallest lead that there can be: one image, or 0 of a criterion that does not count.
    """

    scores: Mapping
    winner: int
    runner_up: int | None
    lead: float
    error: float | None
    unit: int

    @property
    def within_noise(self) -> bool | None:
        """Whether the lead is a tie or below `WITHIN_NOISE` standard errors from one; None where that is not known.

        The standard error is that which the same differences have about a tie, and the lead less one image counts:
        for accuracy, McNemar's test with the correction for continuity.
        """
        if self.runner_up is None:
            return False
        if self.error is None:
            return True if self.lead == 0 else None
        about_a_tie = (self.error**2 + self.lead**2 / self.scores["images"]) ** 0.5
        return self.lead <= 0 or self.lead - self.unit < WITHIN_NOISE * about_a_tie


def excess(scores: Mapping, one: int | None, other: int | None, criterion: Criterion) -> tuple[float, float | None]:
    """How much more the removal of `one` hurts than that of `other`, and the paired standard error of that.

    In the criterion's units, over the same n images. With d the sum over them of the differences and D of their squares,
    the sum's standard error is sqrt(D - d^2 / n). For accuracy, if b images are right under `other` alone and c under
    `one` alone, d = b - c and D = b + c.

    Args:
      scores: the record of a scoring.
      one, other: positions of masks; None stands for the unmasked supernet.
      criterion: what is compared.

    Returns:
      The difference, and its standard error, or None where `paired` was not recorded.
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
    """The outcome of each scoring of a recorded decision; none where no images were scored."""
    criterion, found = CRITERIA[record.get("criterion", "acc")], []
    for scores in record.get("passes", [record]):
        if "baseline" not in scores:
            continue
        harm = criterion.harms(scores).tolist()
        if "removed" in scores:
            winner = scores["edges"].index(scores["removed"])
            rest = [i for i in range(len(harm)) if i != winner]
            runner_up = min(rest, key=harm.__getitem__, default=None)
            order = runner_up, winner
        else:
            winner = record["choice_index"]
            runner_up = max((i for i in record["eligible"] if i != winner), key=harm.__getitem__, default=None)
            order = winner, runner_up
        lead, error = (0, None) if runner_up is None else excess(scores, *order, criterion)
        found.append(Contest(scores, winner, runner_up, lead, error, criterion.smallest_lead))
    return found

"""Certainty of a decision by perturbation: differences between masks, with their paired standard errors.

All masks of a decision are scored on the same images. So the error of a difference depends on how many images the two
masks differ on, and not on the error of either accuracy. Everything here follows from the record of a decision.
"""

import collections
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from darts_pt_jax.selection.criteria import CRITERIA, Criterion
from darts_pt_jax.selection.methods import drawn
from darts_pt_jax.selection.racing import finalists
from darts_pt_jax.selection.strategies import strategy_of
from darts_pt_jax.selection.ties import FIRST, rule_of

WITHIN_NOISE = 2.0
"""A lead below this many standard errors is within noise."""

RESAMPLES = 1000
"""How often `resampled` draws images."""


class Contest(NamedTuple):
    """The outcome of one scoring.

    Attributes:
      scores: the record of the scoring, as `scoring.Score` returns it.
      winner: position of the operation kept, or of the edge dropped.
      runner_up: position of the next best choice, or None if there was no other; of a race, of those that left last.
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
    def sureness(self) -> float | None:
        """The lead, less one image if images count, in standard errors taken about a tie; None if these are not known."""
        if self.runner_up is None:
            return math.inf
        if self.error is None:
            return None
        about_a_tie = (self.error**2 + self.lead**2 / self.scores["images"]) ** 0.5
        return (self.lead - self.smallest_lead) / about_a_tie if self.lead > 0 else -math.inf

    @property
    def within_noise(self) -> bool | None:
        """Whether the lead is a tie, or less than `WITHIN_NOISE` standard errors; None if that is not known.

        For accuracy this is McNemar's test with the continuity correction.
        """
        if self.sureness is None:
            return True if self.lead == 0 else None
        return self.sureness < WITHIN_NOISE


def is_tie(record: Mapping) -> bool:
    """Whether the operation of a recorded decision was chosen by a tie: another eligible candidate was as good.

    `ties.rule_of` decided it. A choice at random is no tie.
    """
    return record["type"] == "operation" and record["margin"] == 0 and len(record["eligible"]) > 1 and not drawn(record)


def tie_words(record: Mapping) -> str:
    """Says that a recorded decision, or a pass of it, was a tie, and which rule decided it; "" if it was none.

    Ties that went to the first are named for operations only.
    """
    rules = {rule_of(one).name for one in (record, *record.get("passes", ()))} - {FIRST.name}
    return f"a tie, by {', '.join(sorted(rules))}" if rules else "a tie" if is_tie(record) else ""


def limited(record: Mapping) -> list[Mapping]:
    """The choices of a recorded decision, itself or its passes, in which a limit ruled something out."""
    return [one for one in (record, *record.get("passes", ())) if "ruled_out" in one]


def limit_words(record: Mapping) -> str:
    """Says what a recorded decision would have been without a limit; "" if the same.

    Of a pass over the inputs of a node, it names the edge that would have been dropped.
    """
    words = []
    for one in limited(record):
        freely = one.get("without_limit")
        if freely is None:
            continue
        if "removed" in one and freely != one["removed"]:
            words.append(f"a limit keeps edge {freely}")
        elif "removed" not in one and freely != one["choice"]:
            named = freely if record["type"] == "operation" else f"edges {', '.join(map(str, freely))}"
            words.append(f"a limit rules out {named}")
    return "; ".join(words)


def seen_by(scores: Mapping, position: int) -> tuple[int, Mapping]:
    """How many images a mask was scored on, and the unmasked supernet's values on these."""
    if "raced" not in scores:
        return scores["images"], scores["baseline"]
    raced = scores["raced"]
    return raced["images"][position], {name: values[position] for name, values in raced["baseline"].items()}


def effort(record: Mapping) -> tuple[int, int]:
    """How many images a recorded decision scored, over all removals, and how many it would have scored without a race."""
    done = full = 0
    for scores in record.get("passes", [record]):
        if "baseline" in scores:
            count = len(scores["loss"])
            raced = scores.get("raced", {"images": [scores["images"]] * count, "of": scores["images"]})
            done, full = done + sum(raced["images"]), full + raced["of"] * count
    return done, full


def race_words(record: Mapping) -> str:
    """Says how many images a raced decision looked at, such as "raced: 1,920 of 4,992 images"; "" if it was no race."""
    raced = [scores for scores in record.get("passes", [record]) if "raced" in scores]
    if not raced:
        return ""
    images, of = sum(scores["images"] for scores in raced), sum(scores["raced"]["of"] for scores in raced)
    return f"raced: {images:,} of {of:,} images"


def excess(scores: Mapping, one: int | None, other: int | None, criterion: Criterion) -> tuple[float, float | None]:
    """How much more the mask `one` hurts than the mask `other`, with the paired standard error.

    Both are in the criterion's units, over the same n images. Let d be the sum over the images of the differences, and D
    the sum of their squares; the standard error of d is sqrt(D - d^2 / n). For accuracy, if b images are right only under
    `other` and c only under `one`, d = b - c and D = b + c.

    Args:
      scores: the record of a scoring.
      one, other: positions of masks; None stands for the unmasked supernet. Of a race, two masks must have seen the same
        images.
      criterion: what to compare.

    Returns:
      The difference, and its standard error, which is None if `paired` was not recorded.
    """
    name, sign = criterion.record, 1 if criterion.rises else -1
    seen = [i for i in (one, other) if i is not None]
    n, unmasked = seen_by(scores, seen[0]) if seen else (scores["images"], scores["baseline"])
    first, second = (unmasked[name] if i is None else scores[name][i] for i in (one, other))
    difference = sign * (first - second)
    if "paired" not in scores:
        return difference, None
    row, column = (0 if i is None else i + 1 for i in (one, other))
    scale = 1 if criterion.counts else n
    squares = scores["paired"][name][row][column] - (scale * difference) ** 2 / n
    return difference, max(squares, 0) ** 0.5 / scale


def resampled(record: Mapping) -> dict[str, float]:
    """How often each operation would be chosen on other images, as a share; empty if the record does not tell.

    The images are drawn anew with replacement, as many as there were (bootstrap). A record has sums over images only, so the
    totals are drawn from the normal distribution with the covariance that the bootstrap has, which `paired` determines;
    counts are rounded to whole images. Everything before the decision stays as it was. Of a race, the choice is among those
    that were scored to its end. Of tied operations the first is taken; but if a rule decided a tie, the one that it chose.
    """
    if record["type"] != "operation" or "paired" not in record:
        return {}
    criterion, last = CRITERIA[record["criterion"]], finalists(record, record["eligible"])
    if rule_of(record) is not FIRST:
        last = sorted(last, key=lambda i: i != record["choice_index"])
    scale = 1 if criterion.counts else record["images"]
    sums, rows = scale * criterion.harms(record)[last], [i + 1 for i in last]
    squares = np.asarray(record["paired"][criterion.record], float)[np.ix_(rows, rows)]
    variances = squares - np.square(sums[:, None] - sums) / record["images"]
    covariance = (variances[0][:, None] + variances[0] - variances) / 2  # of the differences from the first
    values, vectors = np.linalg.eigh(covariance)
    normal = np.random.RandomState(0).standard_normal((RESAMPLES, len(last)))
    drawn_sums = sums + normal @ (vectors * np.sqrt(np.maximum(values, 0))).T
    drawn_sums = drawn_sums.round(0 if criterion.counts else 6)
    choose = strategy_of(record).choose
    chosen = collections.Counter(choose(each, range(len(last)))[0] for each in drawn_sums)
    return {record["candidates"][last[i]]: count / RESAMPLES for i, count in chosen.most_common()}


def contests(record: Mapping) -> list[Contest]:
    """The outcome of each scoring of a recorded decision; empty if no images were scored."""
    criterion, strategy, found = CRITERIA[record.get("criterion", "acc")], strategy_of(record), []
    for scores in record.get("passes", [record]):
        if "baseline" not in scores:
            continue
        harm = strategy.worth(criterion.harms(scores)).tolist()
        if "removed" in scores:
            winner = scores["edges"].index(scores["removed"])
            rest = [i for i in finalists(scores, range(len(harm))) if i != winner]
            runner_up = min(rest, key=harm.__getitem__, default=None)
            order = runner_up, winner
        else:
            winner = record["choice_index"]
            rest = [i for i in finalists(scores, record["eligible"]) if i != winner]
            runner_up = max(rest, key=harm.__getitem__, default=None)
            order = (runner_up, winner) if strategy.keeps else (winner, runner_up)
        lead, error = (0, None) if runner_up is None else excess(scores, *order, criterion)
        found.append(Contest(scores, winner, runner_up, lead, error, criterion.smallest_lead))
    return found

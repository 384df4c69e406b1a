"""Criteria: what the removal of an operation or an edge costs the supernet, as a number for each image.

A criterion is a row of `CRITERIA`. Scoring, records, standard errors, messages and the report page follow from its
fields. This module does not import jax, so that records can be read without jax.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

RESERVED = (
    "order", "decision", "point", "method", "type", "kind", "edge", "node", "candidates", "eligible", "criterion",
    "strategy", "images", "raced", "baseline", "paired", "choice", "choice_index", "margin", "ties", "topology", "passes",
    "edges", "removed", "pruned", "importance", "certainty", "stability", "score",
)  # fmt: skip
"""Keys that records of decisions have besides the values of criteria."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What a removal costs.

    Attributes:
      name: the value of `select.criterion`.
      measure: `measure(logits, labels, unmasked)` gives a number for each image, [B], from the logits [B, classes] under a
        mask, the labels [B], and the logits of the unmasked supernet.
      record: name of its values in records, none of `RESERVED`.
      counts: whether records hold the sum over the images, a whole number; otherwise they hold the mean.
      rises: whether a harmful removal makes the measure larger.
      harm: words for what a removal costs, such as "rise in loss".
      noun: what a removal costs, in a sentence, such as "accuracy".
      column: title of a table's column with the recorded values.
      unit: words after a lead, such as "images".
      compares: whether `measure` reads the logits of the unmasked supernet.
    """

    name: str
    measure: Callable[[Any, Any, Any], Any]
    record: str
    counts: bool
    rises: bool
    harm: str
    unit: str
    noun: str
    column: str
    compares: bool = False

    def __post_init__(self):
        if self.record in RESERVED:
            raise ValueError(
                f"criterion {self.name}: got record={self.record!r}, which records use otherwise: rename it"
            )

    @property
    def smallest_lead(self) -> int:
        """The smallest lead that is no tie: one image, or 0 for a criterion that does not count."""
        return int(self.counts)

    def recorded(self, totals: np.ndarray, images: int | np.ndarray) -> np.ndarray:
        """The values for records, from sums over `images` images: the sums themselves, or the means."""
        return totals if self.counts else totals / images

    def harms(self, scores: Mapping) -> np.ndarray:
        """How much each recorded removal hurts, [K]: the larger, the more important is the removed part."""
        values = np.asarray(scores[self.record])
        return values if self.rises else -values

    def shown(self, value: float, images: int) -> float:
        """A difference of recorded values as charts show it: counts become percentage points."""
        return 100 * value / images if self.counts else value


def _correct(logits, labels, unmasked):
    """1 where the largest logit belongs to the label, else 0."""
    return (logits.argmax(-1) == labels).astype("int32")


def _cross_entropy(logits, labels, unmasked):
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _divergence(logits, labels, unmasked):
    """The Kullback-Leibler divergence of the prediction under the mask from that of the unmasked supernet."""
    import jax

    before, after = jax.nn.log_softmax(unmasked), jax.nn.log_softmax(logits)
    return (jax.numpy.exp(before) * (before - after)).sum(-1)


def _margin(logits, labels, unmasked):
    """The logit of the right class, less the largest other one."""
    import jax

    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jax.numpy.where(right, logits, 0).sum(-1) - jax.numpy.where(right, -jax.numpy.inf, logits).max(-1)


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion("acc", _correct, "correct", True, False, "accuracy drop, points", "images", "accuracy", "right"),
        Criterion("loss", _cross_entropy, "loss", False, True, "rise in loss", "in loss", "loss", "loss"),
        Criterion(
            "kl", _divergence, "kl", False, True, "KL divergence", "nats", "divergence", "KL divergence", compares=True
        ),
        Criterion("margin", _margin, "logit_margin", False, False, "fall in margin", "in margin", "margin", "margin"),
    )
}
"""Criteria by the value of `select.criterion`."""

"""Racing: a candidate leaves a scoring as soon as it is certain enough that it would not win.

A scoring compares removals on N units (images, or batches). A full scoring looks at all of them, in random order; a race
looks after every batch. Let s_1, s_2, ... in [-1, 1] be by how much one removal beats another on each unit, and S_t their
sum over the first t. If the other is at least as good on all N units, the sum of all is at most 0, so that, given the past,
the mean of s_t is at most m_t = -S_{t-1} / (N - t + 1). Hence, for bets b_t >= 0 that depend on the past only, the capital

    K_t = (1 + b_1 (s_1 - m_1)) ... (1 + b_t (s_t - m_t))

is a supermartingale that starts at 1; it stays positive, since b_t < 1 / (1 + m_t). By Ville's inequality the probability
that it ever reaches 1 / alpha is at most alpha (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", 2024, on sampling without replacement; `betting_mart` of github.com/gostevehoward/confseq with N). At 1 / alpha the
other leaves. The capital here is the mean of those of several bettors, which is a supermartingale too.

The winner of the full scoring leaves wrongly only if one of its K - 1 pairs errs, so each gets error / (K - 1).

This module does not import jax, so that records can be read without jax.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

LEADS = 0.4 / 2.0 ** np.arange(7)
"""The mean leads, in units of s, that the bettors bet on."""

LARGEST_BET = 0.95
"""The largest bet, as a share of the one that could lose everything."""


class Capital(NamedTuple):
    """The capital of every bettor on every pair: entry [i, j] bets that candidate i beats candidate j.

    Races can be computed side by side: all shapes may begin with further axes.

    Attributes:
      log: its logarithm, [bettors, K, K].
      sums, squares: sums of s and of s^2 over the units seen, [K, K].
      seen: number of units seen.
    """

    log: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    seen: np.ndarray

    @classmethod
    def start(cls, *shape: int) -> "Capital":
        """Capital 1, for K candidates, the last of `shape`."""
        pairs = (*shape, shape[-1])
        return cls(np.zeros((len(LEADS), *pairs)), np.zeros(pairs), np.zeros(pairs), np.zeros((), int))

    def after(self, values: np.ndarray, total: int) -> "Capital":
        """The capital after further units.

        A bettor bets nearly what makes capital grow fastest if its lead is right (Kelly).

        Args:
          values: in [0, 1], the larger the better, of each candidate on each unit, in the order of the units: [K, B].
          total: N.
        """
        s = values[..., :, None, :].astype(np.float64) - values[..., None, :, :]
        sums = self.sums[..., None] + np.cumsum(s, -1)
        left = total - self.seen - np.arange(s.shape[-1])
        m = np.maximum((s - sums) / left, -1)
        gain = LEADS.reshape(-1, *(1,) * s.ndim) * (total / left)  # s - m on average, if the lead is right so far too
        square = (self.squares[..., None] + 1) / (self.seen + 2)
        bet = np.minimum(gain / (square + np.square(gain)), LARGEST_BET / np.maximum(1 + m, 1e-9))
        log = self.log + np.log1p(bet * (s - m)).sum(-1)
        return Capital(log, sums[..., -1], self.squares + np.square(s).sum(-1), self.seen + s.shape[-1])

    def evidence(self, total: int) -> np.ndarray:
        """The logarithm of the mean capital, [K, K]; infinite where j cannot catch up with i any more."""
        mean = np.logaddexp.reduce(self.log) - math.log(len(self.log))
        return np.where(self.sums > total - self.seen, np.inf, mean)


def leavers(evidence: np.ndarray, running: np.ndarray, error: float) -> np.ndarray:
    """bool [K]: the candidates that leave, since one that is running beats them.

    Args:
      evidence: as from `Capital.evidence`, [K, K]; entries of candidates that have left count no more.
      running: bool [K], the candidates that are running.
      error: the largest probability that the winner of the full scoring ever leaves.
    """
    pairs = running[..., :, None] & running[..., None, :]
    against = np.where(pairs, evidence, -np.inf).max(-2)
    return running & (against >= math.log(max(running.shape[-1] - 1, 1) / error))


@dataclasses.dataclass(frozen=True)
class Race:
    """How one scoring by accuracy is raced.

    Attributes:
      error: the largest probability that its winner is not that of the full scoring.
      by_image: whether the units are images; otherwise batches, whose images depend on each other by their statistics.
      harmful_wins: whether the removal that costs most wins (the operation to keep), or the one that costs least (the
        input to drop).
      eligible: the positions that may win. The others leave after the first batch.
    """

    error: float
    by_image: bool
    harmful_wins: bool
    eligible: Sequence[int]

    def units(self, batches: int, batch_size: int) -> int:
        """N, the number of units of the full scoring."""
        return batches * batch_size if self.by_image else batches

    def values(self, correct: np.ndarray) -> np.ndarray:
        """What `Capital.after` takes, from the right predictions [K, B] of a batch."""
        wins = 1 - correct if self.harmful_wins else correct
        return wins if self.by_image else wins.mean(-1, keepdims=True)

    def still_running(self, capital: Capital, running: np.ndarray, units: int) -> np.ndarray:
        """bool [K]: the candidates that run on after a look, of those that were running before it."""
        eligible = np.zeros(len(running), bool)
        eligible[list(self.eligible)] = True
        of_eligible = np.ix_(eligible, eligible)
        left = running & eligible
        left[eligible] &= ~leavers(capital.evidence(units)[of_eligible], left[eligible], self.error)
        return left


def finalists(scores: Mapping, positions: Collection[int]) -> list[int]:
    """Those of `positions` that could win a recorded scoring: no limit rules them out, and no race has dropped them."""
    seen = scores["raced"]["images"] if "raced" in scores else None
    left = [i for i in positions if i not in scores.get("ruled_out", ())]
    return [i for i in left if seen is None or seen[i] == scores["images"]]

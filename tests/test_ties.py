"""What decides between removals that score alike, and where that is said."""

import numpy as np
import pytest

from darts_pt_jax import architecture
from darts_pt_jax.experiments.reporting import cautions, decisions
from darts_pt_jax.selection import certainty, perturbation
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.selection.strategies import least_harmful
from darts_pt_jax.selection.ties import TIES, settled
from darts_pt_jax.spaces import SPACES

SPACE = SPACES["nasbench201"]  # none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3


def score(correct, loss):
    count = len(correct) + 1
    paired = {name: [[0] * count] * count for name in ("correct", "loss")}
    scores = {"images": 64, "correct": correct, "loss": loss, "paired": paired}
    return lambda masks: {**scores, "baseline": {"correct": 60, "loss": 0.5}}


@pytest.mark.parametrize(
    ("ties", "correct", "choice"),
    [
        ("first", [60, 58, 50, 50, 50], "nor_conv_1x1"),
        ("loss", [60, 58, 50, 50, 50], "nor_conv_3x3"),
        ("multiply_adds", [60, 58, 50, 50, 50], "avg_pool_3x3"),
        ("multiply_adds", [50, 50, 50, 60, 60], "none"),  # and skip_connect, as cheap: the first
        ("multiply_adds", [60, 58, 50, 49, 50], "nor_conv_3x3"),  # no tie
        ("loss", [60, 58, 51, 49, 50], "nor_conv_3x3"),
    ],
)
def test_a_rule_decides_a_tie_of_operations_and_nothing_else(ties, correct, choice):
    loss = [0.1, 0.9, 0.6, 0.7, 0.65]
    record = perturbation.decide(
        score(correct, loss), SPACE, Target("operation", "normal", 1), ties=TIES[ties],
    )  # fmt: skip
    assert record["choice"] == choice == record["candidates"][record["choice_index"]]
    tied = correct.count(min(correct)) > 1
    assert certainty.is_tie(record) == tied
    assert record.get("ties") == (ties if tied and ties != "first" else None), "the default adds nothing to records"
    described = decisions.described(SPACE, 1, {**record, "order": 1, "decision": 1})
    assert [verdict.by for verdict in described.verdicts] == [record.get("ties", "")]
    words = {"first": "a tie", "loss": "a tie, by loss", "multiply_adds": "a tie, by multiply_adds"}
    assert certainty.tie_words(record) == (words[ties] if tied else "")
    assert any(TIES[ties].words in text for text in cautions.of_decisions([record])) == tied


@pytest.mark.parametrize(("ties", "dropped"), [("first", 3), ("loss", 2), ("multiply_adds", 2)])
def test_a_rule_decides_a_tie_of_inputs(ties, dropped):
    space = SPACES["s2"]  # edges of the second node: 2, 3, 4
    operations = architecture.undecided(space)
    for edge, name in ((2, "sep_conv_3x3"), (3, "skip_connect"), (4, "skip_connect")):
        operations = operations.choose("normal", edge, space.cells["normal"].edges[edge].candidates.index(name))
    correct = [50, 50, 40] if ties != "multiply_adds" else [50, 40, 50]
    record = perturbation.decide(
        score(correct, [0.5, 0.6, 0.7]), space, Target("topology", "normal", 3), ties=TIES[ties], decisions=operations
    )
    (one,) = record["passes"]
    assert one["removed"] == dropped and record["choice"] == [e for e in (2, 3, 4) if e != dropped]
    assert one.get("ties") == (None if ties == "first" else ties)
    assert certainty.tie_words(record) == ("" if ties == "first" else f"a tie, by {ties}")


def test_inputs_that_a_rule_ties_again_go_as_in_the_reference_code():
    choice = settled(TIES["multiply_adds"], least_harmful, np.zeros(3), range(3), {}, lambda: [-5, -5, 0])
    assert choice == (1, 0, {"ties": "multiply_adds"}), "the last of those that cost as much"

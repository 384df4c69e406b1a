"""The architectures next to the choice: the runner-up in the decisions of least margin."""

import itertools

import numpy as np
import pytest

from darts_pt_jax import architecture
from darts_pt_jax.experiments.config import rules, schema
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.genotype import genotype_of
from darts_pt_jax.selection import direct, perturbation, schedule
from darts_pt_jax.selection.alternatives import alternatives, applied, changed
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.strategies import STRATEGIES
from darts_pt_jax.spaces import SPACES

TINY = SPACES["tiny"]


def scored(strategy="leave_one_out"):
    """The records of a selection by made-up scores."""
    rng, taken, records = np.random.RandomState(0), architecture.undecided(TINY), []

    def score(masks):
        correct = rng.randint(20, 60, len(masks)).tolist()
        return {
            "images": 64,
            "baseline": {"correct": 64, "loss": 0.5},
            "correct": correct,
            "loss": rng.rand(len(masks)).tolist(),
        }

    for (target,) in schedule.decision_points(TINY, "random", "single", rng):
        choose = STRATEGIES[strategy]
        records.append(perturbation.decide(score, TINY, target, CRITERIA["acc"], strategy=choose, decisions=taken))
        taken = taken.apply(records[-1])
    assert genotype_of(TINY, *applied(TINY, records)) == taken.genotype(TINY)
    return records


def by_magnitude():
    rng = np.random.RandomState(0)
    weights = {kind: rng.rand(*graph.candidate_mask.shape) for kind, graph in TINY.cells.items()}
    return list(direct.records(TINY, weights, direct.magnitude(TINY, weights, rng)))


@pytest.mark.parametrize(
    "records", [scored(), scored("keep_one"), by_magnitude()], ids=["scores", "keep_one", "weights"]
)
def test_alternatives_are_the_nearest_of_all_combinations_of_runners_up(records):
    chosen = applied(TINY, records)
    kept = [r["type"] == "topology" or chosen[1][r["kind"]][r["edge"]] for r in records]
    options = [(i, change) for i, record in enumerate(records) if kept[i] and (change := changed(record))]
    nearest = {}
    for count in (1, 2, 3):
        for some in itertools.combinations(options, count):
            new = dict(some)
            rows = applied(TINY, [new[i].record if i in new else record for i, record in enumerate(records)])
            text, behind = genotype_of(TINY, *rows).to_json(), sum(change.margin for change in new.values())
            nearest[text] = min(nearest.get(text, np.inf), behind)
    nearest.pop(genotype_of(TINY, *chosen).to_json(), None)
    found = alternatives(TINY, records, 6)
    texts = [genotype_of(TINY, one.operations, one.kept).to_json() for one in found]
    assert [one.behind for one in found] == pytest.approx(sorted(nearest.values())[:6]) and len(set(texts)) == 6
    assert [nearest[text] for text in texts] == pytest.approx([one.behind for one in found])
    few = alternatives(TINY, records, 6, lambda operations, kept: operations["normal"][0] == chosen[0]["normal"][0])
    assert len(few) == 6 and not any("normal edge 0:" in words for one in few for words in one.changes)


def test_the_runner_up_of_a_decision():
    record = {"type": "operation", "kind": "normal", "edge": 3, "candidates": ["a", "b", "c"], "eligible": [0, 2],
              "edge_weights": [0.5, 0.4, 0.1], "choice": "a", "choice_index": 0, "margin": 0.4}  # fmt: skip
    change = changed(record)
    assert (change.margin, change.words, change.record["choice_index"]) == (0.4, "normal edge 3: c", 2)
    assert changed({**record, "eligible": [0]}) is None
    inputs = {"type": "topology", "kind": "normal", "node": 1, "edges": [2, 3, 4], "strength": [0.2, 0.9, 0.3],
              "choice": [3, 4], "margin": 0.1}  # fmt: skip
    assert changed(inputs).record["choice"] == [2, 3] and changed(inputs).words == "normal node 1: edges 2, 3"


@pytest.mark.parametrize(
    ("keys", "message"), [({"select.method": "random"}, "have no margins"), ({"select.orders": 2}, "select.orders 2")]
)
def test_alternatives_need_margins_and_one_order(keys, message):
    with pytest.raises(ConfigError, match=f"select.top is 3.* {message}: set .* to 1"):
        rules.check(schema.from_flat({"select.top": 3, "data.source": "digits", **keys}))

"""Racing: its error against all orders of small populations and over many races, and its records."""

import itertools
import json
import math
import types

import numpy as np
import pytest

from darts_pt_jax.experiments.analysis import strategies as analysis_of_strategies
from darts_pt_jax.experiments.config import rules, schema
from darts_pt_jax.experiments.engine.loops import RunLoop, plain
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting import decisions, matrix
from darts_pt_jax.loops import Loop
from darts_pt_jax.metrics import Metrics
from darts_pt_jax.selection import certainty, perturbation, racing, scoring, strategies
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.racing import Capital, Race, finalists, leavers
from darts_pt_jax.selection.schedule import Target
from darts_pt_jax.spaces import SPACES
from tests.command import recomputed


def compositions(size):
    """All populations of `size` differences in {-1, 0, 1} whose sum is at most 0, as pairs of candidates' values."""
    for wins, losses in itertools.product(range(size + 1), repeat=2):
        if wins <= losses and wins + losses <= size:
            ties = size - wins - losses
            yield np.array([[1] * wins + [0] * losses + [1] * ties, [0] * wins + [1] * losses + [1] * ties])


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_in_all_orders_of_all_small_populations_the_error_is_at_most_alpha(batch):
    size = 6
    orders = np.array(list(itertools.permutations(range(size))))
    for values in compositions(size):
        runs = values[:, orders].swapaxes(0, 1)  # [orders, 2, size]
        capital, largest = Capital.start(len(runs), 2), np.full(len(runs), -np.inf)
        for begin in range(0, size, batch):
            capital = capital.after(runs[..., begin : begin + batch], size)
            largest = np.maximum(largest, capital.evidence(size)[:, 0, 1])
        assert (largest < np.inf).all(), "what is no worse can catch up to the end"
        mean = np.exp(capital.log)[:, :, 0, 1].mean(1)
        tied = values[0].sum() == values[1].sum()
        assert (mean <= 1 + 1e-9).all() and (not tied or mean == pytest.approx(1)), "a supermartingale, fair at a tie"
        for alpha in (0.5, 0.2, 0.05):
            assert (largest >= math.log(1 / alpha)).mean() <= alpha


def test_the_capital_is_that_of_the_formula(rng):
    values, total, seen = rng.random((2, 9)), 12, 0
    s = values[0] - values[1]
    capital = Capital.start(2)
    for part in np.split(values, 3, 1):
        capital = capital.after(part, total)
    for bettor, lead in enumerate(racing.LEADS):
        product = 1.0
        for t in range(1, 10):
            seen = 3 * ((t - 1) // 3)  # a bet estimates s^2 from the batches before
            m = -s[: t - 1].sum() / (total - t + 1)
            gain, square = lead * total / (total - t + 1), ((s[:seen] ** 2).sum() + 1) / (seen + 2)
            bet = min(gain / (square + gain**2), racing.LARGEST_BET / (1 + m))
            product *= 1 + bet * (s[t - 1] - m)
        assert math.exp(capital.log[bettor, 0, 1]) == pytest.approx(product)


@pytest.mark.parametrize(
    ("right", "least", "most"),
    [((30, 30, 30), 0.9, 1.0), ((33, 30, 30), 0.9, 1.0), ((45, 15, 10), 0.0, 0.5)],
)
def test_the_winner_leaves_in_at_most_alpha_of_ten_thousand_races(rng, right, least, most):
    races, size, batch, error = 10_000, 48, 6, 0.05
    values = np.array([[1] * count + [0] * (size - count) for count in right], np.int8)
    values = rng.permuted(np.broadcast_to(values, (races, *values.shape)), axis=-1)  # independent candidates
    capital, running = Capital.start(races, len(right)), np.ones((races, len(right)), bool)
    looks = 0
    for begin in range(0, size, batch):
        capital = capital.after(values[..., begin : begin + batch], size)
        looks += (running.sum(1) > 1).mean()
        running &= ~leavers(capital.evidence(size), running, error)
    assert (~running[:, 0]).mean() <= error
    tied = right.count(max(right))
    assert (running.sum(1) == tied).mean() >= 1 - error, "at the end all others have left, and those that tie have not"
    assert least < looks / (size // batch) <= most


def raced(outcomes, by_image, harmful_wins=True, eligible=None, error=0.05, begin=Loop, calls=None):
    """A race over batches of right predictions [K + 1, B]; the entry of a mask is its number."""

    def scorer(masks, batch, unmasked):
        rows = np.asarray(masks).ravel().astype(int)
        if calls is not None:
            calls.append(rows.tolist())
        correct = batch[rows]
        loss = np.where(correct, 0.0, 1.0).astype(np.float32)
        return Metrics(loss.sum(1), correct.sum(1), np.full(len(rows), batch.shape[1])), [loss, correct], None

    masks = np.arange(2, len(outcomes[0]) + 1, dtype=np.float32).reshape(-1, 1, 1)
    race = Race(error, by_image, harmful_wins, range(len(masks)) if eligible is None else eligible)
    padded = [
        np.concatenate([batch[:1], batch]) for batch in outcomes
    ]  # a mask of ones stands for the unmasked supernet
    return scoring.make_score(scorer, 8, padded, begin=begin, race=race, smaller=4)(masks)


@pytest.mark.parametrize("harmful_wins", [True, False])
def test_a_race_chooses_as_full_scoring_from_fewer_images(rng, harmful_wins):
    chances = np.array([0.9, 0.45, 0.85, 0.8, 0.75, 0.7]) if harmful_wins else np.array([0.9, 0.95, 0.8, 0.5, 0.4, 0.3])
    outcomes = [(rng.random((6, 32)) < chances[:, None]).astype(np.int32) for _ in range(40)]
    calls = []
    scores = raced(outcomes, True, harmful_wins, calls=calls)
    assert scores["raced"]["of"] == 1280 and scores["images"] < 0.4 * 1280
    seen = scores["raced"]["images"]
    assert seen[0] == scores["images"] == max(seen), "the winner is scored until the end of the race"
    assert {len(call) for call in calls} == {8, 4} and len(calls) == scores["images"] // 32
    everything = np.concatenate(outcomes, 1)
    harms = CRITERIA["acc"].harms(scores)
    last = finalists(scores, range(5))
    choose = strategies.most_harmful if harmful_wins else strategies.least_harmful
    assert 0 in last and len(last) > 1 and choose(harms, last)[0] == 0
    for position, count in enumerate(seen):
        of_mask, unmasked = everything[position + 1, :count], everything[0, :count]
        assert scores["correct"][position] == of_mask.sum()
        assert scores["loss"][position] == pytest.approx(1 - of_mask.mean())
        assert certainty.seen_by(scores, position) == (
            count, {"correct": unmasked.sum(), "loss": pytest.approx(1 - unmasked.mean())}
        )  # fmt: skip
        difference = unmasked.astype(int) - of_mask
        assert certainty.excess(scores, position, None, CRITERIA["acc"]) == (
            difference.sum(), pytest.approx(difference.std() * count**0.5)
        )  # fmt: skip
    record = {**scores, "type": "operation", "criterion": "acc", "eligible": [0, 1, 2, 3, 4], "choice_index": 0}
    assert certainty.effort(record) == (sum(seen), 5 * 1280)
    assert certainty.race_words(record) == f"raced: {scores['images']:,} of 1,280 images"
    if harmful_wins:
        (contest,) = certainty.contests(record)
        assert contest.runner_up in last and contest.within_noise is False


def test_ties_look_at_all_images_and_what_may_not_win_leaves_at_once(rng):
    outcomes = [(rng.random((5, 16)) < 0.7).astype(np.int32) for _ in range(6)]
    for batch in outcomes:
        batch[2] = batch[1]  # the first two removals are the same
    scores = raced(outcomes, True, eligible=[0, 1, 3])
    assert scores["raced"]["images"][:2] == [96, 96] and scores["raced"]["images"][2] == 16
    assert scores["paired"]["correct"][1][2] == 0 and scores["correct"][0] == scores["correct"][1]


def test_under_batch_statistics_batches_are_the_units(rng):
    outcomes = [(rng.random((3, 32)) < np.array([[0.9], [0.85], [0.2]])).astype(np.int32) for _ in range(40)]
    by_image, by_batch = (raced(outcomes, unit, False)["images"] for unit in (True, False))
    assert by_image < by_batch < 40 * 32


def test_a_race_continues_where_it_stopped_and_stays_over(rng):
    outcomes = [(rng.random((4, 32)) < np.array([[0.9], [0.6], [0.75], [0.75]])).astype(np.int32) for _ in range(30)]
    whole = raced(outcomes, True)
    steps = whole["images"] // 32
    assert 4 < steps < 30
    place, saved = {"done": 0}, []

    def begin(name, state, total, count, images=0):
        if not place["done"]:
            place["sums"] = plain(total)
        return RunLoop(step_done, place, name, state, total, count, images)

    def step_done(loop, watch, done):
        saved.append(done)
        if len(saved) in (2, 4):
            loop.keep(done)
            place.update(json.loads(json.dumps(place)))
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            raced(outcomes, True, begin=begin)
    calls = []
    assert raced(outcomes, True, begin=begin, calls=calls) == whole
    assert saved == [*range(1, steps), 30] and len(calls) == steps - 4
    assert raced(outcomes, True, begin=begin, calls=calls) == whole and len(calls) == steps - 4, (
        "nothing is scored again"
    )


def test_a_choice_on_other_images_is_as_uncertain_as_under_the_bootstrap(rng):
    base = rng.random(800)
    right = np.stack([base < level for level in (0.8, 0.5, 0.505, 0.52, 0.5)]) ^ (rng.random((5, 800)) < 0.05)
    paired = [[0] * 6, *([0, *row] for row in (right[:, None] != right).sum(-1).tolist())]
    record = {
        "type": "operation", "criterion": "acc", "candidates": ["a", "b", "c", "d", "e"], "eligible": [0, 1, 2, 3],
        "images": 800, "correct": right.sum(1).tolist(), "paired": {"correct": paired},
    }  # fmt: skip
    counts = np.stack([right[:, rng.integers(0, 800, 800)].sum(1) for _ in range(2000)])
    chosen = np.bincount(counts[:, :4].argmin(1), minlength=4) / 2000
    shares = certainty.resampled(record)
    assert sum(shares.values()) == pytest.approx(1) and 0.1 < max(shares.values()) < 0.9
    for name, share in zip("abcd", chosen, strict=True):
        assert shares.get(name, 0) == pytest.approx(share, abs=0.05)
    tied = {**record, "eligible": [1, 4], "correct": [400] * 5, "paired": {"correct": np.zeros((6, 6)).tolist()}}
    assert certainty.resampled(tied) == {"b": 1.0}, "what no image tells apart stays a tie"
    assert certainty.resampled({**tied, "ties": "multiply_adds", "choice_index": 4}) == {"e": 1.0}, (
        "as the rule decided"
    )
    assert certainty.resampled({**record, "type": "topology"}) == {} == certainty.resampled({"type": "operation"})
    taken = [{**record, "kind": "normal", "edge": 1, "order": order, "choice": c} for order, c in ((1, "b"), (2, "c"))]
    table = decisions.choices(SPACES["nasbench201"], "normal", 1, taken)
    assert table.head == ["edge", "chosen on images drawn anew, %", "chosen in 2 orders"]
    assert len(table.rows) == 6 and table.rows[0][1:] == ["", ""] and table.rows[1][2] == "b 1, c 1"
    assert table.rows[1][1].startswith(f"{next(iter(shares))} {100 * max(shares.values()):.0f}, ")
    assert decisions.choices(SPACES["nasbench201"], "normal", 1, []) is None


def test_the_page_says_how_many_images_were_raced(rng):
    chances = np.array([0.9, 0.45, 0.85, 0.8, 0.75, 0.7])
    outcomes = [(rng.random((6, 32)) < chances[:, None]).astype(np.int32) for _ in range(40)]
    space = SPACES["nasbench201"]
    record = perturbation.decide(lambda masks: raced(outcomes, True), space, Target("operation", "normal", 2))
    assert recomputed(record) == record["choice"] == "none"
    described = decisions.described(space, 1, {**record, "order": 1, "decision": 1})
    (verdict,), (figure,), words = described.verdicts, described.figures, certainty.race_words(record)
    assert verdict.says == "clear" and verdict.race == words and words in figure.table.caption
    column = figure.table.head.index("images")
    assert [row[column] for row in figure.table.rows[1:]] == [f"{n:,}" for n in record["raced"]["images"]]
    done = sum(record["raced"]["images"])
    assert f"{done:,} of 6,400 images, over all removals, were scored ({done / 64:.0f} %)" in decisions.raced([record])
    (of_kind,) = matrix.matrices(space, [described])
    says = next(row for row in of_kind.rows if row.edge == 2).entries[1].says
    lost = certainty.excess(record, 1, None, CRITERIA["acc"])[0] / record["raced"]["images"][1]
    assert f"accuracy drop, points {100 * lost:.4g} " in says


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"select.criterion": "loss"}, r"select.race is for select.criterion='acc', got 'loss' \(the bound needs"),
        (
            {"select.topology": "single_ranking"},
            r"select.race is for select.topology='leave_one_out', got 'single_ranking'",
        ),
        (
            {"select.race": 0.0, "select.order": "certain", "select.method": "magnitude_tuned"},
            "select.order='certain' is",
        ),
        (
            {"select.method": "magnitude"},
            r"select.race stops scoring early, but select.method='magnitude' scores nothing",
        ),
    ],
)
def test_what_cannot_be_raced_or_ordered_is_refused(keys, says):
    with pytest.raises(ConfigError, match=says):
        rules.check(schema.from_flat({"select.race": 0.95, **keys}))


def test_strategies_are_compared_without_races_and_in_one_order():
    config = schema.from_flat({"select.race": 0.95, "select.order": "certain"})

    def selection(name, **keys):
        changed = config.changed({key.replace("__", "."): value for key, value in keys.items()})
        rules.check(changed)
        return changed.select

    subject = types.SimpleNamespace(config=config, selection=selection)
    found = analysis_of_strategies.selections(subject, types.SimpleNamespace(images=0, only=""))
    assert len(found) > 8 and {(select.race, select.order) for select in found.values()} == {(0, "random")}

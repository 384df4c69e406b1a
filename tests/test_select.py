"""The stage select: every method and option, from the supernet of one search."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.experiments.engine.sources import read_supernet
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty
from darts_pt_jax.spaces import as_lists
from tests.command import CELL, REPORTED, TINY, digests, lines, recomputed, run, same_results

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_training")]
SEARCHED = {**TINY, "search.epochs": 1, "eval.every": 100}
share_a_search = pytest.mark.xdist_group("search")
"""Marks the tests that select from one search."""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A supernet after one epoch of search, from which `selected` selects."""
    workdir = tmp_path_factory.mktemp("searched") / "run"
    assert run(workdir, SEARCHED, stages="search") == 0
    return workdir


@pytest.fixture
def selected(searched, tmp_path):
    def select(**keys):
        workdir = tmp_path / str(len(list(tmp_path.iterdir())))
        keys = {"stages": "select", "init_from": searched, "select.interval": 0, **keys}
        assert run(workdir, SEARCHED, **keys) == 0
        report = (workdir / "report.md").read_text() if "report" in keys["stages"] else ""
        return lines(workdir, "decisions.jsonl"), lines(workdir, "metrics.jsonl"), report

    return select


@share_a_search
def test_the_supernet_of_a_run_is_read_in_python(searched, tmp_path):
    net, variables, weights = read_supernet(searched)
    recorded = lines(searched, "metrics.jsonl")[-1]["edge_weights"]
    for kind, rows in as_lists(weights, net.space).items():
        for row, expected in zip(rows, recorded[kind], strict=True):
            assert row == pytest.approx(expected, abs=1e-6)
    rngs, images = {"params": jax.random.key(0), "noise": jax.random.key(0)}, jnp.zeros((1, 8, 8, 1))
    like = jax.eval_shape(lambda: net.init(rngs, images, weights, True))
    jax.tree.map(lambda ours, fresh: np.testing.assert_equal(ours.shape, fresh.shape), variables, like)
    with pytest.raises(ConfigError, match=r"init_epoch is 2, but .* keeps 1"):
        read_supernet(searched, 2)
    with pytest.raises(ConfigError, match="not a run directory"):
        read_supernet(tmp_path)


@share_a_search
def test_magnitude_and_random_select_from_the_same_search(selected, searched, tmp_path):
    decisions, _, report = selected(**{"select.method": "magnitude", "select.top": 3, "stages": "select,report"})
    assert len(decisions) == 22 and "By magnitude" in report
    three = [(tmp_path / "0" / f"genotype{n}.json").read_text() for n in ("", "_top2", "_top3")]
    told = json.loads((tmp_path / "0" / "alternatives.json").read_text())
    assert len({Genotype.from_json(text) for text in three}) == 3 and told[0]["behind"] <= told[1]["behind"]
    page = (tmp_path / "0" / "report.html").read_text()
    assert all("; ".join(one["changes"]) in text for one in told for text in (report, page))
    weights = lines(searched, "metrics.jsonl")[-1]["edge_weights"]
    for d in decisions:
        if d["type"] == "operation":
            assert d["edge_weights"] == pytest.approx(weights[d["kind"]][d["edge"]])
            assert d["choice_index"] == max(d["eligible"], key=lambda o: d["edge_weights"][o]) and d["margin"] >= 0
        else:
            best = sorted(d["edges"], key=lambda e: -d["strength"][d["edges"].index(e)])[:2]
            assert d["choice"] == sorted(best) and d["margin"] >= 0
    assert [d["eligible"] for d in decisions if "none" in d.get("candidates", ())] == [[1, 2, 3]]
    other, _, _ = selected(**{"select.method": "random"})
    assert len(other) == 22 and [d["choice"] for d in other] != [d["choice"] for d in decisions]


@share_a_search
def test_statistics_augmentation_and_the_number_of_masks_at_once(selected):
    base, metrics, _ = selected()
    assert [m["stage"] for m in metrics] == ["search", "select"] and "train_loss" not in metrics[1], "nothing is tuned"
    assert metrics[1]["tuning_epoch"] == 0 and 0 <= metrics[1]["valid_accuracy"] <= 100
    parts, _, _ = selected(**{"select.mask_batch": 2})
    assert [d["choice"] for d in parts] == [d["choice"] for d in base]
    assert parts[0]["correct"] == base[0]["correct"] and parts[0]["paired"]["correct"] == base[0]["paired"]["correct"]
    assert parts[0]["loss"] == pytest.approx(base[0]["loss"], abs=1e-5)
    for key, value in (("select.bn", "running"), ("select.augment", False)):
        changed, _, _ = selected(**{key: value})
        assert changed[0]["edge"] == base[0]["edge"] and changed[0]["loss"] != pytest.approx(base[0]["loss"], abs=1e-5)


@share_a_search
def test_a_race_takes_the_choices_of_full_scoring(selected):
    running = {"select.bn": "running"}
    base, _, _ = selected(**running)
    raced, _, report = selected(**running, **{"select.race": 0.9, "stages": "select,report"})
    assert [d["choice"] for d in raced] == [d["choice"] for d in base] == [recomputed(d) for d in raced]
    for ours, full in zip(raced, base, strict=True):
        for one, other in zip(ours.get("passes", [ours]), full.get("passes", [full]), strict=True):
            assert one["raced"]["of"] == other["images"] and max(one["raced"]["images"]) == one["images"]
            if one["images"] == other["images"]:
                assert one["baseline"]["correct"] == other["baseline"]["correct"]
    assert "Scorings were raced" in report


@share_a_search
def test_the_surest_and_the_most_important_edges_are_decided_first(selected):
    decisions, metrics, _ = selected(**{"select.order": "certain", "select.interval": 1})
    operations = [d for d in decisions if d["type"] == "operation"]
    assert [d["decision"] for d in decisions] == list(range(1, 23)), "every edge and node once"
    assert all(
        sorted(d["edge"] for d in operations if d["kind"] == kind) == list(range(9)) for kind in ("normal", "reduce")
    )
    points = {}
    for d in operations:
        points.setdefault((d["kind"], d["point"]), []).append(certainty.contests(d)[0])
    for together in points.values():
        assert len(together) == 1 or not any(contest.within_noise for contest in together)
    tuned = [m for m in metrics if m["stage"] == "select"]
    decided_at = {d["point"] for d in decisions}
    assert len(tuned) == len(decided_at) and tuned[-1]["decisions"] == 22 and "valid_loss" in tuned[-1]

    decisions, _, _ = selected(**{"select.order": "important"})
    left = {"normal": set(range(9)), "reduce": set(range(9))}
    for d in decisions[:18]:
        edges, right = d["importance"]["edges"], d["importance"]["correct"]
        assert set(edges) == left[d["kind"]] and d["edge"] == edges[right.index(min(right))]
        left[d["kind"]].remove(d["edge"])


@share_a_search
@pytest.mark.parametrize(
    ("key", "value", "largest"),
    [("order", "certain", 1610), ("method", "magnitude_tuned", 1600), ("method", "random", 1610)],
)
def test_a_limit_is_kept_and_told(selected, searched, tmp_path, capsys, key, value, largest):
    keys = {f"select.{key}": value, "select.max_parameters": largest}  # 1,598 are possible
    decisions, _, report = selected(**keys, stages="select,report")
    (network, *_) = json.loads((tmp_path / "0" / "networks.json").read_text())
    assert network["parameters"] <= largest
    limited, changed = map(certainty.limited, decisions), list(filter(None, map(certainty.limit_words, decisions)))
    text = f"={largest} ruled out choices in {sum(map(bool, limited))} of 22 decisions, and changed {len(changed)}"
    assert text in report and text in (tmp_path / "0" / "report.html").read_text() and changed
    assert sorted(d["edge"] for d in decisions if d["type"] == "operation") == sorted([*range(9)] * 2)
    assert value == "random" or changed[0] in capsys.readouterr().out
    again = {"init_from": searched, "select.interval": 0, **keys, "stages": "retrain", "retrain.channels": 8}
    assert run(tmp_path / "0", SEARCHED, **again) == 2
    assert "retrain.channels was 4 and is 8" in capsys.readouterr().err, "the limit is of another network"


@share_a_search
def test_criterion_and_single_ranking(selected):
    decisions, _, _ = selected(**{"select.criterion": "loss", "select.topology": "single_ranking"})
    assert all(recomputed(d) == d["choice"] for d in decisions) and {d["criterion"] for d in decisions} == {"loss"}
    first = decisions[0]
    assert first["loss"][first["choice_index"]] == max(first["loss"])
    one, two = next(d["passes"] for d in decisions if d.get("node") == 2)
    assert two["loss"] == [v for e, v in zip(one["edges"], one["loss"], strict=True) if e in two["edges"]]
    left = [0, *(i for i, e in enumerate(one["edges"], 1) if e in two["edges"])]
    for name, pairs in one["paired"].items():
        assert two["paired"][name] == [[pairs[i][j] for j in left] for i in left]


@share_a_search
def test_leave_one_out_scores_again_and_none_can_be_barred(selected):
    decisions, _, _ = selected(**{"select.none_is_candidate": False, "select.order": "fixed"})
    assert all(recomputed(d) == d["choice"] for d in decisions)
    edges = [d for d in decisions if "none" in d.get("candidates", ())]
    assert edges and all(d["choice"] != "none" and d["eligible"] == [1, 2, 3] for d in edges)
    assert [d["edge"] for d in decisions[:18:2]] == list(range(9))
    one, two = next(d["passes"] for d in decisions if d.get("node") == 2)
    assert two["baseline"]["loss"] != one["baseline"]["loss"], "every pass draws other images"


@share_a_search
def test_single_pairing_tunes_after_every_decision(selected):
    decisions, metrics, _ = selected(**{"select.pairing": "single", "select.interval": 1})
    assert len(decisions) == 22 and sum(m["stage"] == "select" for m in metrics) == 22
    assert ["valid_loss" in m for m in metrics if m["stage"] == "select"] == [False] * 21 + [True]


def test_fixed_alphas_of_zero_weigh_all_candidates_equally(tmp_path):
    keys = {"search.alpha": "fixed", "search.alpha_init": "zero", "select.order": "reference", "select.interval": 0}
    assert run(tmp_path / "run", TINY, **REPORTED, **{"search.epochs": 1, **keys}) == 0
    search, _ = lines(tmp_path / "run", "metrics.jsonl")
    rows = [row for kind in search["edge_weights"].values() for row in kind]
    assert all(row == pytest.approx([1 / len(row)] * len(row)) for row in rows)
    assert "magnitude" not in (tmp_path / "run" / "report.md").read_text()


@share_a_search
def test_magnitude_with_tuning_uses_the_weights_at_each_decision(selected, searched):
    keys = {"select.method": "magnitude_tuned", "select.interval": 1, "stages": "select,report"}
    decisions, metrics, report = selected(**keys)
    perturbed, _, _ = selected(**{"select.interval": 1})
    assert "By magnitude_tuned" in report and sum(m["stage"] == "select" for m in metrics) == 11
    order = [(d["type"], d["kind"], d.get("edge", d.get("node"))) for d in decisions]
    assert order == [(d["type"], d["kind"], d.get("edge", d.get("node"))) for d in perturbed], "the loop is the same"
    weights = lines(searched, "metrics.jsonl")[-1]["edge_weights"]
    operations = {(d["kind"], d["edge"]): d for d in decisions if d["type"] == "operation"}
    for d in operations.values():
        assert d["choice_index"] == max(d["eligible"], key=lambda o: d["edge_weights"][o])
    moved = [d["edge_weights"] != weights[d["kind"]][d["edge"]] for d in operations.values()]
    assert not any(moved[:2]) and any(moved[2:]), "alphas are trained between decisions"
    for d in decisions[18:]:
        strength = [max(operations[d["kind"], e]["edge_weights"][i] for i in operations[d["kind"], e]["eligible"])
                    for e in d["edges"]]  # fmt: skip
        assert d["strength"] == pytest.approx(strength)
        best = sorted(range(len(strength)), key=lambda i: -strength[i])[:2]
        assert d["choice"] == sorted(d["edges"][i] for i in best)


@share_a_search
def test_orders_are_selections_with_different_seeds_and_are_counted(selected, tmp_path):
    keys = {"select.interval": 1, "select.criterion": "loss", "stages": "select,report"}
    both, _, report = selected(**keys, **{"select.orders": 2, "select.seed": 6})
    singles = [selected(**keys, **{"select.seed": seed})[0] for seed in (6, 7)]
    for number, single in enumerate(singles, 1):
        assert [{**d, "order": 1} for d in both if d["order"] == number] == single
    assert [d.get("edge") for d in singles[0]] != [d.get("edge") for d in singles[1]]
    pair, one, two = (tmp_path / str(i) for i in range(3))
    for suffix, single in (("", one), ("_order2", two)):
        for name in ("genotype{}.json", "genotype{}.txt", "drawings/normal{}.svg", "drawings/accuracy{}.png"):
            assert (pair / name.format(suffix)).read_bytes() == (single / name.format("")).read_bytes()
    table = report.partition("## Orders")[2].splitlines()
    for edge in range(9):
        chosen = [d["choice"] for d in both if d["type"] == "operation" and (d["kind"], d["edge"]) == ("normal", edge)]
        counts = ", ".join(f"{name} {chosen.count(name)}" for name in dict.fromkeys(chosen))
        row = next(line for line in table if line.startswith(f"| normal | {edge} | "))
        assert sorted(row.split(" | ")[4].split(", ")) == sorted(counts.split(", "))
        dropped = [edge in set(d["edges"]) - set(d["choice"]) for d in both if d["kind"] == "normal" and "node" in d]
        assert row.endswith(f"| {2 - sum(dropped)} |")


@share_a_search
def test_dropping_excluded_candidates_changes_no_decision(selected):
    whole, _, _ = selected(**{"select.criterion": "loss"})
    less, _, _ = selected(**{"select.criterion": "loss", "select.restrict_every": 2})
    assert len(less) == 22 and all(recomputed(d) == d["choice"] for d in less)
    assert [d["choice"] for d in less] == [d["choice"] for d in whole]
    for one, two in zip(whole, less, strict=True):
        for a, b in zip(one.get("passes", [one]), two.get("passes", [two]), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["images"] == b["images"] == 64
        assert one.get("candidates") == two.get("candidates")


@share_a_search
def test_every_order_starts_with_the_whole_supernet(selected, searched, tmp_path):
    keys = {"select.interval": 1, "select.restrict_every": 8, "select.order": "fixed"}
    both, metrics, _ = selected(**keys, **{"select.orders": 2})
    second = [d for d in both if d["order"] == 2]
    assert [d["candidates"] for d in second[:18]] == [d["candidates"] for d in both[:18]]
    assert all(recomputed(d) == d["choice"] for d in both) and len(second) == 22
    single, alone, _ = selected(**keys, **{"select.seed": 1})
    assert [{**d, "order": 1} for d in second] == single
    tuned = [{**m, "order": 1} for m in metrics if m.get("order") == 2]
    assert tuned == [m for m in alone if m["stage"] == "select"] and len(tuned) == 11
    sizes = [sum(a.size for name, a in arrays(*place).items() if name.startswith(".params"))
             for place in ((searched, "snapshots"), (tmp_path / "0", "checkpoints"))]  # fmt: skip
    assert sizes[1] < sizes[0]


@share_a_search
def test_restriction_is_fixed_by_the_first_decision(searched, tmp_path, capsys):
    keys = {"init_from": searched, "select.interval": 0, "select.method": "magnitude_tuned"}
    assert run(tmp_path / "run", SEARCHED, **keys, **{"stages": "select", "select.restrict_every": 9}) == 0
    before = digests(tmp_path / "run")
    assert run(tmp_path / "run", SEARCHED, **keys, **{"stages": "select", "select.restrict_every": 0}) == 2
    assert "select.restrict_every was 9 and is 0" in capsys.readouterr().err
    assert digests(tmp_path / "run") == before


def arrays(workdir, folder, number=None):
    checkpoints = Checkpoints(workdir / folder, read_only=True)
    return checkpoints.arrays(number or checkpoints.latest())


def test_selection_from_any_kept_epoch_of_an_unfinished_run_does_not_change_it(tmp_path, capsys):
    source, keys = tmp_path / "source", {**CELL, "search.epochs": 4, "checkpoint.snapshots": "(1,)"}
    with pytest.MonkeyPatch.context() as patch:  # interrupted during the fourth epoch
        patch.setattr("darts_pt_jax.experiments.stages.search.epoch", broken_off_after(3))
        assert run(source, keys) == 1
    searched = lines(source, "metrics.jsonl")
    with (source / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "sea')  # as a kill leaves it
    before = digests(source)
    for epoch, folder in ((1, "snapshots"), (2, "checkpoints"), (0, "checkpoints")):
        workdir = tmp_path / f"from{epoch}"
        assert run(workdir, keys, stages="select", init_from=source, init_epoch=epoch) == 0
        taken = epoch or 3
        theirs, ours = arrays(source, folder, taken), arrays(workdir, "snapshots", taken)
        assert all(np.array_equal(theirs[name], ours[name]) for name in theirs)
        assert lines(workdir, "metrics.jsonl")[:taken] == searched[:taken]
        assert len(lines(workdir, "decisions.jsonl")) == 6
    assert digests(source) == before
    assert run(source, keys) == 0, "it continues as if nothing had happened"
    assert run(tmp_path / "whole", keys) == 0
    same_results(source, tmp_path / "whole")

    again = {"stages": "select", "init_from": source}
    assert run(tmp_path / "later", keys, **again) == 0, "a finished run keeps its last epoch"
    same = ("decisions.jsonl", "genotype.json")
    assert all((tmp_path / "later" / n).read_bytes() == (source / n).read_bytes() for n in same)
    capsys.readouterr()
    for changed, message in (
        ({"init_epoch": 2}, "init_epoch is 2, but"),
        ({"init_from": tmp_path / "nowhere"}, "nowhere: not a run directory"),
        ({"search.learning_rate": 0.5}, "search.learning_rate is 0.025 there and 0.5 here"),
        (
            {"seed": 3},
            "seed is 0 there and 3 here: set it as there or leave out --config (that run knows its config); the",
        ),
        ({"data.examples": 150}, "data.examples is 130 there and 150 here"),
        ({"stages": "search,select"}, "leave search out of --config.stages"),
    ):
        assert run(tmp_path / "new", keys, **{**again, **changed}) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert run(source, keys, **again) == 2
    assert "is the run that init_from names" in capsys.readouterr().err


def broken_off_after(epochs):
    from darts_pt_jax.experiments.stages import search

    def epoch(run, state, number, whole=search.epoch):
        if number == epochs:
            raise FloatingPointError("broken off")
        return whole(run, state, number)

    return epoch


def test_search_and_selection_have_separate_seeds(tmp_path):
    def made(name, **keys):
        assert run(tmp_path / name, CELL, **keys) == 0
        metrics = lines(tmp_path / name, "metrics.jsonl")
        decisions = lines(tmp_path / name, "decisions.jsonl")
        return [m for m in metrics if m["stage"] == "search"], decisions

    base = made("base", seed=3)
    search, decisions = made("search", seed=3, **{"search.seed": 4})
    assert search != base[0] and [d["edge"] for d in decisions] == [d["edge"] for d in base[1]]
    search, decisions = made("select", seed=3, **{"select.seed": 4})
    assert search == base[0] and [d["edge"] for d in decisions] != [d["edge"] for d in base[1]]
    assert made("both", seed=9, **{"search.seed": 3, "select.seed": 3}) == base

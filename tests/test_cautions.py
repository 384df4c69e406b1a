"""What a run warns of: ties, architectures without parameters, cells that none cuts, supernets just cut down."""

import re

import pytest

from darts_pt_jax.experiments.config import rules, schema
from darts_pt_jax.experiments.reporting import cautions
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty
from tests.command import CELL, run

NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def decision(margin, eligible=(0, 1), **more):
    return {"type": "operation", "margin": margin, "eligible": list(eligible), **more}


@pytest.mark.parametrize(
    ("record", "tie"),
    [
        (decision(0, criterion="acc"), True),
        (decision(0.0, criterion="loss"), True),
        (decision(1, criterion="acc"), False),
        (decision(0, (1,), criterion="acc"), False),
        (decision(0.0), True),
        (decision(0.0, method="magnitude"), True),
        (decision(0.0, method="random"), False),
        ({"type": "topology", "margin": 0}, False),
    ],
)
def test_a_tie_is_an_operation_chosen_without_a_lead(record, tie):
    assert certainty.is_tie(record) == tie


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ({"criterion": "acc"}, ": score more images, or --config.select.criterion=loss"),
        ({"criterion": "loss"}, ": score more images"),
        ({"method": "magnitude"}, ""),
    ],
)
def test_ties_are_counted_with_what_to_do_about_them(more, advice):
    records = [decision(0, **more), decision(0, **more), decision(2, **more), {"type": "topology", "margin": 0}]
    text = "2 of 3 choices of an operation are ties, which go to the first of the tied candidates"
    assert cautions.of_decisions(records) == [text + advice]
    assert cautions.of_decisions(records[2:]) == []


def test_an_architecture_with_nothing_to_train_is_named():
    plain = NONE.replace("none", "skip_connect")
    (text,) = cautions.of_architecture(Genotype.from_text(plain))
    assert "no operation with parameters (skip_connect)" in text
    assert cautions.of_architecture(Genotype.from_text(plain.replace("skip_connect~2", "nor_conv_1x1~2"))) == []


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (NONE, True),
        (NONE.replace("none~2", "nor_conv_1x1~2"), True),
        (NONE.replace("|none~2", "|nor_conv_1x1~2").replace("|none~0|+|none~0|none~1", "|none~0|+|none~0|nor_conv_1x1~1"), True),
        (NONE.replace("|+|none~0|none~1|none~2|", "|+|nor_conv_1x1~0|none~1|none~2|"), False),
        (NONE.replace("none~0", "nor_conv_1x1~0"), False),
    ],
)  # fmt: skip
def test_a_cell_is_cut_if_no_path_leads_through_it(text, cut):
    assert cautions.is_cut(Genotype.from_text(text), "normal") == cut
    assert (
        any("none cuts the normal cell" in said for said in cautions.of_architecture(Genotype.from_text(text))) == cut
    )


@pytest.mark.parametrize(
    ("keys", "unheeded"),
    [
        ({"method": "magnitude", "ties": "loss", "criterion": "loss", "interval": 1}, "criterion ties interval"),
        ({"method": "fisher", "criterion": "loss", "bn": "running", "images": 64}, "criterion bn"),
        ({"method": "shapley", "permutations": 3, "bn": "running", "images": 64}, "images"),
        ({"method": "magnitude_tuned", "topology": "single_ranking", "order": "fixed"}, "topology"),
        ({"method": "perturbation", "topology": "single_ranking", "ties": "loss", "permutations": 3}, "permutations"),
        ({"strategy": "first_order", "criterion": "loss", "ties": "loss"}, ""),  # of the inputs of nodes
        ({"space": "nasbench201", "strategy": "first_order", "criterion": "loss", "ties": "loss"}, "ties"),
        ({"method": "sgas_perturbation", "pairing": "single", "ties": "loss"}, "pairing"),
        ({"space": "nasbench201", "topology": "single_ranking"}, "topology"),
        ({"interval": 0, "tune_lr_factor": 0.5}, "tune_lr_factor"),
        ({"method": "random"}, ""),
    ],
)
def test_keys_that_do_nothing_in_a_selection_are_named(keys, unheeded):
    space = {"space": keys.pop("space", "darts_none")}
    said = rules.unheeded(schema.from_flat(space | {f"select.{key}": value for key, value in keys.items()}))
    assert sorted(re.findall(r"select\.(\w+)=", said.partition(": ")[2])) == sorted(unheeded.split())


def test_nothing_tuned_after_the_decisions_is_said():
    metrics = [{"stage": "search"}, {"stage": "select", "tuning_epoch": 0}]
    assert cautions.of_run([], metrics, []) == [cautions.CUT_DOWN]
    assert cautions.of_run([], [{"stage": "select", "tuning_epoch": 1}], []) == []


def test_the_screen_and_the_report_warn_before_such_an_architecture_is_retrained(tmp_path, capsys):
    keys = {**CELL, "stages": "retrain,report", "genotype": NONE, "retrain.cells": 1, "retrain.channels": 2,
            "retrain.epochs": 1, "retrain.auxiliary": 0.0, "retrain.cutout": 0, "data.size": 4, "tensorboard": False}  # fmt: skip
    assert run(tmp_path / "run", keys) == 0
    said = capsys.readouterr().out
    for text in cautions.of_architecture(Genotype.from_text(NONE)):
        assert said.index(f"warning: {text}") < said.index("retrain epoch 1/1")
        assert text in (tmp_path / "run" / "report.md").read_text()
        assert text in (tmp_path / "run" / "report.html").read_text()

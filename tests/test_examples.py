"""The examples do what they say, with the tables as they find them."""

import json

import pytest

from darts_pt_jax.ops import OPERATIONS
from darts_pt_jax.selection.direct import SELECTORS
from darts_pt_jax.spaces import SPACES
from experiments import main


@pytest.mark.parametrize("seed", [0, 1])
def test_selection_on_a_supernet_and_a_loss_of_ones_own(seed, capsys):
    from examples import own_supernet

    genotype, before, after = own_supernet.main(seed)
    assert "noise" not in genotype.operations("cell") and len(genotype.operations("cell")) == 5
    assert min(before, after) > 90
    assert len(capsys.readouterr().out.splitlines()) == 9, "seven decisions, the genotype, the accuracies"


def test_an_operation_a_space_and_a_method_of_ones_own(tmp_path, monkeypatch, capsys):
    for table in (OPERATIONS, SPACES, SELECTORS):
        for name in ("gated_conv_1x1", "gated", "sampled"):
            monkeypatch.delitem(table, name, raising=False)
            monkeypatch.setitem(table, name, None)  # put back, that is taken out again, at the end
            table.pop(name)
    shrink = ("search.epochs=1", "data.examples=130", "eval.every=100", "select.interval=0", "select.images=64")
    keys = [f"--config.{key}" for key in shrink]
    searched, again = tmp_path / "run", tmp_path / "again"
    assert main.main(["main", "--config=examples/own_space.py", f"--workdir={searched}", *keys]) == 0
    assert "By sampled:" in capsys.readouterr().out
    chosen = json.loads((searched / "genotype.json").read_text())["cells"]["normal"]
    assert {op for node in chosen for op, _ in node} <= {"skip_connect", "avg_pool_3x3", "gated_conv_1x1"}
    other = ["--config.stages=select,report", f"--config.init_from={searched}", "--config.select.method=perturbation"]
    assert main.main(["main", "--config=examples/own_space.py", f"--workdir={again}", *keys, *other]) == 0
    assert "By perturbation:" in capsys.readouterr().out

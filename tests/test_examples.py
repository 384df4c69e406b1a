"""The examples do what they say."""

import pytest

from darts_pt_jax.genotype import Genotype
from experiments import main


@pytest.mark.parametrize("seed", [0, 1])
def test_selection_on_a_custom_supernet_and_loss(seed, capsys):
    from examples import own_supernet

    genotype, before, after = own_supernet.main(seed)
    assert "noise" not in genotype.operations("cell") and len(genotype.operations("cell")) == 5
    assert min(before, after) > 90
    assert len(capsys.readouterr().out.splitlines()) == 9, "seven decisions, the genotype, the accuracies"


@pytest.mark.usefixtures("one_training")
def test_a_custom_operation_space_and_method(tables, tmp_path):
    shrink = ("search.epochs=1", "data.examples=130", "eval.every=100", "select.interval=0", "select.images=64")
    keys = ["main", "--config=examples/own_space.py", *(f"--config.{key}" for key in shrink)]
    searched, again = tmp_path / "run", tmp_path / "again"
    assert main.main([*keys, f"--workdir={searched}"]) == 0
    assert "By sampled:" in (searched / "report.md").read_text()
    chosen = Genotype.from_text((searched / "genotype.txt").read_text())
    names = set(chosen.operations("normal") + chosen.operations("reduce"))
    assert "gated_conv_1x1" in names and names <= {"skip_connect", "avg_pool_3x3", "gated_conv_1x1"}
    other = ["--config.stages=select,report", f"--config.init_from={searched}", "--config.select.method=perturbation"]
    assert main.main([*keys, f"--workdir={again}", *other]) == 0
    assert "By perturbation:" in (again / "report.md").read_text()

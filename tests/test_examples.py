"""examples/own_supernet.py does what it says; test_plugins.py runs examples/own_space.py."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_selection_on_a_custom_supernet_and_loss(seed, capsys):
    from examples import own_supernet

    genotype, before, after = own_supernet.main(seed)
    assert "noise" not in genotype.operations("cell") and len(genotype.operations("cell")) == 5
    assert min(before, after) > 90
    assert len(capsys.readouterr().out.splitlines()) == 9, "seven decisions, the genotype, the accuracies"

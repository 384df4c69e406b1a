import os

import numpy as np
import pytest

from darts_pt_jax.nasbench201 import Table


@pytest.fixture(scope="module")
def table():
    if "DARTS_PT_NB201" not in os.environ:
        pytest.skip("DARTS_PT_NB201 names no NAS-Bench-201 table")
    return Table(os.environ["DARTS_PT_NB201"])


def test_known_accuracies(table):
    assert table.column("c10_test").max() == pytest.approx(94.37, abs=0.005)
    skip = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    assert table.accuracies(skip)["c10_test"] == pytest.approx(54.30, abs=0.005)
    assert np.median(table.column("c10_test")) == pytest.approx(90.75, abs=0.005)


def test_rank_counts_the_strictly_better(table):
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    accuracy = table.accuracies(best)["c10_test"]
    assert table.rank(best) == 1 + np.count_nonzero(table.column("c10_test") > accuracy)
    with pytest.raises(KeyError, match="is not in the NAS-Bench-201 table"):
        table.accuracies("|nor_conv_3x3~0|")

import contextlib
import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax.checkpoints import Checkpoints
from tests import tiny


def test_a_state_comes_back_bit_for_bit_from_a_new_object(tmp_path, key):
    state = tiny.state(tiny.supernet("tiny"), key)
    Checkpoints(tmp_path / "c", keep=2).save(7, state, {"units": 7, "within": [{"done": 3}]})
    again = Checkpoints(tmp_path / "c", keep=2)
    restored = again.restore(again.latest(), jax.eval_shape(lambda: state))
    assert again.position(again.latest()) == {"units": 7, "within": [{"done": 3}]}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_only_the_newest_stay_and_numbers_grow(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    for number in (1, 2, 5):
        checkpoints.save(number, {"a": jnp.ones(3) * number}, {})
    assert checkpoints.numbers() == [2, 5]
    with pytest.raises(ValueError, match="checkpoint 4 is not newer than 5"):
        checkpoints.save(4, {"a": jnp.ones(3)}, {})


def test_another_supernet_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    checkpoints.save(1, {"weights": jnp.ones(3), "same": jnp.ones(2)}, {})
    with pytest.raises(ValueError, match=r"does not fit this supernet: 1 arrays differ, .*weights"):
        checkpoints.restore(1, {"weights": jnp.ones(4), "same": jnp.ones(2)})


def test_an_aborted_checkpoint_is_removed_while_late_writes_still_arrive(tmp_path):
    """tensorstore writes in parallel, so other writes may arrive after one has failed."""
    leftover, until = tmp_path / "c" / "7.tmp" / "state", time.monotonic() + 1

    def write():
        for number in itertools.count():
            if time.monotonic() > until:
                return
            with contextlib.suppress(OSError):
                leftover.mkdir(parents=True, exist_ok=True)
                (leftover / f"{threading.get_ident()}-{number}").touch()

    late = [threading.Thread(target=write) for _ in range(8)]
    for thread in late:
        thread.start()
    try:
        while not leftover.exists():
            time.sleep(0.001)
        checkpoints = Checkpoints(tmp_path / "c")
        checkpoints.save(8, {"a": jnp.ones(3)}, {})
    finally:
        for thread in late:
            thread.join()
    Checkpoints(tmp_path / "c").save(9, {"a": jnp.ones(3)}, {})
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["8", "9"]

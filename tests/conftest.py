import os

# Tests compile many small programs and run each a few times.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax
import numpy as np
import pytest

from darts_pt_jax import ops, spaces
from tests import tiny

ops.OPERATIONS["centred"] = tiny.Centred
spaces.SPACES["tiny"] = tiny.SPACE


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)

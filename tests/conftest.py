import atexit
import os
import shutil
import tempfile

# Tests compile many small programs and run each a few times.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

# The user's compilation cache is left alone. Every worker has a folder of its own, which the commands that it starts
# use too: jax may read what another process is still writing.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], worker)
else:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="darts-pt-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import numpy as np
import pytest

from darts_pt_jax import ops, spaces
from tests import tiny

ops.OPERATIONS["centred"] = tiny.Centred
spaces.SPACES["tiny"] = tiny.SPACE


@pytest.fixture(autouse=True, scope="module")
def forget():
    """Frees the programs of a module, of which a worker would gather gigabytes; what is needed again is in the cache."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)

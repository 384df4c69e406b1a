import atexit
import contextlib
import gc
import os
import shutil
import sys
import tempfile

# Tests compile many small programs and run each only a few times. Without optimisation, XLA's newer way to compile fusions
# takes twice as long as its older one.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

# Tests leave the user's compilation cache alone. All workers and their commands share one folder, for programs that take
# longer to compile than to load. A size limit makes jax lock the folder; otherwise it may read what another process is
# still writing.
if "PYTEST_XDIST_WORKER" not in os.environ:
    kept = os.environ.get("DARTS_PT_TEST_CACHE")  # a permanent folder, for running a few tests repeatedly
    os.environ["JAX_COMPILATION_CACHE_DIR"] = kept or tempfile.mkdtemp(prefix="darts-pt-jax-tests-")
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(10**10)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    if not kept:
        atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import numpy as np
import pytest

from darts_pt_jax import spaces
from darts_pt_jax.experiments.analysis import subject
from darts_pt_jax.experiments.config import plugins, schema
from darts_pt_jax.experiments.config.key import table_named
from darts_pt_jax.experiments.engine import execute
from tests import tiny

tiny.register()
gc.set_threshold(
    50_000, 10, 10
)  # tracing makes many objects; the search for cycles among them takes a fifth of its time


@pytest.fixture(autouse=True, scope="module")
def forget():
    """Frees the programs of a module, which would fill gigabytes in a worker; later uses find them in the cache."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def one_training():
    """A run with the supernet, data and steps of the run before shares its `Training`, which keeps no state.

    Only the last `Training` is kept: Linux allows a process 65,530 memory mappings, and small programs take thousands.
    The other checks of `Training` do not run again for a shared one.
    """
    made, make = {}, execute.Training

    def training(config, images, devices=None):
        read = {key: schema.value(config, key) for key in schema.of_programs()}
        inputs = images.fingerprint(), str(devices), str(spaces.SPACES[config.space]), str(sorted(read.items()))
        if inputs not in made:
            made.clear()
            gc.collect()
            one = make(config, images, devices)
            made[inputs] = one, dict(vars(one))
        one, attributes = made[inputs]
        assert all(attributes[name] is value for name, value in vars(one).items()), "it keeps no state"
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "Training", training)
        patch.setattr(subject, "Training", training)
        yield


@pytest.fixture
def tables():
    """`kept_tables` for a test."""
    with kept_tables():
        yield


@contextlib.contextmanager
def kept_tables(*more):
    """Restores the tables that plugins extend, the tables `more`, and the list of imported plugins."""
    every = [*more, *map(table_named, plugins.TABLES)]
    before = [(table, dict(table)) for table in every if isinstance(table, dict)]
    path = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_modules", "_adding", "_instead"):
            patch.setattr(plugins, name, type(getattr(plugins, name))())
        try:
            yield
        finally:
            for table, rows in before:
                table.clear()
                table.update(rows)
            for name, module in list(sys.modules.items()):
                folder = os.path.dirname(getattr(module, "__file__", None) or "")
                if name.startswith("plugin_") or folder in set(sys.path) - set(path):
                    del sys.modules[name]
            sys.path[:] = path


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)

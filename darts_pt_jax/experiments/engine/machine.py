"""Settings of jax: the cache of compiled programs, the precision of matrix products, the search for NaNs."""

import hashlib
import pathlib
import platform
import sys

import jax
import platformdirs

from darts_pt_jax.experiments.config.schema import Config


def cache_folder() -> pathlib.Path:
    """The folder of compiled programs for later commands; each type of processor, by its features, has its own."""
    features = platform.machine() + platform.processor()
    if sys.platform == "linux":
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features += "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}))
    name = hashlib.sha256(features.encode()).hexdigest()[:16]
    return pathlib.Path(platformdirs.user_cache_dir("darts-pt-jax")) / f"{platform.machine()}-{name}"


_NUMBERS = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
}
"""Settings of jax that decide on types and random numbers, which its environment variables would change otherwise."""


def prepare(config: Config) -> str | None:
    """Configures jax as the config says. A cache folder from JAX_COMPILATION_CACHE_DIR takes precedence.

    Types and random numbers do not depend on the environment.

    Returns:
      A warning if compiled programs are not kept, against the config; else None.
    """
    for name, value in _NUMBERS.items():
        jax.config.update(name, value)
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    jax.config.update("jax_debug_nans", config.debug_nans)
    jax.config.update("jax_enable_compilation_cache", config.compilation_cache)
    if not config.compilation_cache or jax.config.jax_compilation_cache_dir:
        return None
    try:
        folder = cache_folder()
    except RuntimeError:  # of platformdirs
        return "warning: there is no home directory, so compiled programs are not kept: JAX_COMPILATION_CACHE_DIR=FOLDER keeps them"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return None

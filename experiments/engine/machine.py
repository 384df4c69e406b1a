"""Settings of jax: the cache of compiled programs, the precision of matrix products, the search for NaNs."""

import hashlib
import pathlib
import platform
import sys

import jax
import platformdirs

from experiments.config.schema import Config


def cache_folder() -> pathlib.Path:
    """The folder of compiled programs for later commands; each type of processor, by its features, has its own."""
    features = platform.machine() + platform.processor()
    if sys.platform == "linux":
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features += "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}))
    name = hashlib.sha256(features.encode()).hexdigest()[:16]
    return pathlib.Path(platformdirs.user_cache_dir("darts-pt-jax")) / f"{platform.machine()}-{name}"


def prepare(config: Config):
    """Configures jax as the config says. A cache folder from JAX_COMPILATION_CACHE_DIR takes precedence."""
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    jax.config.update("jax_debug_nans", config.debug_nans)
    jax.config.update("jax_enable_compilation_cache", config.compilation_cache)
    if config.compilation_cache and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

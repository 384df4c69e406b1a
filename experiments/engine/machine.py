"""What a command asks of jax: a cache of compiled programs, and the precision of products of matrices."""

import hashlib
import pathlib
import platform
import sys

import jax
import platformdirs

from experiments.config.schema import Config


def cache_folder() -> pathlib.Path:
    """Where compiled programs are kept for later commands: a folder for each type of processor, by its features."""
    features = platform.machine() + platform.processor()
    if sys.platform == "linux":
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features += "".join(sorted({x for x in lines if x.startswith(("model name", "flags", "Features", "CPU part"))}))
    name = hashlib.sha256(features.encode()).hexdigest()[:16]
    return pathlib.Path(platformdirs.user_cache_dir("darts-pt-jax")) / f"{platform.machine()}-{name}"


def prepare(config: Config):
    """Sets jax up as the config says; a cache folder that jax has been given (JAX_COMPILATION_CACHE_DIR) stays."""
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    jax.config.update("jax_debug_nans", config.debug_nans)
    jax.config.update("jax_enable_compilation_cache", config.compilation_cache)
    if config.compilation_cache and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

"""Settings of jax and of the system: the cache of compiled programs, and memory in large pages."""

import json
import os
import pathlib
import platform
import subprocess
import sys

import jax
import platformdirs
import pytest

from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine import machine


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model name\t: A\nflags\t\t: fma avx2\n", "model name\t: A\nflags\t\t: fma avx2 avx512f\n"),
        ("model name\t: A\nflags\t\t: fma\n", "model name\t: B\nflags\t\t: fma\n"),
        ("Features\t: asimd\nCPU part\t: 0xd0c\n", "Features\t: asimd\nCPU part\t: 0xd40\n"),
    ],
)
def test_the_cache_folder_depends_on_the_processor_and_its_features(one, other, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")

    def folder(cpuinfo):
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: {"/proc/cpuinfo": cpuinfo}[str(path)])
        return machine.cache_folder()

    first = folder(one)
    assert first.parent == pathlib.Path(platformdirs.user_cache_dir("darts-pt-jax"))
    assert first.name.startswith(f"{platform.machine()}-")
    assert folder(one) == first != folder(other)
    assert folder(f"processor\t: 0\ncpu MHz\t: 2000\n{one}processor\t: 1\ncpu MHz\t: 2600\n{one}") == first
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert folder(one).name.startswith("riscv64-") and folder(one).name[8:] != first.name[-16:]


def test_without_a_list_of_features_the_processor_decides(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    first = machine.cache_folder()
    monkeypatch.setattr(platform, "processor", lambda: "i386")
    assert machine.cache_folder() != first


PROGRAM = """
import json, sys
import jax
from darts_pt_jax.configs import quickstart
from darts_pt_jax.experiments.config.schema import frozen
from darts_pt_jax.experiments.engine import machine
config = frozen(quickstart.get_config()).changed(json.loads(sys.argv[1]))
machine.prepare(config)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((3, 3)))
drawn = jax.random.normal(jax.random.key(0), 3) + jax.numpy.arange(3)
print(json.dumps([jax.config.jax_compilation_cache_dir, jax.config.jax_default_matmul_precision, drawn.tolist()]))
"""


def prepared(keys, **environment):
    """jax's cache folder, its precision, and numbers that it draws after `prepare`, in a separate process."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(keys)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_programs_are_kept_in_the_given_folder_or_the_users_unless_disabled(given, wanted, tmp_path):
    users, theirs = tmp_path / "users", tmp_path / "theirs"
    environment = {"XDG_CACHE_HOME": str(users), "HOME": str(users)}
    if given:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(theirs)
    folder, precision, _ = prepared({"compilation_cache": wanted, "matmul_precision": "highest"}, **environment)
    assert precision == "highest"
    if given:
        assert folder == str(theirs)
    elif wanted:
        assert pathlib.Path(folder).is_relative_to(users)
        assert pathlib.Path(folder).name == machine.cache_folder().name
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert bool(files) == wanted and all(p.is_relative_to(theirs if given else users) for p in files)


def test_the_environment_changes_neither_types_nor_random_numbers():
    others = {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_RANDOM_SEED_OFFSET": "1",
    }
    usual = jax.random.normal(jax.random.key(0), 3) + jax.numpy.arange(3)
    assert prepared({"compilation_cache": False}, **others)[2] == usual.tolist()


def test_without_a_home_directory_it_says_that_programs_are_not_kept(monkeypatch):
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None, raising=False)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as for a user that the system does not know
    assert "there is no home directory" in machine.prepare(Config())
    assert machine.prepare(Config().changed({"compilation_cache": False})) is None


LARGE = "glibc.malloc.hugetlb=1"
RESTARTED = """
import json, os, sys
before = os.environ.get("SEEN")
os.environ["SEEN"] = str(os.getpid())
from darts_pt_jax.experiments.engine.large_pages import use_large_pages
use_large_pages()
print(json.dumps([before, os.getpid(), sys.argv, os.environ.get("GLIBC_TUNABLES")]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is asked")
@pytest.mark.parametrize("users", [None, "glibc.malloc.check=0"])
def test_the_program_restarts_itself_unless_the_user_has_set_the_allocator(users):
    environment = {k: v for k, v in os.environ.items() if k not in ("SEEN", "GLIBC_TUNABLES")}
    if users:
        environment["GLIBC_TUNABLES"] = users
    argv = [sys.executable, "-c", RESTARTED, "a word", "--key=1"]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)
    before, pid, arguments, tunables = json.loads(process.communicate()[0])
    assert pid == process.pid and arguments == ["-c", "a word", "--key=1"]
    assert tunables == (users or LARGE)
    assert before == (None if users else str(pid)), "the same process, restarted"

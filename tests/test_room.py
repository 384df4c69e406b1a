"""A full disk, a limit on file sizes, a read-only directory: nothing is lost, and the run can end later."""

import contextlib
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from darts_pt_jax.checkpoints import Checkpoints
from tests.command import CELL, REPORTED, command, run, same_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits and mounts as these tests do"),
    pytest.mark.usefixtures("one_training"),
]

KEYS = {**CELL, "select.interval": 1, "tensorboard": False, "checkpoint.minutes": 0}


def mounted(path, options):
    """Mounts a file system in memory; returns whether that worked (it needs root)."""
    path.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode == 0


@pytest.fixture
def small(tmp_path):
    """A directory whose room `options` limit; returns a function that mounts it, and one that mounts it again."""
    place = tmp_path / "small"
    if not mounted(place, "size=64m"):
        pytest.skip("mounting a tmpfs needs root")

    def again(options):
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)

    yield place, again
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert run(workdir, KEYS) == 0
    return workdir


def ended(workdir, limit=None, **more):
    """Runs the command in a separate process; returns its exit code, and its last line on stderr."""
    limited = ["prlimit", f"--fsize={limit}"] if limit else []
    keys = {**KEYS, "compilation_cache": not limit, **more}  # the limit is not meant for the cache's files
    done = subprocess.run([*limited, *command(workdir, keys)], capture_output=True, text=True)
    assert done.stderr.count("\n") <= 1, done.stderr
    return done.returncode, done.stderr.strip()


def state_size(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    return sum(a.nbytes for a in checkpoints.arrays(checkpoints.latest()).values())


@pytest.mark.xdist_group("room")
def test_too_little_room_is_reported_before_any_work(small, whole):
    place, again = small
    again(f"size={2 * state_size(whole)}")
    code, said = ended(place / "run")
    assert code == 1
    assert re.fullmatch(
        rf"error: {place}/run: [0-9,]+ bytes are free, but 4 checkpoints of [0-9,]+ bytes need .*", said
    )
    assert not (place / "run" / "metrics.jsonl").exists()


@pytest.mark.xdist_group("room")
def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_ends_the_same(small, whole):
    place, again = small
    process = subprocess.Popen(
        command(place / "run", KEYS), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not (place / "run" / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
    with contextlib.suppress(OSError), (place / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    (said,) = [line for line in process.communicate()[1].splitlines() if line.startswith("error:")]
    assert process.returncode == 1
    assert re.fullmatch(rf"error: {place}/run/.*: cannot write [0-9,]+ bytes: No space left on device", said), said
    checkpoints = Checkpoints(place / "run" / "checkpoints", read_only=True)
    assert checkpoints.newest_sound()[0] == checkpoints.latest()
    (place / "ballast").unlink()
    again("size=128m")
    assert ended(place / "run")[0] == 0
    same_results(whole, place / "run")


@pytest.mark.xdist_group("room")
def test_a_limit_on_the_size_of_files_is_met_before_any_work(whole, tmp_path):
    size = state_size(whole)
    code, said = ended(tmp_path / "run", limit=size // 2)
    assert (code, said) == (1, f"error: {tmp_path}/run/room.tmp: cannot write {size:,} bytes: File too large")


@pytest.mark.xdist_group("room")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_within_a_run_keeps_the_last_checkpoint(whole, tmp_path, monkeypatch, capsys):
    """The limit takes effect after the check for room, as a quota may.

    If several writes fail, tensorstore may report the later ones to an event loop that orbax has closed.
    """
    from darts_pt_jax.experiments.engine import directory

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    look = directory.require_room

    def then_limited(*args):
        look(*args)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))

    monkeypatch.setattr(directory, "require_room", then_limited)
    try:
        assert run(tmp_path / "run", KEYS) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    said = capsys.readouterr().err
    assert "cannot write" in said and "File too large" in said and str(tmp_path / "run") in said
    monkeypatch.undo()
    assert run(tmp_path / "run", KEYS) == 0
    same_results(whole, tmp_path / "run")


@pytest.mark.xdist_group("room")
def test_a_directory_without_write_permission_is_reported_at_once(small, whole):
    place, again = small
    again("ro")
    code, said = ended(place / "run")
    assert code == 1 and str(place / "run") in said and "Read-only file system" in said
    again("rw")
    shutil.copytree(whole, place / "run")
    again("ro")
    code, said = ended(place / "run", **REPORTED)
    assert code == 1 and str(place / "run") in said and "Read-only file system" in said
    np.testing.assert_equal((place / "run" / "genotype.txt").read_bytes(), (whole / "genotype.txt").read_bytes())

"""Locks on file systems without flock."""

import errno
import fcntl
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from darts_pt_jax.experiments.engine import exclusive, locks
from darts_pt_jax.experiments.errors import RunError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A lock file where flock answers as network drives do."""

    def flock(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", flock)
    return tmp_path / "lock"


@pytest.fixture
def held(path):
    """The file that stands for the lock."""
    return path.with_name("lock.held")


def test_a_file_keeps_others_out_until_the_end(path, held):
    with locks.locked(path) as lock:
        said = f"{path.parent} is in use by process {os.getpid()} on {socket.gethostname()} "
        with pytest.raises(RunError, match=said):
            locks.refuse_if_locked(path)
        with pytest.raises(RunError, match=said), locks.locked(path):
            pass
        lock.sign(1)
        with pytest.raises(RunError, match="in use by process 1 on "):
            locks.refuse_if_locked(path)
    assert not held.exists()
    locks.refuse_if_locked(path)


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over(path, held):
    process = subprocess.Popen([sys.executable, "-c", ""])
    exclusive.ExclusiveFile(held).sign(process.pid)
    process.wait()
    locks.refuse_if_locked(path)
    with locks.locked(path):
        assert held.read_text().startswith(f"process {os.getpid()} on ")


def test_the_lock_of_another_machine_is_taken_over_unless_it_is_renewed(path, held, monkeypatch):
    path.touch()
    with monkeypatch.context() as patch:
        patch.setattr(exclusive, "_here", lambda: "another machine")
        exclusive.ExclusiveFile(held).sign(os.getpid())
    with pytest.raises(RunError, match=f"its lock {held} ends at the latest 600 s after the process"):
        locks.refuse_if_locked(path)
    long_ago = time.time() - exclusive.ABANDONED - 60
    os.utime(held, (long_ago, long_ago))
    monkeypatch.setattr(exclusive, "RENEWED", 0.01)
    with locks.locked(path):
        os.utime(held, (long_ago, long_ago))
        deadline = time.monotonic() + 10
        while held.stat().st_mtime < long_ago + 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_of_this_machine_keeps_its_lock_however_long_it_sleeps(path, held):
    path.touch()
    exclusive.ExclusiveFile(held).sign(os.getpid())
    long_ago = time.time() - exclusive.ABANDONED - 60
    os.utime(held, (long_ago, long_ago))
    with pytest.raises(RunError, match=f"in use by process {os.getpid()} on "):
        locks.refuse_if_locked(path)


def test_a_lock_that_another_has_taken_over_stays_his_and_ends_the_process(path, held, monkeypatch):
    monkeypatch.setattr(exclusive, "RENEWED", 0.01)
    sent = []
    monkeypatch.setattr(os, "kill", lambda *to: sent.append(to))
    with locks.locked(path):
        held.write_text("process 7 on another\n7\nanother machine\nanother token\n")
        deadline = time.monotonic() + 10
        while not sent:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert sent == [(os.getpid(), signal.SIGTERM)] and held.read_text().startswith("process 7 ")


def test_one_waits_for_the_other(path, held, monkeypatch):
    exclusive.ExclusiveFile(held).sign(os.getpid())
    monkeypatch.setattr(time, "sleep", lambda _: held.unlink())
    waited = []
    with locks.locked(path, waited.append):
        assert waited and waited[0].startswith(f"process {os.getpid()} on ")


def test_another_failure_names_the_file(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    path = pathlib.Path(tmp_path, "lock")
    with pytest.raises(RunError, match=f"{path}: cannot be locked: Input/output error"), locks.locked(path):
        pass

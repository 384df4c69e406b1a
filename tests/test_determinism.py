"""The same seed gives the same bits: in another process, with or without a terminal, however often it prints and saves."""

import os
import pty
import subprocess

import pytest

from darts_pt_jax.experiments.engine import screen
from tests.command import CELL, command, run, same_results, same_state


def on_a_terminal(args):
    """The output of a command on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(args, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the terminal's other end is closed
            piece = b""
        if not piece:
            break
        said += piece
    os.close(ours)
    assert process.wait() == 0, said.decode()
    return said.decode()


@pytest.mark.slow
def test_printing_and_saving_change_no_bit(tmp_path, monkeypatch, capsys):
    rarely, often = tmp_path / "rarely", tmp_path / "often"
    assert run(rarely, CELL, **{"checkpoint.minutes": 1e6, "tensorboard": False}) == 0
    assert "training 1/" not in capsys.readouterr().out
    monkeypatch.setattr(screen, "QUIET_SECONDS", 0)
    assert run(often, CELL, **{"checkpoint.minutes": 0, "checkpoint.keep": 1}) == 0
    assert "training 1/" in capsys.readouterr().out
    bar = tmp_path / "bar"
    assert "━" in on_a_terminal(command(bar, CELL))
    for other in (often, bar):
        same_results(rarely, other)
        same_state(rarely, other)

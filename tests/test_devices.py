"""Several devices: runs `sharded.py` in a process with eight devices."""

import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import pytest

from darts_pt_jax.devices import Devices
from tests.command import TINY, run

SHARDED = pathlib.Path(__file__).with_name("sharded.py")


@pytest.mark.slow
def test_on_eight_devices():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "--durations=0", "--durations-min=1", str(SHARDED)],
        capture_output=True, text=True, env={**environment, "XLA_FLAGS": flags},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"devices": 2}, "error: devices is 2, but there are 1 (cpu): take at most 1\n"),
        ({"devices": -1}, "error: devices is -1, expected at least 0\n"),
    ],
)
def test_more_devices_than_there_are_is_refused_before_any_work(keys, message, tmp_path, capsys):
    assert run(tmp_path / "run", {**TINY, **keys}) == 2
    assert capsys.readouterr().err == message
    assert not (tmp_path / "run").exists()


def test_programs_for_gpus_ask_for_command_buffers_unless_the_user_decides(monkeypatch):
    here = Devices.here(1)
    assert here.options == {}, "a CPU's"
    monkeypatch.setattr(Devices, "platform", "gpu")
    assert here.options == {}, "XLA_FLAGS is set"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert here.options["xla_gpu_enable_command_buffer"].split(",")[-1] == "CONVOLUTION"
    part = here.jit(lambda x: 2 * x)
    assert here.jit(lambda x: part(x) + 1)(jnp.ones(())) == 3, "a program that is a part of another has no options"

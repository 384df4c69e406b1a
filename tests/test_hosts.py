"""Several hosts: two processes over loopback, each with its own device, that `jax.distributed` connects."""

import os
import signal
import socket
import subprocess
import time

import pytest

from darts_pt_jax.experiments import main
from tests.command import CELL, RESULTS, TINY, arguments, command, same_state

KEYS = {**CELL, "stages": "search,select", "search.epochs": 4, "eval.every": 4, "select.interval": 0}


class Hosts:
    """One command in two processes."""

    def __init__(self, workdir, keys=KEYS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        flags = ["--coordinator", f"127.0.0.1:{port}", "--processes=2"]
        self.workdir = workdir
        self.processes = [
            subprocess.Popen([*command(workdir, keys), *flags, f"--process={i}"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
            for i in range(2)
        ]  # fmt: skip

    def until(self, name, count):
        """Waits until a record has `count` lines."""
        file = self.workdir / name
        while not file.exists() or file.read_text().count("\n") < count:
            assert [p.poll() for p in self.processes] == [None, None], self.ended()
            time.sleep(0.02)

    def ended(self):
        """Exit codes, outputs and errors of both processes."""
        said = [process.communicate(timeout=300) for process in self.processes]
        return [process.returncode for process in self.processes], *zip(*said, strict=True)


@pytest.mark.slow
def test_two_hosts_one_stopped_or_lost_end_like_one_host_with_two_devices(tmp_path):
    """A signal to one host, or the loss of either, ends both; the same command then continues."""
    workdir = tmp_path / "run"
    stopped = Hosts(workdir)
    stopped.until("metrics.jsonl", 1)
    stopped.processes[1].send_signal(signal.SIGTERM)
    codes, said, errors = stopped.ended()
    assert codes == [143, 143], errors
    assert all("stopped by SIGTERM in " in error for error in errors)
    assert "search epoch 1/4" in said[0] and "search epoch" not in said[1]

    for lost, count in ((1, 2), (0, 3)):
        again = Hosts(workdir)
        again.until("metrics.jsonl", count)
        again.processes[lost].kill()
        start = time.monotonic()
        codes, said, errors = again.ended()
        assert time.monotonic() - start < 60
        assert codes[1 - lost] not in (0, -signal.SIGKILL), errors
        assert (
            f"continuing {workdir} after" in said[0] or lost == 0
        )  # the last output of a lost first host may be missing

    codes, said, errors = Hosts(workdir).ended()
    assert codes == [0, 0], errors
    assert f"continuing {workdir} after" in said[0] and f"the results are in {workdir}" in said[0]
    parts = {p.name for p in (workdir / "checkpoints").glob("*/state/*")}
    assert {"ocdbt.process_0", "ocdbt.process_1"} <= parts, "both have written"

    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    subprocess.run(command(tmp_path / "one", KEYS), env={**os.environ, "XLA_FLAGS": flags}, check=True)
    same_state(workdir, tmp_path / "one")
    for name in RESULTS:
        assert (workdir / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "--coordinator is missing: --coordinator, --processes and --process go together"),
        (["--coordinator=here:1", "--processes=2", "--process=2"], "--process is 2, expected 0 to 1"),
        (["--coordinator=here", "--processes=2", "--process=0"], "--coordinator is 'here', expected HOST:PORT"),
    ],
)
def test_hosts_that_are_wrongly_named_are_refused(flags, message, tmp_path, capsys):
    assert main.main([*arguments(tmp_path / "run", **TINY), *flags]) == 2
    assert message in capsys.readouterr().err


def test_without_a_cluster_the_message_says_what_to_give(tmp_path):
    done = subprocess.run([*command(tmp_path / "run", CELL), "--distributed"], capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr.startswith("error: --distributed: jax recognises no cluster here") and done.stderr.count("\n") == 1
    )

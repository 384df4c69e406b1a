"""Launchers: what they retry and what not, and sweeps in which a process is killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

import pytest

from darts_pt_jax.experiments import sweep
from darts_pt_jax.experiments.engine.interrupts import Interrupts
from darts_pt_jax.experiments.launching import launchers, scheduling
from darts_pt_jax.experiments.launching.base import Run
from tests import fake_slurm

ENGINES = {"local": [], "slurm": ["cluster=local"], "ray": ["num_cpus=1"]}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Ray reports nothing, asks for no token, and keeps its files in a temporary folder."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a short path
        patch.setenv(
            "SUBMITIT_LOG_LEVEL", "NOCONFIG"
        )  # configuring logging would close the streams that pytest captures
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def start(tmp_path):
    """Starts a launcher, by name, in this process, and collects its messages."""
    said = []
    yield lambda name: launchers.launcher(name, launchers.options(ENGINES[name]), tmp_path, said.append), said
    if ray := sys.modules.get("ray"):
        ray.shutdown()


def script(workdir, text, needs=None):
    """A run that counts its tries in the file `tries` of its run directory, and executes `text`."""
    count = f"""
import os, pathlib, signal, sys, time
file = pathlib.Path({str(workdir)!r}, "tries")
file.parent.mkdir(exist_ok=True)
tries = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(tries))
"""
    return Run(workdir, (sys.executable, "-c", count + text), needs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.xdist_group("launchers")
def test_a_killed_or_failed_run_is_retried_unless_a_setting_is_wrong(name, start, tmp_path):
    killed = "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)" if name == "ray" else "os.kill(0, signal.SIGKILL)"
    runs = [
        script(tmp_path / "after", f"sys.exit(not os.path.exists({str(tmp_path / 'killed' / 'done')!r}))", tmp_path / "killed"),
        script(tmp_path / "killed", f"if tries == 1: {killed}\nfile.with_name('done').touch()"),
        script(tmp_path / "wrong", "sys.exit(2)"),
        script(tmp_path / "failing", "sys.exit(1)"),
        script(tmp_path / "never", "", tmp_path / "failing"),
    ]  # fmt: skip
    launch, said = start
    with Interrupts() as stop:
        launcher = launch(name)
        assert signal.getsignal(signal.SIGTERM) == stop._receive, "Ray would install its own handler"
        failed = scheduling.carry_out(runs, launcher, 2, stop, said.append)
    remote = name != "local"
    assert failed == {
        tmp_path / "wrong": "exit code 2" + f", see {tmp_path / 'wrong.log'}" * remote,
        tmp_path / "failing": "exit code 1" + f", see {tmp_path / 'failing.log'}" * remote,
        tmp_path / "never": "needs failing",
    }
    tries = {run.workdir.name: (run.workdir / "tries").read_text() for run in runs if run.workdir.exists()}
    assert tries == {"after": "1", "killed": "2", "wrong": "1", "failing": "3"}
    assert sum(f"{tmp_path / 'killed'}: " in text and "trying again" in text for text in said) == 1
    assert sum(f"{tmp_path / 'failing'}: exit code 1" in text for text in said) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.xdist_group("launchers")
def test_on_ctrl_c_every_run_saves_before_the_sweep_ends(name, tmp_path):
    save = "lambda *_: (time.sleep(2), file.with_name('saved').touch(), sys.exit(143))"
    text = f"for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, {save})\nfile.with_name('begun').touch()\n"
    runs = [script(tmp_path / letter, f"{text}time.sleep(600)") for letter in "ab"]
    process = driver(name, ENGINES[name], runs, tmp_path)
    begun = runs if name != "local" else runs[:1]
    until(lambda: all((run.workdir / "begun").exists() for run in begun), process)
    os.killpg(process.pid, signal.SIGINT)
    assert "stopped by SIGINT" in process.communicate(timeout=60)[0] and process.returncode == 130
    assert all((run.workdir / "saved").exists() for run in begun)
    assert all((run.workdir / "tries").read_text() == "1" for run in begun)


def driver(name, given, runs, workdir):
    """A process that carries out runs; its messages go to standard output."""
    program = f"""
import pathlib, sys
from pathlib import PosixPath
from darts_pt_jax.experiments.engine.interrupts import exit_code
from darts_pt_jax.experiments.launching import launchers, scheduling
from darts_pt_jax.experiments.launching.base import Run

def say(text): print(text, flush=True)

launcher = launchers.launcher({name!r}, launchers.options({given}), pathlib.Path({str(workdir)!r}), say)
sys.exit(exit_code(lambda stop: bool(scheduling.carry_out({runs!r}, launcher, 2, stop, say))))
"""
    command = [sys.executable, "-c", program]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, start_new_session=True, **streams)


def until(condition, process=None):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and (not process or process.poll() is None)
        time.sleep(0.01)


KEYS = {
    "space": "nasbench201", "data.examples": 130, "data.size": 4, "tensorboard": False, "stages": "retrain,report",
    "genotype": "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|",
    "retrain.cells": 1, "retrain.channels": 2, "retrain.epochs": 8, "report.latency": False,
}  # fmt: skip


def arguments(workdir, name="local", *more):
    engine = [f"--launcher={name}", *(f"--launcher-option={option}" for option in ENGINES[name])]
    overrides = [f"--config.{key}={value}" for key, value in KEYS.items()]
    return ["--config=configs/quickstart.py", "--seeds=0,1", f"--workdir={workdir}", *engine, *overrides, *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed") / "sweep"
    assert sweep.main(arguments(workdir), print) == 0
    return (workdir / "table.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "ray"])
@pytest.mark.xdist_group("launchers")
def test_a_process_of_a_sweep_is_killed_and_the_table_is_unchanged(name, undisturbed, tmp_path):
    workdir = tmp_path / "sweep"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *arguments(workdir, name)], stdout=subprocess.PIPE, text=True
    )
    until(lambda: any(workdir.glob("seed0-*/checkpoints/1")), process)
    run = next(workdir.glob("seed0-*/checkpoints")).parent
    number = int(run.with_name(f"{run.name}.lock").read_text().split()[1])
    os.kill(parent(number) if name == "ray" else number, signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert output.count("trying again from its last checkpoint (1 of 2)") == 1
    assert (workdir / "table.json").read_bytes() == undisturbed
    log = run.with_name(f"{run.name}.log").read_text()
    assert f"continuing {run} after" in log and "waiting for" not in log, "a run ends with its worker"
    timings = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
    epochs = [entry["number"] for entry in timings if entry["type"] == "epoch"]
    assert len(epochs) <= 9 and epochs.count("1/8") == 1, "only the interrupted epoch was repeated"
    assert sorted(set(epochs)) == sorted(f"{epoch}/8" for epoch in range(1, 9))


def parent(process):
    (line,) = [x for x in pathlib.Path(f"/proc/{process}/status").read_text().splitlines() if x.startswith("PPid:")]
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--launcher=condor"], "--launcher is 'condor', expected one of local, slurm, ray"),
        (["--launcher-option=num_gpus=1"], "--launcher=local takes none"),
        (["--launcher=ray", "--launcher-option=num_gpus"], "'num_gpus', expected KEY=VALUE"),
        (["--launcher=ray", "--launcher-option=num_gpus=1", "--launcher-option=num_gpus=2"], "gives num_gpus twice"),
        (["--launcher=ray", "--launcher-option=gpus=1"], "Invalid option keyword gpus"),
        (["--launcher=ray", "--launcher-option=num_gpus=one"], "'num_gpus' must be"),
        (["--launcher=slurm", "--launcher-option=cluster=cloud"], "cluster is 'cloud', expected one of slurm, local"),
        (["--launcher=slurm", "--launcher-option=cluster=local", "--launcher-option=slurm_gpu=1"], "Unknown argument 'gpu'"),
        (["--launcher=slurm", "--launcher-option=cluster=local", "--launcher-option=timeout_min=1h"], "timeout_min"),
        (["--launcher=slurm"], 'Could not detect "srun"'),
        (["--retries=-1"], "--retries is '-1', expected a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_line_before_any_run(given, message, tmp_path, capsys):
    assert sweep.main([*arguments(tmp_path / "sweep"), *given], print) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "sweep" / "seed0").exists()


def test_a_launcher_is_a_row(monkeypatch, tmp_path, capsys):
    class Nowhere(launchers.Local):
        about, takes = "runs are counted and forgotten", "any word"

        def submit(self, run):
            self._codes[run] = 2

    monkeypatch.setitem(launchers.LAUNCHERS, "nowhere", Nowhere)
    with pytest.raises(SystemExit):
        sweep.main(["--help"], print)
    said = " ".join(capsys.readouterr().out.split())
    assert "nowhere: runs are counted and forgotten" in said and "for nowhere any word" in said
    assert sweep.main([*arguments(tmp_path / "sweep"), "--launcher=elsewhere"], print) == 2
    assert "expected one of local, slurm, ray, nowhere" in capsys.readouterr().err
    asked = [*arguments(tmp_path / "sweep"), "--launcher=nowhere", "--launcher-option=word=1"]
    assert sweep.main(asked, lambda text: None) == 1
    assert "2 of 2 runs failed" in capsys.readouterr().err


def test_the_extras_are_called_as_the_launchers():
    extras = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"slurm", "ray"} == launchers.LAUNCHERS.keys() & extras.keys()


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_not_installed_is_named(name, package, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert sweep.main([*arguments(tmp_path / "sweep"), f"--launcher={name}"], print) == 2
    assert f"needs {package}: pip install -e '.[{name}]'" in capsys.readouterr().err


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm made of scripts; returns the folder of its jobs."""
    (tmp_path / "bin").mkdir()
    for name in fake_slurm.PROGRAMS:
        program = tmp_path / "bin" / name
        program.write_text(f"#!{sys.executable}\n{pathlib.Path(fake_slurm.__file__).read_text()}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "slurm").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    return tmp_path / "slurm"


SAVING = """
def save(*_):
    file.with_name("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
file.with_name("begun").touch()
if tries == 1: time.sleep(600)
"""


@pytest.mark.xdist_group("launchers")
def test_a_job_that_runs_out_of_time_saves_and_is_requeued(slurm, tmp_path):
    run = script(tmp_path / "a", SAVING)
    process = driver("slurm", ["timeout_min=1", "slurm_partition=gpu"], [run], tmp_path)
    until((tmp_path / "a" / "begun").exists, process)
    fake_slurm.send("1", signal.SIGUSR2)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "trying again" not in output, output
    assert (tmp_path / "a" / "saved").exists() and (tmp_path / "a" / "tries").read_text() == "2"
    assert "#SBATCH --partition=gpu" in (slurm / "1.sh").read_text() and not (slurm / "2.sh").exists()


@pytest.mark.xdist_group("launchers")
def test_the_jobs_of_a_killed_sweep_are_found_again_and_cancelled_by_a_signal(slurm, tmp_path):
    run = script(tmp_path / "a", SAVING)
    process = driver("slurm", [], [run], tmp_path)
    until((tmp_path / "a" / "begun").exists, process)
    process.kill()
    process.communicate()
    process = driver("slurm", [], [run], tmp_path)
    assert any("an earlier sweep has submitted it as job 1" in line for line in process.stdout)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143 and (tmp_path / "a" / "saved").exists()
    assert not list(fake_slurm.processes("1")) and not (slurm / "2.sh").exists()

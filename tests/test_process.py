"""The program as a process: what it imports, its streams, its folder."""

import os
import subprocess
import sys

import pytest

from tests.command import CELL, REPORTED, command
from tests.project import ROOT

MAIN = [sys.executable, "-m", "experiments.main"]

FOR_REPORTS = ("altair", "jinja2", "matplotlib", "tensorboardX", "vl_convert", "wandb")
"""Modules that only a report or a logger needs."""

FOR_RUNS = ("PIL", "flax", "jax", "narwhals", "optax", "orbax", "rich", "scipy", "sklearn", "tensorstore", "torch")
"""Modules that a run may need, but not --help."""


@pytest.fixture
def without(tmp_path):
    """`without(*modules)` is an environment in which these cannot be imported."""

    def environment(*modules):
        broken = tmp_path / "broken"
        broken.mkdir()
        for name in modules:
            (broken / f"{name}.py").write_text("raise AttributeError('broken here')")
        return {**os.environ, "PYTHONPATH": str(broken)}

    return environment


def said(argv, **how):
    """Exit code, standard output and standard error of a program."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, **how)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("optimised", [[], ["-OO"]])
def test_help_needs_neither_jax_nor_what_draws(optimised, without):
    command = [MAIN[0], *optimised, *MAIN[1:], "--help"]
    code, out, err = said(command, env=without(*FOR_REPORTS, *FOR_RUNS))
    assert (code, err) == (0, "") and "--config.search.epochs=50" in out


def test_a_library_that_only_a_report_needs_stops_no_search(without, tmp_path):
    keys = {**CELL, **REPORTED, "search.epochs": 1, "select.method": "random", "tensorboard": False}
    code, _, err = said(command(tmp_path / "run", keys), env=without(*FOR_REPORTS))
    assert code == 1 and err.count("\n") == 1
    assert err.startswith(
        "error: stage report: a library that it needs fails (AttributeError: broken here); all other "
    )
    assert (tmp_path / "run" / "genotype.json").exists() and not (tmp_path / "run" / "report.md").exists()


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("--help | head -n 1", 0, ""),
        ("--confg=1 2>&-", 2, ""),
        ("--confg=1 >&-", 2, "error: unknown option --confg: did you mean --config?\n"),
        ("--help > /dev/full", 1, "error: standard output: No space left on device\n"),
        ("--confg=1 2> /dev/full", 2, ""),
    ],
)
def test_exit_code_and_message_survive_a_stream_that_takes_nothing(line, code, message):
    script = f"set -o pipefail; {' '.join(MAIN)} {line}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == code and done.stderr == message


def test_a_report_needs_no_home_directory():
    program = """
import os, pwd
os.environ.pop("HOME", None)
pwd.getpwuid = {}.__getitem__  # as for a user that the system does not know
import darts_pt_jax.experiments.stages.report
"""
    assert said([sys.executable, "-c", program])[0] == 0


@pytest.mark.parametrize("arguments", [["report"], ["analysis", "cells", "--run"]])
def test_what_draws_needs_no_backend_of_a_notebook(arguments, tmp_path):
    name, *rest = arguments
    environment = {**os.environ, "MPLBACKEND": "backend_of_a_notebook"}
    code, _, err = said([sys.executable, "-m", f"experiments.{name}", *rest, str(tmp_path)], env=environment)
    assert code == 2 and err == f"error: {tmp_path}: not a run directory: it has no run.json\n"


def test_a_failed_command_waits_for_no_thread():
    program = """
import threading
from darts_pt_jax.experiments import commands
commands.start(lambda argv: threading.Thread(target=threading.Event().wait).start() or 1, [])
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 1


def test_a_current_folder_that_is_gone_is_named(tmp_path):
    program = "from darts_pt_jax.experiments import commands; commands.start(lambda argv: 0, [])"
    script = f'rmdir {tmp_path}; PYTHONPATH={ROOT} {sys.executable} -c "{program}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: the current folder has been deleted: change to another\n")


def test_a_closed_stream_takes_no_file(tmp_path):
    program = "from darts_pt_jax.experiments import streams; streams.prepare(); print(open('file', 'w').fileno() > 2)"
    script = f'PYTHONPATH={ROOT} {sys.executable} -c "{program}" <&- 2>&-'
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True).stdout == "True\n"


def test_a_character_that_an_encoding_lacks_is_written_as_its_number(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "1"}
    code, _, err = said([*MAIN, f"--config={tmp_path}/図.py"], env=environment)
    assert code == 2 and err == f"error: --config {tmp_path}/\\u56f3.py: no such file\n"


def test_another_package_of_the_name_configs_is_named(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").touch()
    installed = "sys.meta_path = [one for one in sys.meta_path if 'editable' not in getattr(one, '__module__', '')]"
    program = f"import sys; {installed}; from darts_pt_jax.experiments import main; sys.exit(main.main(sys.argv))"
    argv = [sys.executable, "-c", program, f"--config={ROOT}/configs/quickstart.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path}/configs/__init__.py is in the place of {ROOT}/configs: " in done.stderr

"""What all commands share: version, one line for wrong arguments, a reader that leaves, a Python without the packages."""

import importlib
import os
import subprocess
import sys
import tomllib

import pytest

import darts_pt_jax
from darts_pt_jax.experiments import export, predict
from darts_pt_jax.experiments.commands import COMMANDS
from tests.project import ROOT

FOLDER = ROOT / "darts_pt_jax" / "experiments"


def module(name):
    return importlib.import_module(f"darts_pt_jax.experiments.{'analysis.__main__' if name == 'analysis' else name}")


def test_these_are_all_commands():
    files = [*FOLDER.glob("*.py"), *FOLDER.glob("*/__main__.py")]
    written = {file for file in files if 'if __name__ == "__main__"' in file.read_text()}
    assert {file.parent.name if file.stem == "__main__" else file.stem for file in written} == set(COMMANDS)
    starters = {file.stem: file.read_text() for file in (ROOT / "experiments").glob("[!_]*.py")}
    assert starters.keys() == set(COMMANDS)
    assert all(f'run_module("darts_pt_jax.experiments.{name}", run_name' in text for name, text in starters.items())
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    names = {"darts-pt", *(f"darts-pt-{name.replace('_', '-')}" for name in COMMANDS[1:])}
    assert scripts == dict.fromkeys(names, "darts_pt_jax.experiments.commands:program")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_its_version(name, capsys):
    program = ["program"] * (name in ("main", "prepare"))
    with pytest.raises(SystemExit) as done:
        module(name).main([*program, "--version"])
    assert not done.value.code and capsys.readouterr().out == f"darts-pt-jax {darts_pt_jax.__version__}\n"


def test_a_wrong_argument_is_one_line(capsys):
    with pytest.raises(SystemExit) as done:
        export.main(["run", "--what"])
    assert done.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --what; --help shows what there is\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (predict, "{}/none: there is no such file or directory"),
        (export, "{}/none: there is no such directory"),
        (predict, "{}/run: it has no network.json, so no network is retrained there: python -m experiments.main --workdir={}"),
        (export, "{}/run: it has no network.json, so no network is retrained there: python -m experiments.main --workdir={}"),
    ],
)  # fmt: skip
def test_a_network_that_is_not_there_is_named_with_what_makes_it(command, message, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    name = message.partition(":")[0].format(tmp_path)
    assert command.main([name, "x.png"][: 1 + (command is predict)]) == 2
    said = capsys.readouterr().err
    assert message.format(tmp_path, tmp_path) in said and said.count("\n") == 1


def test_a_reader_that_leaves_ends_the_output_silently():
    said = subprocess.Popen(
        [sys.executable, "-m", "experiments.main", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said.stdout.close()
    assert said.communicate()[1] == b"" and said.returncode == 0


def test_a_python_without_the_packages_is_told_in_one_line():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bare = [sys.executable, "-S", "-m"]
    done = subprocess.run([*bare, "experiments.main"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        f"error: {sys.executable} lacks absl, flax, jax, ml_collections, optax: use .venv/bin/python, which make setup makes\n"
    )

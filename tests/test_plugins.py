"""A user's modules and files: every command imports them, the run keeps their names, later commands find them."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from darts_pt_jax import record
from darts_pt_jax.experiments import main, sweep
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.stages.pipeline import pipeline
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import direct
from darts_pt_jax.selection.methods import METHODS, Method
from darts_pt_jax.spaces import SPACES

ROOT = pathlib.Path(__file__).parents[1]
SPACE = """
import dataclasses
from darts_pt_jax.spaces import SPACES
COUNT = COUNT + 1 if "COUNT" in globals() else 1
SPACES["{name}"] = dataclasses.replace(SPACES["s1"], name="{name}")
"""


def parsed(*overrides, config="configs/quickstart.py"):
    return settings.parse(["main", f"--config={config}", *(f"--config.{override}" for override in overrides)]).config


@pytest.mark.usefixtures("tables")
def test_a_method_whose_values_nothing_measures_is_refused(monkeypatch):
    METHODS["own"] = Method("own", "by values of one's own", selector=direct.magnitude, values="own_values")
    config = parsed("select.method=own")
    with pytest.raises(ConfigError, match=r"'own' .*'own_values', which are no row of selection\.direct\.VALUES"):
        pipeline(config)
    monkeypatch.setitem(direct.VALUES, "own_values", "own value")
    with pytest.raises(ConfigError, match=r"no row of stages\.select\.MEASURED: add it where the method is defined"):
        pipeline(config)


@pytest.mark.usefixtures("tables")
def test_modules_and_files_are_imported_first_and_kept_by_their_path(tmp_path, monkeypatch):
    (tmp_path / "my_ops.py").write_text(SPACE.format(name="mine"))
    (tmp_path / "my_space.py").write_text("import my_ops\n" + SPACE.format(name="other"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = parsed("plugins=my_ops, my_space.py", "space=mine", config=ROOT / "configs/quickstart.py")
    assert config.plugins == f"{tmp_path}/my_ops.py,{tmp_path}/my_space.py" and config.space == "mine"
    first = SPACES["mine"]
    monkeypatch.chdir(ROOT)
    assert parsed(f"plugins={config.plugins}", "space=other").plugins == config.plugins
    assert SPACES["mine"] is first, "a file is imported once"


@pytest.mark.usefixtures("tables")
def test_plugins_import_each_other_in_any_order(tmp_path):
    (tmp_path / "later.py").write_text(SPACE.format(name="mine"))
    (tmp_path / "earlier.py").write_text("import later\nassert later.COUNT == 1\n")
    parsed(f"plugins={tmp_path}/earlier.py,{tmp_path}/later.py", "space=mine")
    assert sys.modules["later"].COUNT == 1


@pytest.mark.usefixtures("tables")
def test_a_config_file_that_adds_rows_is_a_plugin_of_its_run(tmp_path):
    assert parsed(config="examples/own_space.py").plugins == str(ROOT / "examples/own_space.py")
    assert parsed(config="examples/own_space.py").plugins == str(ROOT / "examples/own_space.py"), "the second time too"
    assert parsed().plugins == "", "the quickstart adds nothing"


@pytest.mark.usefixtures("tables")
def test_the_runs_of_a_sweep_have_its_plugins(tmp_path):
    argv = ["--config=examples/own_space.py", "--seeds=0,1", "--beside=random", f"--workdir={tmp_path / 'sweep'}"]
    runs = [run for of_seeds in sweep.parse(argv).commands.values() for run in of_seeds.values()]
    assert [run.config.plugins for run in runs] == [str(ROOT / "examples/own_space.py")] * 4


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gone.py", r"plugins: there is no file .*/gone.py: put it back, or name where it is now by"),
        ("no_such_module", r"plugins: there is no module 'no_such_module' here: install it"),
        ("{here}/fails.py", r"plugins: .*/fails.py fails: .*/fails.py, line 2: ZeroDivisionError: division by zero$"),
        ("{here}/malformed.py", r"malformed.py fails: .*/malformed.py, line 1: SyntaxError"),
        ("{here}/imports.py", r"imports.py fails: .*/imports.py, line 1: ModuleNotFoundError: No module named 'nowhere'$"),
    ],
)  # fmt: skip
def test_a_missing_or_failing_plugin_is_one_line(value, message, tmp_path, capsys):
    (tmp_path / "fails.py").write_text("\n1 / 0\n")
    (tmp_path / "malformed.py").write_text("def\n")
    (tmp_path / "imports.py").write_text("import nowhere\n")
    value = value.format(here=tmp_path)
    argv = ["main", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}", f"--config.plugins={value}"]
    assert main.main(argv) == 2
    said = capsys.readouterr().err
    assert re.search(message, said.strip()) and said.count("\n") == 1 and not (tmp_path / "run").exists()


SMALL = {"search.epochs": 1, "data.examples": 130, "eval.every": 100, "select.interval": 0, "select.images": 64,
         "report.latency": False, "tensorboard": False, "retrain.epochs": 1, "retrain.cells": 3,
         "retrain.channels": 4}  # fmt: skip


def plain(arguments, **more):
    """Runs a command in a new process, which has imported no plugin."""
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, **more)


@pytest.fixture(scope="module")
def custom(tmp_path_factory):
    """A whole run of a copy of examples/own_space.py."""
    place = tmp_path_factory.mktemp("own")
    shutil.copy(ROOT / "examples/own_space.py", place / "my_space.py")
    keys = [f"--config.{key}={value}" for key, value in SMALL.items()]
    stages = "--config.stages=search,select,retrain,report"
    done = plain(["experiments.main", f"--config={place}/my_space.py", f"--workdir={place}/run", stages, *keys])
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8), np.arange(20) % 10
    file = tmp_path / "pictures.npz"
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return file


@pytest.mark.slow
@pytest.mark.xdist_group("own")
def test_the_example_selects_by_its_own_method_and_by_others(custom, tmp_path):
    assert "By sampled:" in (custom / "run" / "report.md").read_text()
    chosen = Genotype.from_text((custom / "run" / "genotype.txt").read_text())
    names = set(chosen.operations("normal") + chosen.operations("reduce"))
    assert "gated_conv_1x1" in names and names <= {"skip_connect", "avg_pool_3x3", "gated_conv_1x1"}
    other = [f"--config.init_from={custom / 'run'}", "--config.select.method=perturbation"]
    done = plain(["experiments.main", f"--workdir={tmp_path / 'again'}", *other])
    assert done.returncode == 0, done.stderr
    assert "By perturbation:" in (tmp_path / "again" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("own")
def test_every_command_knows_the_plugins_of_a_run(custom, pictures, tmp_path):
    file = f"{custom}/my_space.py"
    assert json.loads((custom / "run" / "run.json").read_text())["config"]["plugins"] == file
    assert json.loads((custom / "run" / "network.json").read_text())["plugins"] == [file]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments in (
        ["experiments.report", f"{custom}/run"],
        ["experiments.analysis", "alpha_gap", "--run", f"{custom}/run", "--out", f"{tmp_path}/gap"],
        ["experiments.predict", f"{custom}/run", str(pictures)],
        ["experiments.export", f"{custom}/run"],
    ):
        done = plain(arguments, cwd=tmp_path, env=environment)
        assert done.returncode == 0, (arguments, done.stderr)


@pytest.mark.slow
@pytest.mark.xdist_group("own")
def test_the_command_on_the_page_makes_such_a_run(custom, tmp_path):
    from darts_pt_jax.experiments.reporting import records

    config = records.config_of(records.read_run(custom / "run"))
    command = records.command(records.RunRecords.read(custom / "run", config))
    assert f"--config.plugins={custom}/my_space.py" in command
    done = plain([*command[2:], f"--workdir={tmp_path / 'again'}", "--plan"])
    assert done.returncode == 0 and "supernet       gated, 3 cells" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("own")
def test_a_plugin_that_has_moved_is_named_again(custom, pictures, tmp_path):
    shutil.copytree(custom / "run", tmp_path / "run")
    for name in ("run.json", "network.json"):
        file = tmp_path / "run" / name
        text = file.read_text().replace(str(custom), str(tmp_path / "before"))
        if name == "run.json":
            content = json.loads(text)
            del content["sha256"]
            text = record.sealed(content)
        file.write_text(text)
    for arguments in (
        ["experiments.report", f"{tmp_path}/run"],
        ["experiments.predict", f"{tmp_path}/run", str(pictures)],
    ):
        done = plain(arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert (
            f"plugins: there is no file {tmp_path}/before/my_space.py: put it back, or name where it is" in done.stderr
        )
        assert plain([*arguments, f"--config.plugins={custom}/my_space.py"]).returncode == 0
    keys = [f"--config.{key}={value}" for key, value in {**SMALL, "space": "gated", "select.method": "sampled"}.items()]
    again = ["experiments.main", "--config=configs/quickstart.py", f"--workdir={tmp_path}/run", *keys]
    again.append("--config.stages=search,select,retrain,report")
    assert plain(again).returncode == 2
    done = plain([*again, f"--config.plugins={custom}/my_space.py"])
    assert done.returncode == 0 and "finished: the results are in" in done.stdout, done.stderr

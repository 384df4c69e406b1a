"""Where the config of a command begins: with a config file, or with a run, which knows its own."""

import os

import pytest

from darts_pt_jax import naming, record
from darts_pt_jax.experiments import commands, main, sweep
from darts_pt_jax.experiments.config import schema, settings
from darts_pt_jax.experiments.config.versions import stamp
from darts_pt_jax.experiments.errors import ConfigError, RunError
from tests.project import ROOT


def parsed(*argv):
    return settings.parse(["main", *map(str, argv)])


def a_run(place, *overrides, config="configs/quickstart.py"):
    """A run directory that keeps a config; returns the config."""
    kept = parsed(f"--config={config}", *(f"--config.{override}" for override in overrides)).config
    place.mkdir(parents=True)
    record.write_text(place / "run.json", record.sealed({**stamp(), "config": schema.flatten(kept)}))
    return kept


@pytest.mark.parametrize(("word", "guess"), [("perturbatoin", ": did you mean perturbation?"), ("pert", ""), ("x", "")])
def test_only_a_similar_name_is_suggested(word, guess):
    assert naming.guess(word, ("magnitude", "perturbation")) == guess
    assert naming.guess(word.upper(), ("magnitude", "perturbation"), ignore_case=True) == guess


def test_a_value_may_begin_with_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = a_run(tmp_path / "run", "search.epochs=3")
    asked = parsed("--config.init_from=~/run", "--workdir=~/other")
    assert asked.config.search.epochs == kept.search.epochs
    assert (asked.config.init_from, asked.workdir) == (str(tmp_path / "run"), tmp_path / "other")
    parser = commands.parser("any", "")
    parser.add_argument("--out")
    assert parser.parse_args(["--out=~/file"]).out == f"{tmp_path}/file"


def test_options_may_be_the_lines_of_a_file(tmp_path):
    (tmp_path / "options").write_text("# more\n--config.search.epochs=3\n--plan\n")
    asked = parsed("--config=configs/quickstart.py", f"--flagfile={tmp_path}/options", "--config.seed=1")
    assert (asked.config.search.epochs, asked.config.seed, asked.plan) == (3, 1, True)
    with pytest.raises(ConfigError, match=f"--flagfile: .*{tmp_path}/gone"):
        parsed(f"--flagfile={tmp_path}/gone")


def test_a_run_directory_gives_the_config_that_the_command_line_changes(tmp_path):
    kept = a_run(tmp_path / "run", "search.epochs=3", "select.augment=False")
    assert parsed(f"--workdir={tmp_path / 'run'}").config == kept
    changed = {"stages": "retrain,report", "search.epochs": 4, "select.augment": True}
    asked = parsed(f"--workdir={tmp_path / 'run'}", *(f"--config.{key}={value}" for key, value in changed.items()))
    assert asked.config == kept.changed(changed) and not asked.config_named
    other = parsed(f"--config={tmp_path / 'run'}", f"--workdir={tmp_path / 'other'}", "--config.seed=1")
    assert other.config == kept.changed({"seed": 1})


def test_a_selection_begins_with_the_config_of_the_run_that_it_takes_the_supernet_from(tmp_path, monkeypatch):
    kept = a_run(tmp_path / "elsewhere" / "run", "search.epochs=3", "stages=search")
    monkeypatch.chdir(tmp_path)
    asked = parsed("--config.init_from=elsewhere/run/", "--config.init_epoch=2", "--config.select.method=magnitude")
    source = {"stages": "select,report", "init_from": str(tmp_path / "elsewhere" / "run"), "init_epoch": 2}
    assert asked.config == kept.changed({**source, "select.method": "magnitude"})
    assert str(asked.workdir) == "runs/elsewhere-run-epoch2-magnitude-seed0"
    a_run(
        tmp_path / "selected",
        *(f"{key}={value}" for key, value in source.items()),
        config=ROOT / "configs/quickstart.py",
    )
    monkeypatch.chdir("/")
    assert parsed(f"--workdir={tmp_path / 'selected'}").config.init_from == source["init_from"]
    again = parsed(f"--config.init_from={tmp_path / 'selected'}", "--config.select.seed=5").config
    assert (again.init_from, again.init_epoch) == (str(tmp_path / "selected"), 0)


@pytest.mark.usefixtures("tables")
def test_a_run_brings_its_plugins(tmp_path):
    kept = a_run(tmp_path / "run", config="examples/own_space.py")
    assert kept.plugins == str(ROOT / "examples/own_space.py")
    for argv in ([f"--workdir={tmp_path / 'run'}"], [f"--config.init_from={tmp_path / 'run'}"]):
        assert parsed(*argv).config.plugins == kept.plugins


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--workdir={}/none"], "--workdir .*/none holds no run: give a config file, such as .* or a run by --workdir"),
        (["--config.init_from={}/none"], "/none: not a run directory: it has no run.json"),
        (["--config.init_from=README.md"], "--config is missing: give a config file"),
        (["--config={}"], "not a run directory: it has no run.json"),
        (["--config.init_from={}/given"], "/given: it retrains a given architecture, and has no supernet"),
        (["--workdir={}/run", "--config.search.epochs=0"], "search.epochs is 0, expected at least 1"),
        (["--workdir={}/run", "--config.init_from={}/run"], "is the run that init_from names, which is only read"),
    ],
)
def test_what_is_no_run_is_named(argv, message, tmp_path):
    a_run(tmp_path / "run")
    a_run(tmp_path / "given", "genotype=DARTS_V2", "stages=retrain,report")
    with pytest.raises(ConfigError, match=message):
        parsed(*(one.format(tmp_path) for one in argv))


def test_a_damaged_run_is_named(tmp_path, capsys):
    a_run(tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(file.read_text().replace('"search.epochs": ', '"search.epochs": 1'))
    with pytest.raises(RunError, match=r"run.json is damaged \(it is not as it was written: its SHA-256 is another"):
        parsed(f"--workdir={tmp_path / 'run'}")
    assert main.main(["main", f"--workdir={tmp_path / 'run'}"]) == 1


def test_a_config_file_that_is_named_beside_a_run_has_to_agree_with_it(tmp_path):
    from darts_pt_jax.experiments.engine import directory

    kept = schema.flatten(a_run(tmp_path / "run", "search.epochs=3"))
    place = f"--workdir={tmp_path / 'run'}"
    with pytest.raises(
        ConfigError, match=r"epochs was 3 and is 10; set it back, leave out --config \(the run knows its config"
    ):
        directory.refuse_changes(parsed("--config=configs/quickstart.py", place), kept, schema.free_keys())
    with pytest.raises(ConfigError, match=r"search.epochs was 3 and is 5; set it back or name a new --workdir$"):
        directory.refuse_changes(parsed(place, "--config.search.epochs=5"), kept, schema.free_keys())
    directory.refuse_changes(parsed(place), kept, schema.free_keys())


def test_a_sweep_knows_its_config_too(tmp_path):
    kept = a_run(tmp_path / "sweep" / "seed2", "search.epochs=3", "seed=2")
    asked = sweep.parse([f"--workdir={tmp_path / 'sweep'}", "--seeds=2,4", "--beside=random"])
    assert asked.commands["perturbation"][4].config == kept.changed({"seed": 4})
    assert asked.commands["random"][4].config.init_from == str(tmp_path / "sweep" / "seed4")
    with pytest.raises(ConfigError, match=r"--config is missing: .*seed5 holds no run"):
        sweep.parse([f"--workdir={tmp_path / 'sweep'}", "--seeds=5"])
    named = sweep.parse([f"--config={tmp_path / 'sweep' / 'seed2'}", "--seeds=0"])
    assert named.commands["perturbation"][0].config == kept.changed({"seed": 0})
    assert os.fspath(named.workdir) == "runs/seed2-sweep"

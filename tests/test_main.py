"""The command, from its arguments to its files."""

import dataclasses
import errno
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from darts_pt_jax import record
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.devices import Devices
from darts_pt_jax.experiments import main
from darts_pt_jax.experiments.config.versions import stamp
from darts_pt_jax.experiments.engine import locks
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.spaces import SPACES, dag
from tests.command import CELL, REPORTED, TINY, arguments, command, digests, lines, recomputed, run, same_results

pytestmark = pytest.mark.usefixtures("one_training")
uses_whole = pytest.mark.xdist_group("whole")
"""Marks the tests that share one run."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run of the tests' space, by one command."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert run(workdir, TINY, **REPORTED) == 0
    return workdir


@uses_whole
def test_another_space_goes_through_everything(whole):
    space = SPACES["tiny"]
    metrics, decisions = lines(whole, "metrics.jsonl"), lines(whole, "decisions.jsonl")
    assert [(m["stage"], m.get("epoch", m.get("tuning_epoch"))) for m in metrics] == (
        [("search", 1), ("search", 2)] + [("select", i + 1) for i in range(11)]
    )
    assert all(0 <= m[k] <= 100 for m in metrics for k in ("train_accuracy", "valid_accuracy"))
    assert [d["decision"] for d in decisions] == list(range(1, 23))
    assert [d["type"] for d in decisions] == ["operation"] * 18 + ["topology"] * 4
    assert [d["kind"] for d in decisions] == ["normal", "reduce"] * 11
    assert all(recomputed(d) == d["choice"] for d in decisions)
    operation = decisions[0]
    assert operation["images"] == 64 and len(operation["correct"]) == len(operation["candidates"])
    assert 0 <= operation["baseline"]["correct"] <= 64 and operation["baseline"]["loss"] > 0

    genotype = Genotype.from_json((whole / "genotype.json").read_text())
    chosen = {(d["kind"], d["edge"]): d["choice"] for d in decisions[:18]}
    kept = {(d["kind"], d["node"]): d["choice"] for d in decisions[18:]}
    for kind, graph in space.cells.items():
        for number, node in enumerate(genotype.cells[kind]):
            edges = kept.get((kind, number), graph.incoming(number + graph.inputs))
            assert node == tuple((chosen[kind, e], graph.edges[e].source) for e in edges)
    assert "By magnitude" in (whole / "report.md").read_text()


@uses_whole
def test_times_have_a_separate_file(whole):
    timings = lines(whole, "timings.jsonl")
    assert sum(t["stage"] == "search" for t in timings) == 2 and all(t["seconds"] >= 0 for t in timings)
    for name in ("metrics.jsonl", "decisions.jsonl"):
        assert "seconds" not in (whole / name).read_text()


@uses_whole
def test_repeating_the_command_of_a_finished_run_changes_no_file(whole, capsys):
    before = digests(whole)
    for argv in (arguments(whole, **{**TINY, **REPORTED}), ["main", f"--workdir={whole}"]):  # a run knows its config
        assert main.main(argv) == 0
        assert (
            capsys.readouterr().out
            == f"finished: the results are in {whole}: report.md, report.html, drawings, genotype.txt\n"
        )
        assert digests(whole) == before


@uses_whole
def test_another_config_on_the_same_directory_is_refused_by_key(whole, capsys):
    before = digests(whole)
    assert run(whole, TINY, **{"search.learning_rate": 0.05, "select.interval": 3}) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "search.learning_rate was 0.025 and is 0.05, select.interval was 1 and is 3" in error
    assert digests(whole) == before


@uses_whole
def test_one_command_for_each_stage_gives_the_same_results(whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert run(workdir, TINY, stages="search") == 0
    assert not (workdir / "genotype.json").exists()
    assert run(workdir, TINY, stages="report") == 2
    assert "stage report needs select, which is not finished" in capsys.readouterr().err
    for name in ("metrics.jsonl", "decisions.jsonl"):  # as after a kill between a line and its checkpoint
        with (workdir / name).open("a") as file:
            file.write('{"stage": "sel')
    assert run(workdir, TINY, stages="select") == 0
    assert run(workdir, TINY, stages="report") == 0
    same_results(whole, workdir)


@pytest.mark.slow
def test_a_second_process_on_the_same_directory_is_refused(tmp_path):
    keys = {**CELL, "search.epochs": 30}  # long enough that the second process finds it running
    first = subprocess.Popen(command(tmp_path / "run", keys), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "run.json").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.01)
    second = subprocess.run(command(tmp_path / "run", keys), capture_output=True, text=True)
    first.kill()
    first.wait()
    assert second.returncode == 1 and f"in use by process {first.pid} on " in second.stderr
    assert run(tmp_path / "run", keys, stages="search") == 0, "the lock of a dead process keeps nobody out"


@pytest.mark.slow
def test_work_that_another_process_did_meanwhile_is_not_repeated(tmp_path, monkeypatch):
    from darts_pt_jax.experiments.engine import execute as module

    load = module.load_images

    def slowly(*args):
        monkeypatch.setattr(module, "load_images", load)
        assert run(tmp_path / "run", CELL, stages="search") == 0, "the other process"
        return load(*args)

    monkeypatch.setattr(module, "load_images", slowly)
    assert run(tmp_path / "run", CELL) == 0
    assert [m["epoch"] for m in lines(tmp_path / "run", "metrics.jsonl") if m["stage"] == "search"] == [1, 2]
    assert run(tmp_path / "whole", CELL) == 0
    same_results(tmp_path / "run", tmp_path / "whole")


def test_a_snapshot_of_an_aborted_start_with_another_config_is_not_kept(tmp_path, monkeypatch):
    keys = {**CELL, "search.epochs": 1, "stages": "search"}
    with monkeypatch.context() as patch:  # interrupted between the snapshot and the checkpoint of the only epoch
        patch.setattr("darts_pt_jax.experiments.engine.run.Run.say", lambda self, values: 1 / 0)
        assert run(tmp_path / "run", keys, **{"search.learning_rate": 0.2}) == 1
    assert run(tmp_path / "run", keys) == 0 and run(tmp_path / "clean", keys) == 0
    kept, clean = (Checkpoints(tmp_path / name / "snapshots", read_only=True).arrays(1) for name in ("run", "clean"))
    assert all(np.array_equal(kept[name], clean[name]) for name in clean)


def test_an_unknown_operation_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    space = dataclasses.replace(SPACES["s2"], cells={"normal": dag(2, 2, ("skip_conect",))})
    monkeypatch.setitem(SPACES, "mine", space)
    assert run(tmp_path / "run", TINY, space="mine") == 2
    assert "'skip_conect', which is no operation: did you mean skip_connect?" in capsys.readouterr().err


def test_lost_checkpoints_do_not_restart_the_run(tmp_path, capsys):
    assert run(tmp_path / "run", CELL, stages="search") == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert run(tmp_path / "run", CELL, stages="search") == 1
    assert "has records but no checkpoint" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_the_alphas_move_only_if_they_are_learned(tmp_path):
    weights = {}
    for alpha in ("learned", "fixed"):
        assert run(tmp_path / alpha, TINY, **{"search.alpha": alpha, "stages": "search"}) == 0
        weights[alpha] = [m["edge_weights"] for m in lines(tmp_path / alpha, "metrics.jsonl")]
    assert weights["fixed"][0] == weights["fixed"][1] and weights["learned"][0] != weights["learned"][1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--config.search.epocs=2"], "unknown key search.epocs: did you mean search.epochs?"),
        (["--config.epochs=2"], "unknown key epochs: did you mean search.epochs?"),
        (
            ["--config.xyzzy=2"],
            "unknown key xyzzy: the keys are checkpoint.keep, checkpoint.minutes, checkpoint.snapshots",
        ),
        (["--config.search.epochs=two"], "search.epochs is 'two', expected a whole number, such as 50"),
        (["--config.search.epochs=2.5"], "search.epochs is '2.5', expected a whole number, such as 50"),
        (["--config.search=2"], "search is a section: set one of its keys search.alpha, "),
        (["--config.select.augment=maybe"], "select.augment is 'maybe', expected True or False"),
        (["--config.search.epochs=0"], "search.epochs is 0, expected at least 1"),
        (["--config.search.learning_rate=-1"], "search.learning_rate is -1.0, expected more than 0"),
        (["--config.search.learning_rate=nan"], "search.learning_rate is nan, expected more than 0"),
        (["--config.search.learning_rate=1e-4"], "search.learning_rate_min is 0.001, more than search.learning_rate"),
        (["--config.space=dart"], "space is 'dart', expected one of darts, darts_none, s1"),
        (["--config.stages=select,search"], "stages is 'select,search', expected some of search,select,retrain,report"),
        (["--config.select.order=normal:1"], "select.order: got 'normal:1'"),
        (["--config.select.method=magnitude", "--config.search.alpha=fixed"], "select.method is 'magnitude', but"),
        (
            ["--config.select.strategy=first_order"],
            "select.strategy is 'first_order', which follows the slope of the loss",
        ),
        (
            ["--config.select.strategy=first_order", "--config.select.criterion=loss", "--config.select.order=certain"],
            "select.order='certain' needs standard errors, which 'first_order' does not give",
        ),
        (["--config.supernet.cells=1", "--config.space=darts"], "supernet.cells is 1, too few for a normal cell"),
        (["--config.checkpoint.snapshots=(3000,)"], "checkpoint.snapshots names epoch 3000, but search.epochs is"),
        (
            ["--config.seed=4294967295", "--config.select.orders=2"],
            "select.orders is 2, which leads to the seed 4294967296",
        ),
        (
            ["--config.space=nasbench201", "--config.select.method=random", "--config.select.none_is_candidate=False"],
            "select.none_is_candidate=False is for perturbation",
        ),
        (["--config.data.mean=(0.5,)"], "data.mean and data.std are given together"),
        (["--config.data.mean=(0.5,0.5)", "--config.data.std=(1.0,1.0)"], "data.mean and data.std need one number"),
        (["--config.report.nasbench201=nowhere.npz"], "report.nasbench201 names a table, but"),
        (["--config.space=nasbench201", "--config.report.nasbench201=nowhere.npz"], "nowhere.npz: no such file"),
        (["--config.space=nasbench201", "--config.report.nasbench201=README.md"], "README.md: not a table"),
        (["--config.checkpoint.snapshots=(1.5,)"], "checkpoint.snapshots is [1.5], expected whole numbers"),
        (["--noconfig.select.agument"], "unknown key select.agument: did you mean select.augment?"),
        (["--config.selct.xyz=2"], "unknown key selct.xyz: did you mean select?"),
        ([f"--config.seed={'9' * 400}"], "seed is 999"),
        (["--config.data.source=npz", "--config.data.path=two\nlines"], "two lines: no such file"),
        (["--config.data.source=npz"], "data.path is empty"),
        (
            ["--config.data.path=mine.npz"],
            "data.path is given, but data.source is 'digits': add --config.data.source=npz",
        ),
        (["--config.data.size=3"], "images are 3x3, too small for 2 reductions: expected at least 4x4"),
        (["--config.search.batch_size=800"], "search.batch_size is 800, but a part of the training set has 718"),
        (["--config.select.images=20"], "select.images is 20, expected 0 or from search.batch_size (32) to 719"),
        (["--confg=2"], "unknown option --confg: did you mean --config?\n"),
        (["--search.epochs=2"], "unknown option --search.epochs: did you mean --config.search.epochs?\n"),
        (["--epochs=2"], "unknown option --epochs: keys look like --config.search.epochs=2\n"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_a_wrong_setting_stops_before_any_work(changed, message, tmp_path, capsys):
    assert main.main([*arguments(tmp_path / "run"), *changed]) == 2
    output = capsys.readouterr()
    assert message in output.err and output.err.count("\n") == 1 and output.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [([], "--config is missing"), (["--config=configs/quikstart.py"], "did you mean configs/quickstart.py?")],
)
def test_a_missing_config_is_one_line(argv, message):
    done = subprocess.run([sys.executable, "-m", "experiments.main", *argv], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr


def test_help_names_the_configs_and_the_keys(capsys):
    with pytest.raises(SystemExit) as done:
        main.main(["main", "--help"])
    output = capsys.readouterr().out
    assert done.value.code == 0
    assert "quickstart.py" in output and "--config.search.epochs=50" in output and "--workdir=DIR" in output


def test_a_failing_run_exits_with_one_line(tmp_path, capsys):
    assert run(tmp_path / "run", CELL, **{"search.learning_rate": 1e30}) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "search epoch" in error and "lower search.learning_rate" in error
    assert run(tmp_path / "run", CELL, stages="search") == 0, (
        "nothing was done yet, so the corrected config is accepted"
    )
    assert run(tmp_path / "new", CELL, stages="select") == 2
    assert "stage select needs search, which is not finished" in capsys.readouterr().err


def limited(kilobytes, workdir, keys):
    """Runs the command in a small address space, so that memory really runs out."""
    shell = ["taskset", "-c", "0-1", "bash", "-c", f'ulimit -v {kilobytes}; exec "$@"', "bash"]
    environment = {**os.environ, "XLA_FLAGS": ""}  # unoptimised code takes minutes on larger images
    return subprocess.run([*shell, *command(workdir, keys)], capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space of a process")
def test_out_of_memory_in_training_names_the_key_to_lower(tmp_path):
    keys = {**CELL, "data.size": 128, "data.examples": 300, "search.batch_size": 128, "supernet.channels": 64}
    del keys["select.images"]
    done = limited(8_000_000, tmp_path / "run", keys)
    assert done.stderr == "error: search epoch 1/2: out of memory: lower search.batch_size, now 128\n"
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space of a process")
def test_out_of_memory_in_scoring_names_a_key_that_may_still_be_lowered(tmp_path):
    keys = {
        **CELL, "data.size": 24, "data.examples": 260, "search.batch_size": 128, "supernet.channels": 64,
        "search.epochs": 1, "select.interval": 0, "select.images": 128,
    }  # fmt: skip
    assert limited("unlimited", tmp_path / "run", {**keys, "stages": "search"}).returncode == 0
    done = limited(2_700_000, tmp_path / "run", keys)
    message = "select decision 1/6: out of memory: lower select.mask_batch, now 0 (all removals of an edge)"
    assert done.stderr == f"error: {message}\n" and done.returncode == 1
    assert limited("unlimited", tmp_path / "run", {**keys, "select.mask_batch": 1}).returncode == 0
    assert len(lines(tmp_path / "run", "decisions.jsonl")) == 6


def test_the_method_is_fixed_once_the_selection_has_begun(tmp_path, monkeypatch):
    """The unit `begin` resets the weights' momentum or keeps it, depending on the method."""
    from darts_pt_jax.experiments.config import schema, settings
    from darts_pt_jax.experiments.engine import directory, execute
    from darts_pt_jax.experiments.stages.pipeline import pipeline

    def progress(units, **keys):
        monkeypatch.setattr(directory, "position", lambda _: {**directory.beginning(), "units": units})
        asked = settings.parse(arguments(tmp_path / "run", **{**CELL, **keys}))
        return execute.progress(asked, pipeline(asked.config))[1]

    config = settings.parse(arguments(tmp_path / "run", **CELL)).config
    (tmp_path / "run").mkdir()
    record.write_text(tmp_path / "run" / "run.json", record.sealed({**stamp(), "config": schema.flatten(config)}))
    for keys in ({"select.method": "random"}, {"select.mask_batch": 1}):
        assert progress(2, **keys) == 2, "the search is done"
    assert progress(3, **{"select.mask_batch": 1}) == 3
    with pytest.raises(ConfigError, match=r"select.method was 'perturbation' and is 'random'"):
        progress(3, **{"select.method": "random"})
    with pytest.raises(ConfigError, match=r"select.mask_batch was 0 and is 1"):
        progress(4, **{"select.mask_batch": 1})


def test_a_workdir_that_cannot_be_used_is_one_line(tmp_path, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, code, message in [
        ("link", 2, f"--workdir {tmp_path}/link is a link to {tmp_path}/gone, which does not exist"),
        ("link/run", 1, f"{tmp_path}/link/run: cannot write: "),
        ("\udcff", 2, "has bytes that are no UTF-8: name another directory"),  # the byte 0xff, as Python reads it
    ]:
        assert run(tmp_path / name, CELL) == code
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_file_system_without_flock_holds_runs(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("fcntl.flock", flock)
    keys = {**CELL, "stages": "search"}
    assert run(tmp_path / "run", keys) == 0 and not (tmp_path / "run" / "lock.held").exists()
    with locks.locked(tmp_path / "run" / "lock"):
        assert run(tmp_path / "run", keys) == 1
    assert f"{tmp_path}/run is in use by process {os.getpid()} on " in capsys.readouterr().err


def test_a_directory_that_holds_no_run_is_not_changed(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("precious")
    assert run(tmp_path, CELL) == 2
    assert "holds something other than a run" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_images_are_refused(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        images, labels = rng.integers(0, 256, (200, 8, 8, 1)).astype(np.uint8), np.arange(200) % 3
        np.savez(
            tmp_path / f"{name}.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
        )
    keys = {**CELL, "data.source": "npz", "data.path": tmp_path / "a.npz", "stages": "search"}
    assert run(tmp_path / "run", keys) == 0
    assert run(tmp_path / "run", {**keys, "stages": "search,select", "data.path": tmp_path / "b.npz"}) == 2
    assert "the images are not those" in capsys.readouterr().err


def test_plan_counts_and_does_nothing(tmp_path, capsys):
    assert main.main([*arguments(tmp_path / "run", **{"search.epochs": 20}), "--plan"]) == 0
    output = capsys.readouterr().out
    for text in ("0 of 73 units", "718 images for weights, 719 for alphas", "20 epochs, 440 steps of 32 images",
                 "34 decisions on 704 images", "17 tuning epochs of 22 steps", "memory", "disk"):  # fmt: skip
        assert text in output
    assert not (tmp_path / "run").exists()
    certain = {**CELL, "search.epochs": 1, "select.order": "certain", "select.race": 0.9}
    assert main.main([*arguments(tmp_path / "run", **certain), "--plan"]) == 0
    words = "6 decisions by at most 21 scorings on at most 64 images each, at most 11 tuning epochs"
    assert words in capsys.readouterr().out
    small = arguments(tmp_path / "run", **{**CELL, "search.epochs": 1})
    assert main.main([*small, "--plan"]) == 0
    output = capsys.readouterr().out
    assert "cell, 1 cell, " in output and "search         1 epoch, 2 steps of 32 images" in output
    assert re.search(r"disk           about \d+ kB \(4 checkpoints of \d+ kB\)", output)
    assert main.main([*small, "--config.select.images=20", "--plan"]) == 2
    assert capsys.readouterr().out == "", "what would be refused has no plan"


def test_snapshots_are_kept_for_good(tmp_path):
    assert run(tmp_path / "run", CELL, **{"search.epochs": 4, "checkpoint.snapshots": "(1,2)", "stages": "search"}) == 0
    names = sorted(p.name for p in pathlib.Path(tmp_path / "run" / "snapshots").iterdir())
    assert names == ["1", "2", "4"]


@pytest.mark.slow
@pytest.mark.skipif("DARTS_PT_CIFAR10" not in os.environ, reason="DARTS_PT_CIFAR10 names no npz of CIFAR-10")
def test_nasbench201_on_cifar10_with_its_table(tmp_path):
    keys = {
        "data.path": os.environ["DARTS_PT_CIFAR10"], "data.size": 8, "data.examples": 2000, "supernet.channels": 4,
        "search.epochs": 1, "select.images": 256, "eval.images": 256,
    }  # fmt: skip
    if table := os.environ.get("DARTS_PT_NB201"):
        keys["report.nasbench201"] = table
    argv = arguments(tmp_path / "run", **keys)
    argv[1] = "--config=configs/nasbench201_c10_small.py"
    assert main.main(argv) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert ("rank of 15,625" in report) == bool(table)
    assert [len(d["candidates"]) for d in lines(tmp_path / "run", "decisions.jsonl")] == [5] * 6


def test_other_devices_are_noted_with_a_warning(tmp_path, monkeypatch, capsys):
    from darts_pt_jax.experiments.engine import directory

    assert run(tmp_path / "run", CELL, stages="search") == 0
    assert "warning" not in capsys.readouterr().out
    monkeypatch.setattr(Devices, "__str__", lambda _: "8 of another kind")
    assert run(tmp_path / "run", CELL, stages="search,select") == 0
    assert "and continues on 8 of another kind" in capsys.readouterr().out
    assert directory.stored(tmp_path / "run")["devices"][1:] == ["8 of another kind"]

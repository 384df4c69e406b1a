"""Run directories of other formats: an earlier one is read, and not continued; a newer one is refused."""

import json
import shutil

import pytest

from darts_pt_jax import __version__, record
from darts_pt_jax.experiments import report
from darts_pt_jax.experiments.analysis import __main__ as analysis
from darts_pt_jax.experiments.config.versions import FORMAT
from tests.command import CELL, REPORTED, run

pytestmark = pytest.mark.usefixtures("one_training")
RANDOM = {**CELL, **REPORTED, "search.epochs": 1, "select.method": "random", "tensorboard": False}
RETRAIN = {"retrain.cells": 1, "retrain.epochs": 1, "retrain.auxiliary": 0.0, "retrain.batch_size": 20}


def rewritten(workdir, change):
    content = json.loads((workdir / "run.json").read_text())
    del content["sha256"]
    change(content)
    (workdir / "run.json").write_text(record.sealed(content))


def earlier(content):
    """run.json as version 0.1.0 wrote it."""
    del content["format"], content["version"]
    config = content["config"]
    for key in ("plugins", "select.strategy", "search.alpha_regulariser", "search.alpha_regulariser_weight"):
        del config[key]
    config["search.perturb"] = {"darts": "none", "sdarts_rs": "uniform"}[config.pop("search.sampler")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert run(workdir, RANDOM) == 0
    content = json.loads((workdir / "run.json").read_text())
    assert (content["format"], content["version"]) == (FORMAT, __version__)
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.xdist_group("versions")
def test_a_finished_run_of_an_earlier_format_is_read(copy, tmp_path, capsys):
    rewritten(copy, earlier)
    before = (copy / "run.json").read_bytes()
    assert run(copy, RANDOM) == 0
    assert "the results are in" in capsys.readouterr().out and (copy / "run.json").read_bytes() == before
    assert report.main([str(copy)]) == 0
    assert run(copy, RANDOM, **{"search.perturb": "uniform", "search.gradients": "separate"}) == 2
    assert "search.sampler was 'darts' and is 'sdarts_rs'" in capsys.readouterr().err
    assert run(tmp_path / "other", RANDOM, init_from=copy, stages="select,report") == 0
    assert run(copy, RANDOM, stages="retrain,report", **RETRAIN) == 0
    assert (copy / "retrained.json").exists()


@pytest.mark.xdist_group("versions")
def test_the_page_of_an_earlier_format_shows_the_keys_of_today(copy):
    def perturbed(content):
        earlier(content)
        content["config"]["search.perturb"] = "uniform"

    rewritten(copy, perturbed)
    assert report.main([str(copy)]) == 0
    page = (copy / "report.html").read_text()
    assert "sdarts_rs" in page and "search.sampler" in page and "search.perturb" not in page


@pytest.mark.xdist_group("versions")
def test_an_unfinished_run_of_an_earlier_format_is_not_continued(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert run(workdir, RANDOM, stages="search") == 0
    rewritten(workdir, earlier)
    before = (workdir / "run.json").read_bytes()
    capsys.readouterr()
    assert run(workdir, RANDOM) == 2
    assert capsys.readouterr().err == (
        f"error: {workdir} was begun by an earlier version (format 1): finish it with darts-pt-jax 0.1.0, or name a new "
        "--workdir\n"
    )
    assert (workdir / "run.json").read_bytes() == before
    assert report.main([str(workdir)]) == 0


@pytest.mark.xdist_group("versions")
def test_a_run_of_a_newer_format_is_refused_with_its_version(copy, tmp_path, capsys):
    rewritten(copy, lambda content: content.update(format=FORMAT + 1, version="9.8.7"))
    capsys.readouterr()
    for command in (
        lambda: run(copy, RANDOM),
        lambda: run(tmp_path / "other", RANDOM, init_from=copy, stages="select"),
        lambda: report.main([str(copy)]),
        lambda: analysis.main(["cells", "--run", str(copy), "--out", str(tmp_path / "cells")]),
    ):
        assert command() == 2
        said = capsys.readouterr().err
        assert f"is of format {FORMAT + 1}, written by darts-pt-jax 9.8.7; this is {__version__}" in said
        assert said.count("\n") == 1

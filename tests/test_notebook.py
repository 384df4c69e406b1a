"""The notebook for Colab: a kernel executes all cells, on eight devices (`make soak`: also on one); a failure stops it."""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
from importlib import metadata

import nbclient
import nbformat
import numpy as np
import pytest

from darts_pt_jax.data import images, official, sources
from tests import project
from tests.command import SOAK, lines

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/colab_tpu.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def repository(tmp_path):
    """A repository with this checkout, to clone."""
    folder = tmp_path / "repository"
    for name in ("benchmarks", "configs", "darts_pt_jax", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message=as it is"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return str(folder)


@pytest.fixture
def environment(tmp_path):
    """A Python environment for installations; it finds its own packages first, then those of the tests."""
    return project.environment(tmp_path / "environment")


@pytest.fixture
def execute(notebook, repository, environment, tmp_path, monkeypatch):
    """`execute(devices, **parameters)` executes all cells, with a cell of parameters after the tagged one.

    Outputs stay in `notebook`, even if a cell fails. pip finds everything in this environment and may not use an index.
    """
    kernel = tmp_path / "JUPYTER_PATH/kernels/here"
    kernel.mkdir(parents=True)
    spec = {"display_name": "here", "language": "python"}
    spec["argv"] = [str(tmp_path / "environment/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec["env"] = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false"}  # pip means: --build-isolation is false
    spec["env"]["JAX_PLATFORMS"] = "cpu"
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def all_cells(devices=1, **parameters):
        spec["env"]["XLA_FLAGS"] = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        (kernel / "kernel.json").write_text(json.dumps(spec))
        parameters = {"REPOSITORY": repository, "DRIVE": str(tmp_path / "drive"), **parameters}
        (tagged,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
        given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(tagged + 1, nbformat.v4.new_code_cell(given))
        (tmp_path / "content").mkdir()
        where = {"metadata": {"path": str(tmp_path / "content")}}
        nbclient.NotebookClient(notebook, kernel_name="here", resources=where, timeout=300).execute()

    return all_cells


def said(notebook, name):
    """The text output of a cell."""
    (cell,) = (cell for cell in notebook.cells if cell.id == name)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [8, 1] if SOAK else [8])
def test_all_cells_run(notebook, execute, devices, tmp_path):
    digits = sources.digits()
    np.savez(tmp_path / "small.npz", **{name: getattr(digits, name) for name in images.ARRAYS})
    execute(
        devices,
        DATA=str(tmp_path / "small.npz"),
        QUICKSTART=project.SMALL,
        SEARCH=[*project.SMALL, "--config.search.epochs=5"],
    )
    checkout, run = tmp_path / "content/darts-pt-jax", tmp_path / "drive/search"
    assert f"jax=={metadata.version('jax')}" in said(notebook, "install").split()
    assert f"sees {devices} x cpu\nWARNING: that is only the CPU" in said(notebook, "devices")
    assert "this is not Colab" in said(notebook, "drive")
    for folder, epochs in (checkout / "runs/quickstart-seed0", [1]), (run, [1, 2, 3, 4, 5]):
        assert json.loads((folder / "run.json").read_text())["devices"] == [f"{devices} cpu"]
        assert [m["epoch"] for m in lines(folder, "metrics.jsonl") if m["stage"] == "search"] == epochs
        assert (folder / "genotype.json").exists()
    stopped, went_on = said(notebook, "search"), said(notebook, "continue")
    assert "stopped by SIGTERM in search epoch" in stopped and "select" not in stopped
    assert f"continuing {run} after " in went_on and "search epoch 1/" not in went_on
    markdown, page = (output.data for cell in notebook.cells if cell.id == "report" for output in cell.outputs)
    assert markdown["text/markdown"] == (run / "report.md").read_text()
    framed = (run / "report.html").read_text().replace("<head>", '<head><base href="about:srcdoc">', 1)
    assert f'srcdoc="{html.escape(framed)}"' in page["text/html"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "parameters", "message"),
    [
        ("drive", {"REPOSITORY": ""}, "REPOSITORY is empty: set it in the first cell"),
        ("clone", {"REPOSITORY": "/nowhere"}, "exit code 128 of git clone"),
        ("quickstart", {"QUICKSTART": ["--config.search.epoch=1"]}, "exit code 2 of .* --config.search.epoch=1$"),
    ],
)
def test_a_failure_stops_the_notebook(notebook, execute, cell, parameters, message):
    with pytest.raises(nbclient.exceptions.CellExecutionError) as error:
        execute(**parameters)
    assert re.search(message, error.value.evalue)
    (failed,) = (i for i, one in enumerate(notebook.cells) if one.id == cell)
    assert [i for i, one in enumerate(notebook.cells) if one.get("execution_count")][-1] == failed


@pytest.mark.slow
def test_a_jax_that_is_too_old_stays_and_is_named(notebook, execute, environment):
    (environment / "jax-0.4.33.dist-info").mkdir()
    (environment / "jax-0.4.33.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.4.33\n")
    with pytest.raises(nbclient.exceptions.CellExecutionError) as error:
        execute()
    assert re.search("It keeps .*'jax==0.4.33'.*: if that is too old, choose a newer runtime", error.value.evalue)
    assert "jax>=0.10" in said(notebook, "install")


def test_it_downloads_the_archive_that_prepare_expects(notebook):
    release = official.RELEASES["cifar10"][0]
    (archive,) = release.checksums
    assert any(f'"{release.url}{archive}"' in cell.source for cell in notebook.cells)

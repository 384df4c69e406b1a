"""The wheel: what it installs, and that its scripts run the quickstart outside a checkout."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import project
from tests.command import lines


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    shutil.copytree(
        project.ROOT / "darts_pt_jax", source / "darts_pt_jax", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(project.ROOT / name, source)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            folder,
            source,
        ],
        check=True,
    )
    (file,) = folder.glob("*.whl")
    return file


def test_a_wheel_has_one_package_with_the_configs_and_the_page(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name.removesuffix(".dist-info") for name in top} == {"darts_pt_jax", wheel.name.rpartition("-py3")[0]}
    files = {file for file in project.ROOT.joinpath("darts_pt_jax").rglob("*") if file.is_file()}
    files = {file.relative_to(project.ROOT).as_posix() for file in files if "__pycache__" not in file.parts}
    assert files <= set(names), "a file of the package is not installed"


@pytest.mark.slow
def test_its_scripts_run_the_quickstart_outside_a_checkout(wheel, tmp_path):
    packages = project.environment(tmp_path / "environment")
    programs = tmp_path / "environment/bin"
    pip = [
        sys.executable,
        "-m",
        "pip",
        f"--python={programs / 'python'}",
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
    ]
    subprocess.run([*pip, wheel], check=True)
    assert (packages / "darts_pt_jax").is_dir()

    def script(name: str, *arguments: str, code: int = 0) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(programs / name), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "darts-pt --config=configs/NAME.py" in script("darts-pt", "--help")
    said = script(
        "darts-pt",
        "--config=configs/quickstart.py",
        *project.SMALL,
        "--config.select.method=magnitude",
        "--config.search.alpha=learned",
    )
    run = pathlib.Path("runs/quickstart-seed0")
    assert str(run) in said and (tmp_path / run / "report.html").is_file()
    assert lines(tmp_path / run, "metrics.jsonl")[0]["epoch"] == 1
    assert (tmp_path / run / "genotype.txt").is_file()
    refused = script("darts-pt", "--config=configs/quickstart.py", "--config.wandb=True", code=2)
    assert refused == "error: wandb is True, but its package is missing: pip install 'darts-pt-jax[wandb]'\n"
    assert "usage: darts-pt-report" in script("darts-pt-report", "--help")
    assert script("darts-pt", "report", str(run)) == script("darts-pt-report", str(run))

"""The documentation: README stays short, the site builds without a warning and loads nothing from elsewhere, notebooks."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from tests.project import ROOT

FROM_ELSEWHERE = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//"""
)


def test_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "tutorial.html", "reference/commands.html", "reference/api.html"} <= set(pages)
    assert "output_" in pages["tutorial.html"], "the pictures of an executed notebook"
    loaded = [*pages.items(), *((path.name, path.read_text()) for path in tmp_path.rglob("*.css"))]
    assert not [name for name, text in loaded if FROM_ELSEWHERE.search(text)]


@pytest.mark.parametrize("name", ["colab_tpu", "tutorial"])
def test_a_notebook_is_stored_formatted_and_without_outputs(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    for command in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *command, path], cwd=ROOT, check=True)

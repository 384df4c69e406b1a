"""The public names of `darts_pt_jax`, and the example that uses nothing else."""

import ast
import pathlib
import re
import runpy
import subprocess
import sys
import tomllib

import darts_pt_jax
from darts_pt_jax.genotype import Genotype

ROOT = pathlib.Path(__file__).parents[1]


def test_every_public_name_is_there_documented_and_seen_by_type_checkers():
    (block,) = (
        node for node in ast.parse((ROOT / "darts_pt_jax/__init__.py").read_text()).body if isinstance(node, ast.If)
    )
    typed = {name.name: node.module for node in block.body for name in node.names}
    assert typed == {name: f"darts_pt_jax.{module}" for name, module in darts_pt_jax._MODULE_OF.items()}
    assert set(darts_pt_jax.__all__) == {"__version__", *typed} <= set(dir(darts_pt_jax))
    assert len(darts_pt_jax.__all__) == len(set(darts_pt_jax.__all__))
    everything = {}
    exec("from darts_pt_jax import *", everything)
    for name in darts_pt_jax.__all__:
        value = everything[name]
        assert isinstance(value, dict | str) or value.__doc__.strip(), name


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(darts_pt_jax, "nothing")


def test_what_needs_no_jax_imports_none():
    program = (
        "import sys, darts_pt_jax.genotype, darts_pt_jax.spaces, darts_pt_jax.record; print(darts_pt_jax.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + "; assert not {'jax', 'flax'} & set(sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == darts_pt_jax.__version__


def test_the_version_is_written_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", darts_pt_jax.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "darts_pt_jax.__version__"}


def test_the_example_uses_public_names_alone_and_selects(capsys):
    path = ROOT / "examples/in_python.py"
    imported = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {name.name for node in imported for name in node.names} == {"jax", "numpy", "darts_pt_jax"}
    runpy.run_path(str(path))
    loss, text = capsys.readouterr().out.splitlines()
    assert float(loss.removeprefix("training loss ")) < 0.6
    assert len(Genotype.from_json(text).operations("normal")) == 3

"""The records of a run: what reading them imports, and what is counted in cells whose kinds have names of their own."""

import json
import subprocess
import sys

import pytest

from configs import common
from darts_pt_jax import record
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES, SearchSpace, dag
from experiments.config.schema import flatten
from experiments.reporting import decisions, measures, records, summary
from experiments.reporting.records import RunRecords

WITHOUT_PARAMETERS = ("skip_connect", "avg_pool_3x3")
RENAMED = SearchSpace(
    name="renamed",
    cells={"flat": dag(2, 1, WITHOUT_PARAMETERS), "shrink": dag(2, 1, WITHOUT_PARAMETERS, reduction=True)},
    layout=lambda cells: ("flat", "shrink") * cells,
    notation="json",
)
"""A space whose reduction cell is not called "reduce"."""


@pytest.fixture
def finished(tmp_path):
    """A finished run of NAS-Bench-201, as far as its records say."""
    config = {**flatten(common.get_config()), "space": "nasbench201", "search.epochs": 1}
    weights = {"normal": [[0.1, 0.2, 0.3, 0.4, 0.0]] * 6}
    line = {"stage": "search", "epoch": 1, "valid_accuracy": 50.0, "edge_weights": weights}
    record.write_text(tmp_path / "run.json", record.sealed({"config": config}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    arch = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    (tmp_path / "genotype.json").write_text(Genotype.from_text(arch).to_json())
    return tmp_path


def test_reading_a_run_imports_neither_jax_nor_the_engine(finished):
    program = f"""
import pathlib, sys
import experiments.reporting.records as records

config = records.config_of(records.read_run(pathlib.Path({str(finished)!r})))
found = records.RunRecords.read(pathlib.Path({str(finished)!r}), config)
print(*(genotype.text("nasbench201") for genotype in found.architectures(config).values()))
print(*records.command(found))
found.phases()
print([name for name in sys.modules if name == "jax" or name.startswith("experiments.engine")])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    chosen, command, imported = said.splitlines()
    third = SPACES["nasbench201"].cells["normal"].edges[0].candidates[3]
    assert chosen.split()[1] == f"|{third}~0|+|{third}~0|{third}~1|+|{third}~0|{third}~1|{third}~2|"
    assert "--config.space=nasbench201" in command and imported == "[]"


def test_magnitude_from_records_is_that_of_the_stage(rng):
    for name in ("s2", "s3", "darts_none", "nasbench201"):
        space = SPACES[name]
        lists = {
            kind: [rng.dirichlet([1] * len(edge.candidates)).tolist() for edge in graph.edges]
            for kind, graph in space.cells.items()
        }
        weights = records.spaces.from_lists(lists, space)
        expected = direct.magnitude(space, weights, None).genotype(space)
        assert records.magnitude_genotype(space, lists) == expected


@pytest.fixture
def renamed(monkeypatch):
    monkeypatch.setitem(SPACES, "renamed", RENAMED)
    config = common.get_config()
    config.space = "renamed"
    node = (("skip_connect", 0), ("avg_pool_3x3", 1))
    genotype = Genotype({"flat": (node,), "shrink": (node,)}, {"flat": (2,), "shrink": (2,)})
    return config, genotype


def test_a_reduction_cell_is_one_by_its_graph_and_not_by_its_name(renamed):
    config, genotype = renamed
    values = measures.measure(config, RunRecords([], [], [], [genotype], {}, None))
    assert values == {"operations without parameters, flat cell": 2}
    text = "\n".join(summary._operations(RENAMED, {"perturbation": genotype}))
    assert text.count("*without parameters*") == 1 and "| flat | *without parameters* | 2 |" in text
    config.genotype = "a file"  # then there is no space, and the network reduces in "reduce"
    given = Genotype(
        {"normal": genotype.cells["flat"], "reduce": genotype.cells["flat"]}, {"normal": (2,), "reduce": (2,)}
    )
    assert list(measures.measure(config, RunRecords([], [], [], [given], {}, None))) == [
        "operations without parameters, normal cell"
    ]


@pytest.mark.parametrize(("method", "pairs"), [("perturbation", 14 + 4 - 1), ("sgas", 8)])
def test_how_many_decisions_a_run_takes(method, pairs):
    """Of a kind: one for each edge and for each node with more than two inputs; of SGAS, two for each node."""
    taken = [{"pruned": []}] if method == "sgas" else [{}]
    assert decisions.in_all(SPACES["s3"], 1, taken) == 2 * pairs
    assert decisions.in_all(SPACES["s3"], 3, taken) == 6 * pairs

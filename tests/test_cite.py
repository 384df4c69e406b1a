"""`python -m experiments.cite`: what a run used, as BibTeX."""

import json
import re
import subprocess
import sys

import pytest

from darts_pt_jax.experiments import cite
from darts_pt_jax.experiments.config.schema import KEYS, Config, flatten
from darts_pt_jax.experiments.reporting import citations

CITED = citations.SPACE | citations.SEARCH | citations.SELECTION | citations.DATA


@pytest.fixture
def cited(tmp_path, capsys):
    """`cited(**keys)` is what the command prints for a run of these settings."""

    def of(**keys):
        (tmp_path / "run.json").write_text(json.dumps({"format": 2, "config": flatten(Config().changed(keys))}))
        assert cite.main([str(tmp_path)]) == 0
        return capsys.readouterr().out

    return of


def names(text):
    return re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)


def test_a_run_cites_what_its_config_names(cited):
    keys = {"space": "s2", "search.sampler": "drnas", "search.alpha_regulariser": "beta_decay", "select.race": 0.95}
    assert names(cited(**keys, **{"data.source": "npz"})) == [
        "darts_pt_jax", "wang2021rethinking", "liu2019darts", "zela2020understanding", "chen2021drnas", "ye2022betadarts",
        "waudbysmith2020confidence",
    ]  # fmt: skip


def test_a_retrained_genotype_cites_no_search(cited):
    said = names(cited(genotype="DARTS_V2", **{"search.sampler": "gdas", "data.source": "digits"}))
    assert said == ["darts_pt_jax", "wang2021rethinking", "liu2019darts", "alpaydin1998digits"]


def test_what_is_not_known_here_is_named(cited):
    said = cited(space="of_a_plugin", **{"data.source": "imagenet2012"})
    assert said.endswith("\n\n% space=of_a_plugin: cite its authors\n\n% data.source=imagenet2012: cite its authors\n")


def test_every_row_of_a_table_says_whom_to_cite():
    tables = {key: KEYS[key].rule.tables[0] for key in CITED}
    program = (  # a process without the rows of tests
        "import json, sys; from darts_pt_jax.experiments.config.key import table_named\n"
        "print(json.dumps({key: list(table_named(table)) for key, table in json.loads(sys.argv[1]).items()}))"
    )
    done = subprocess.run([sys.executable, "-c", program, json.dumps(tables)], capture_output=True, check=True)
    assert {key: set(rows) for key, rows in CITED.items()} == {
        key: set(rows) for key, rows in json.loads(done.stdout).items()
    }
    assert {name for rows in CITED.values() for name in rows.values()} - {""} <= citations._entries().keys()


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert cite.main([str(tmp_path)]) == 2
    assert f"{tmp_path}: not a run directory" in capsys.readouterr().err

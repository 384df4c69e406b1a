"""One entry for each key: default, rule, message, help, reference page, resume and comparison follow from it."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

from darts_pt_jax.configs import common
from darts_pt_jax.experiments.config import reference, schema, settings
from darts_pt_jax.experiments.config.schema import KEYS, Config
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.spaces import SPACES
from tests import project
from tests.project import ROOT


def parsed(*overrides, config="configs/quickstart.py"):
    return settings.parse(["main", f"--config={config}", *(f"--config.{override}" for override in overrides)]).config


def beginning(*names):
    return {key for key in KEYS if key.startswith(names)}


FREE = beginning(
    "stages", "plugins", "data.path", "data.dir", "data.download", "checkpoint.minutes", "checkpoint.keep", "report.",
    "tensorboard", "wandb", "compilation_cache", "debug_nans", "devices", "remat",
)  # fmt: skip
SEEDS = {"seed", "search.seed", "select.seed", "retrain.seed", "init_from"}


def test_what_follows_from_the_entries():
    assert schema.free_keys() == FREE
    assert schema.free_keys(["select", "retrain"]) == FREE | beginning("select.", "sgas.", "retrain.")
    shared = beginning("seed", "precision", "space", "data.", "supernet.", "search.", "curvature.")
    assert schema.of_supernet() == shared - FREE
    assert schema.compared() == KEYS.keys() - FREE - SEEDS
    undecided = beginning(
        "eval.", "checkpoint.", "search.gradients", "search.scan", "select.restrict_every", "select.mask_batch",
        "matmul_precision", "retrain.test_every",
    )  # fmt: skip
    assert schema.deciding() == KEYS.keys() - FREE - SEEDS - undecided - {"select.top"}
    unread = beginning(
        "stages", "init_", "select.", "sgas.", "checkpoint.", "report.", "retrain.", "tensorboard", "wandb"
    )
    unread -= {"select.criterion", "select.bn", "select.augment", "select.mask_batch"}
    assert schema.of_programs() == KEYS.keys() - unread


def test_every_entry_is_complete():
    for name, key in KEYS.items():
        assert key.name == name and key.words.endswith(".") and "\n" not in key.words, name
        assert key.rule.holds(key.default), name
        assert isinstance(key.default, tuple if key.type not in (bool, int, float, str) else key.type), name


def test_the_reference_page_is_current():
    command = [sys.executable, "-m", "darts_pt_jax.experiments.config.reference"]  # a process without the tests' spaces
    page = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    stored = (ROOT / "docs" / "reference" / "keys.md").read_text()
    assert stored == page, "python -m darts_pt_jax.experiments.config.reference > docs/reference/keys.md"


def test_the_words_of_a_key_name_the_rows_of_its_table():
    """--help does not read tables, since that imports jax."""
    program = """
from darts_pt_jax.experiments.config.schema import KEYS
tabled = [key for key in KEYS.values() if key.rule.tables]
print(len(tabled) > 5, [key.name for key in tabled if not all(str(name) in key.words for name in key.rule.names())])
"""  # in a process without the tests' spaces
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_help_has_every_key_with_its_default_and_words():
    text = " ".join(reference.help_text().split())
    for key in KEYS.values():
        assert f"--config.{key.name}={key.default} {' '.join(key.words.split())}" in text


def test_a_config_is_a_value():
    config = Config().changed({"search.epochs": 3, "data.mean": [0.5], "search.epsilon": 1, "space": "s2"})
    assert (config.search.epochs, config.data.mean, config.search.epsilon, config.space) == (3, (0.5,), 1.0, "s2")
    assert {config: 1}[pickle.loads(pickle.dumps(config))] == 1 and config != Config()
    assert schema.from_flat(schema.flatten(config)) == config == schema.frozen(changed_config_dict(config))
    assert schema.value(config, "search.epochs") == 3 and Config().search.epochs == 50
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.search.epochs = 4
    with pytest.raises(TypeError, match=r"search.epochs is 2.5, expected a whole number, such as 50"):
        config.changed({"search.epochs": 2.5})
    assert schema.KEYS["data.mean"].mismatch("x") == "data.mean is 'x', expected a tuple of numbers"
    assert all(key.mismatch(None).startswith(f"{key.name} is None, expected ") for key in schema.KEYS.values())


def changed_config_dict(config):
    made = common.get_config()
    made.update_from_flattened_dict(schema.not_default(config) | {"data.mean": config.data.mean})
    return made


def test_stored_values_are_read_whatever_the_version():
    config = schema.from_flat({"search.epochs": 3, "no.such_key": 1, "search.perturb": "gaussian"})
    assert (config.search.epochs, config.search.sampler, config.seed) == (3, "sdarts_rs_gaussian", 0)


def test_a_former_name_is_understood(tmp_path):
    overrides = ["search.perturb=uniform", "search.gradients=separate"]
    assert parsed(*overrides).search.sampler == "sdarts_rs"
    argv = ["main", "--config=configs/quickstart.py", "-config.search.perturb", "adversarial", *("--config.search.gradients", "separate")]  # fmt: skip
    assert settings.parse(argv).config.search.sampler == "sdarts_adv"
    file = tmp_path / "mine.py"
    file.write_text(
        "from darts_pt_jax.configs import common\ndef get_config():\n    config = common.get_config()\n"
        "    config.search.perturb = 'uniform'\n    return config\n"
    )
    assert parsed(config=file).search.sampler == "sdarts_rs"
    with pytest.raises(ConfigError, match=r"search.sampler is 'unifrom', expected one of darts, fixed, sdarts_rs"):
        parsed("search.perturb=unifrom")


def test_a_row_of_a_table_is_a_value_at_once(monkeypatch):
    with pytest.raises(ConfigError, match=r"space is 'another'"):
        parsed("space=another")
    monkeypatch.setitem(SPACES, "another", dataclasses.replace(SPACES["s1"], name="another"))
    assert parsed("space=another").space == "another"


ENTRY = 'warmth: float = key(0.5, NOT_NEGATIVE, "How warm the search is.")\n    '
USES = """
from darts_pt_jax.experiments.reporting import comparison

usual, warm = parsed(), parsed("--config.search.warmth=2")
assert (usual.config.search.warmth, warm.config.search.warmth) == (0.5, 2.0)
assert refused(parsed, "--config.search.warmth=-1") == "search.warmth is -1.0, expected at least 0"
assert refused(parsed, "--config.search.warmht=1") == "unknown key search.warmht: did you mean search.warmth?"
assert "  --config.search.warmth=0.5\\n      How warm the search is." in reference.help_text()
assert "| `search.warmth` | `0.5` | at least 0 | How warm the search is. | results |" in reference.page()
then = schema.flatten(usual.config)
said = refused(directory.refuse_changes, warm, then, schema.free_keys())
assert "search.warmth was 0.5 and is 2.0; set it back" in said, said
del then["search.warmth"]
assert refused(directory.refuse_changes, usual, then, schema.free_keys()) is None, "of a run before the key"
groups = comparison._groups({"usual": usual.config, "warm": warm.config})
assert [group.settings for group in groups] == ["search.warmth=0.5", "search.warmth=2.0"]
for keys in (schema.of_supernet(), schema.compared(), schema.deciding(), schema.of_programs()):
    assert "search.warmth" in keys
print("all follows")
"""


def test_a_new_key_is_one_entry(tmp_path):
    project.insert(project.copied(tmp_path) / "config" / "keys.py", "momentum: float = key(", ENTRY)
    done = project.executed(tmp_path, USES)
    assert done.stdout == "all follows\n", done.stderr


def test_the_schema_needs_no_jax():
    program = "import sys; from darts_pt_jax.experiments.config import schema; print(schema.Config().space, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "darts False\n"

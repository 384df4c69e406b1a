import importlib
import pathlib

import pytest

from configs import common
from experiments import settings

NAMES = sorted(p.stem for p in pathlib.Path("configs").glob("*.py") if p.stem not in ("__init__", "common"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_says_its_command(name):
    module = importlib.import_module(f"configs.{name}")
    settings.check(module.get_config())
    assert f"python -m experiments.main --config=configs/{name}.py" in module.__doc__


def test_every_key_has_a_rule():
    assert settings.RULES.keys() == settings.flatten(common.get_config()).keys()

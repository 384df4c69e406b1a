import importlib
import pathlib

import pytest

from configs import common
from experiments import main, rules

NAMES = sorted(p.stem for p in pathlib.Path("configs").glob("*.py") if p.stem not in ("__init__", "common"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_says_its_command(name):
    module = importlib.import_module(f"configs.{name}")
    rules.check(module.get_config())
    assert f"python -m experiments.main --config=configs/{name}.py" in module.__doc__


def test_every_key_has_a_rule():
    assert rules.RULES.keys() == rules.flatten(common.get_config()).keys()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.search.epochs = 2.5", "epochs"),
        ("config.search.epocs = 3", "unknown key search.epocs in the config file: did you mean search.epochs?"),
        ("del config.select.bn", "the config file lacks select.bn"),
        ("raise RuntimeError('own words')", "own words"),
    ],
)
def test_a_wrong_config_file_is_one_short_line(line, message, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from configs import common\ndef get_config():\n    config = common.get_config()\n    {line}\n    return config\n"
    )
    assert main.main(["main", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and len(error) < 300 and "Traceback" not in error

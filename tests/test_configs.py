import importlib
import itertools
import pathlib

import pytest

from darts_pt_jax.configs import common
from darts_pt_jax.experiments import main
from darts_pt_jax.experiments.config import rules, schema, settings
from tests.test_own_data import pictures_in

NAMES = sorted(p.stem for p in pathlib.Path("configs").glob("*.py") if p.stem not in ("__init__", "common"))
ARGUMENTS = {
    "methods_s3_small": [("darts", "sdarts_rs", "sgas", "fixed", *common.LATER)],
    "table2": [tuple(common.METHODS)],
    "table3": [("s1", "s2", "s3", "s4"), ("cifar10", "cifar100", "svhn"), ("darts", "darts_pt", "darts_pt_fixed")],
    "table4": [("darts", "nasbench201"), ("darts", "darts_pt", "darts_pt_fixed")],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_says_its_command(name, tmp_path):
    module = importlib.import_module(f"darts_pt_jax.configs.{name}")
    configs, allowed = [], ARGUMENTS.get(name, ())
    if name == "own_data":
        allowed = [(str(pictures_in(tmp_path)),), module.PRESETS]
    for parts in itertools.product(*allowed):
        configs.append(module.get_config(*[",".join(parts)] * bool(parts)))
        rules.check(schema.frozen(configs[-1]))
    assert len({config.to_json() for config in configs}) == len(configs)
    assert f"python -m experiments.main --config=configs/{name}.py" in module.__doc__


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("table2.py:sgass", "is 'sgass', expected one of darts darts_second_order darts_pt"),
        ("table3.py:s2,darts_pt", "expected one of s1 s2 s3 s4, then a comma and one of cifar10 cifar100 svhn"),
        ("table4.py", "is '', expected one of darts nasbench201"),
    ],
)
def test_a_wrong_argument_of_a_config_is_refused_with_the_allowed_ones(argument, message, tmp_path, capsys):
    assert main.main(["main", f"--config=configs/{argument}", f"--workdir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_config_s_argument_chooses_space_data_and_method(tmp_path):
    def asked(argument, *more):
        return settings.parse(["main", f"--config=configs/{argument}", *more])

    svhn = asked("table3.py:s2,svhn,darts_pt_fixed")
    assert (svhn.config.space, svhn.config.data.path, svhn.config.search.alpha) == (
        "s2",
        "data/svhn_cropped.npz",
        "fixed",
    )
    assert str(svhn.workdir) == "runs/table3-s2-svhn-darts_pt_fixed-seed0"
    greedy = asked("table2.py:sgas_pt", "--config.sgas.criterion=2").config
    assert (greedy.space, greedy.select.method, greedy.sgas.criterion) == ("darts_none", "sgas_perturbation", 2)
    assert asked("table4.py:nasbench201,darts").config.search.epochs == 100


def test_a_config_starts_from_the_defaults_of_all_keys():
    assert schema.flatten(common.get_config()) == schema.defaults() and schema.defaults().keys() == schema.KEYS.keys()


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
        f"from darts_pt_jax.configs import common\ndef get_config():\n    config = common.get_config()\n    {line}\n    return config\n"
    )
    assert main.main(["main", f"--config={file}", f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and len(error) < 300 and "Traceback" not in error

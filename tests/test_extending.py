"""docs/extending.md: every block is executed, and used in the smallest way."""

import json
import os
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import ops
from darts_pt_jax.data import sources
from darts_pt_jax.experiments import main, sweep
from darts_pt_jax.experiments.analysis import ANALYSES
from darts_pt_jax.experiments.analysis import __main__ as analysis
from darts_pt_jax.experiments.engine.interrupts import Interrupts
from darts_pt_jax.experiments.launching import launchers, scheduling
from darts_pt_jax.experiments.launching.base import Run
from darts_pt_jax.experiments.reporting import page, records
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.spaces import SPACES
from tests import project
from tests.command import lines
from tests.conftest import kept_tables
from tests.project import ROOT
from tests.test_kernels import normals, same_forms

TEXT = (ROOT / "docs" / "extending.md").read_text()
START, *_PARTS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0]: part for part in _PARTS}
FILES = {
    "Operation": "blur.py", "Space": "small.py", "Criterion": "changed.py", "Sampler": "dropping.py", "Data source": "keras.py",
    "Chart": "losses.py", "Analysis": "entropy.py", "Launcher": "nice.py",
}  # fmt: skip
"""The examples that are plugins, by the names that their commands give them."""

OF_RUN = ("Operation", "Space", "Criterion", "Sampler", "Data source")
SMALL = {"search.epochs": 1, "data.examples": 130, "search.alpha_init": "zero", "select.interval": 0, "select.images": 64, "report.latency": False,
         "tensorboard": False}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("extending"), pytest.mark.usefixtures("place")]


def blocks(section):
    return re.findall(r"^```python\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def options(section):
    """The options of the section's commands, besides the plugins."""
    return re.findall(r"--config\.(?!plugins)[\w.]+=[\w.]+", SECTIONS[section])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the plugins as files."""
    folder = tmp_path_factory.mktemp("extending")
    for section, name in FILES.items():
        (block,) = blocks(section)
        (folder / name).write_text(block)
    with kept_tables(page.CHARTS, ANALYSES, launchers.LAUNCHERS):
        yield folder


def plugins(place, *sections):
    return f"--config.plugins={','.join(str(place / FILES[section]) for section in sections)}"


@pytest.fixture(scope="module")
def searched(place):
    """A run of one epoch with all the examples that can be a part of it, by the options of the page."""
    digits = sources.digits()
    arrays = digits.train_images[..., 0], digits.train_labels, digits.test_images[..., 0], digits.test_labels
    np.savez(place / "mnist.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))
    said = [option for section in OF_RUN for option in options(section)]
    keys = [f"--config.{key}={value}" for key, value in SMALL.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        command = ["main", f"--config={ROOT}/configs/quickstart.py", plugins(place, *OF_RUN), *said, *keys]
        assert main.main([*command, f"--workdir={place / 'run'}"]) == 0
    return place / "run"


def drawn(space, sampler, level):
    alphas = sampler.init(space, jax.random.key(0), 1.0)
    return sampler.sample(space, alphas, jax.random.key(1), level, sampler.init_state(space))


def test_every_block_belongs_to_a_change_of_the_table():
    changes = re.findall(r"^\| \[(.*?)\]\(#(.*?)\)", START, re.MULTILINE)
    assert [name.capitalize() for name, _ in changes] == list(SECTIONS) == [*FILES, "Key", "Kernel"]
    assert all(name.replace(" ", "-") == anchor for name, anchor in changes)
    assert TEXT.count("```") == 2 * sum(len(blocks(section)) for section in SECTIONS)
    assert all(file in SECTIONS[section] for section, file in FILES.items())
    for part in SECTIONS.values():
        assert sum(bool(line) for line in part.splitlines()[1:]) <= 27


def test_what_the_table_names_is_there():
    paths = re.findall(r"`([\w/.]+/[\w/.]*)`", TEXT)
    assert len(paths) > 20
    for path in {*paths} - {"darts_pt_jax/kernels/blur.py"}:
        assert (ROOT / path).exists(), path
    for table, file in re.findall(r"`([A-Z]+)` in\s`([\w/]+\.py)`", TEXT):
        assert f"\n{table}" in (ROOT / file).read_text(), (table, file)


def test_an_operation(searched):
    assert ops.has_statistics("blur_3x3", 1, True) and not ops.has_parameters("blur_3x3")
    assert not ops.draws("blur_3x3")
    operation = ops.OPERATIONS["blur_3x3"](2, 2, pool_norm=False)
    blurred = operation.apply({}, jnp.ones((1, 4, 4, 2)), True)
    assert blurred[0, :, :, 1].tolist() == [[9 / 16, 3 / 4], [3 / 4, 1]]


def test_a_space(searched):
    decisions = [line for line in lines(searched, "decisions.jsonl") if line["type"] == "operation"]
    assert {tuple(line["candidates"]) for line in decisions} == {("skip_connect", "blur_3x3", "nor_conv_3x3")}
    assert len(decisions) == sum(len(graph.edges) for graph in SPACES["small"].cells.values()) == 10


def test_a_criterion(searched):
    for line in lines(searched, "decisions.jsonl"):
        scores = line["passes"][0] if "passes" in line else line
        assert line["criterion"] == "changed" and scores["baseline"]["changed"] == 0
        if line["type"] == "operation":
            assert line["choice_index"] == int(np.argmax(scores["changed"])), "the removal that changes most"
    logits = jnp.array([[0.1, 0.2], [0.9, 0.1]])
    assert CRITERIA["changed"].measure(logits, None, jnp.array([[1.0, 3.0], [0.0, 1.0]])).tolist() == [0, 1]
    assert "changed predictions" in (searched / "report.html").read_text()


def test_a_sampler(searched):
    from darts_pt_jax.samplers import SAMPLERS

    assert json.loads((searched / "run.json").read_text())["config"]["search.sampler"] == "dropping"
    (epoch,) = (line for line in lines(searched, "metrics.jsonl") if line["stage"] == "search")
    weights = np.concatenate([np.array(rows) for rows in epoch["edge_weights"].values()])
    assert (np.ptp(weights, axis=1) > 1e-5).all(), "alpha steps were taken"
    sampler, space = SAMPLERS["dropping"](), SPACES["small"]
    assert [sampler.schedule(progress) for progress in (0, 1)] == [0.3, 0]
    whole, dropped = (drawn(space, sampler, share)["normal"] for share in (0.0, 0.5))
    np.testing.assert_allclose(whole.sum(-1), 1, rtol=1e-5)
    assert np.array_equal(dropped, np.where(dropped == 0, 0, whole)) and 0 < np.mean(dropped == 0) < 1


def test_a_data_source(searched, tmp_path):
    images, digits = sources.load("keras", str(searched.parent / "mnist.npz")), sources.digits()
    np.testing.assert_array_equal(images.train_images, digits.train_images)
    np.testing.assert_array_equal(images.test_labels, digits.test_labels)
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    for file, message in {"other.npz": "lacks the arrays x_train", "missing.npz": "missing.npz"}.items():
        with pytest.raises(sources.DataError, match=message):
            sources.load("keras", str(tmp_path / file))


def test_a_chart(searched, place):
    from darts_pt_jax.experiments import report

    command = [str(searched), plugins(place, *OF_RUN, "Chart")]
    assert report.main(command) == 0
    html = (searched / "report.html").read_text()
    assert '<section id="loss">' in html and '<a href="#loss">Loss</a>' in html
    config = records.config_of(records.read_run(searched))
    ((_, _, chart),) = page.CHARTS["Loss"](config, RunRecords.read(searched, config))
    assert chart.spec["mark"]["type"] == "line" and len(chart.spec["datasets"]["rows"]) == 1 == len(chart.table.rows)
    assert page.CHARTS["Loss"](config, types.SimpleNamespace(stage=lambda name: [])) == []


def test_an_analysis(searched, place, tmp_path, capsys):
    command = ["entropy", "--run", str(searched), "--out", str(tmp_path / "out")]
    assert analysis.main([*command, plugins(place, *OF_RUN, "Analysis")]) == 0
    (row,) = json.loads((tmp_path / "out" / "numbers.json").read_text())["rows"]
    assert 0 < row["entropy"] < np.log(3) and (tmp_path / "out" / "entropy.svg").exists()
    assert f"{row['entropy']:.3f} nats" in capsys.readouterr().out
    assert analysis.main([*command, f"--config.plugins={place}/gone.py"]) == 2
    assert "plugins: there is no file" in capsys.readouterr().err


def test_a_launcher(place, tmp_path):
    given = re.search(r"--launcher=nice\s--launcher-option=level=19", SECTIONS["Launcher"]).group().split()
    command = [f"--config={ROOT}/configs/quickstart.py", plugins(place, "Launcher"), f"--workdir={tmp_path}"]
    asked = sweep.parse([*command, *given])
    assert (asked.launcher, asked.options) == ("nice", {"level": 19})
    level, said = os.nice(0), []
    program = f"import os, sys; sys.exit(os.nice(0) != {min(19, level + 3)})"
    launcher = launchers.launcher("nice", {"level": 3}, tmp_path, said.append)
    with Interrupts() as stop:
        runs = [Run(tmp_path / "run", (sys.executable, "-c", program))]
        assert scheduling.carry_out(runs, launcher, 0, stop, said.append) == {}
    assert os.nice(0) == level, "of the run alone"


USES = """
import contextlib, types
from darts_pt_jax import bilevel
from darts_pt_jax.experiments.training.supernet import Training

usual, wide = parsed(), parsed("{option}")
assert refused(parsed, "--config.search.alpha_scale=-1") == "search.alpha_scale is -1.0, expected at least 0"
assert "  --config.search.alpha_scale=0.001\\n      Standard deviation of the first alphas" in reference.help_text()
assert "| `search.alpha_scale` | `0.001` | at least 0 |" in reference.page()
said = refused(directory.refuse_changes, wide, schema.flatten(usual.config), schema.free_keys())
assert "search.alpha_scale was 0.001 and is 0.1; set it back" in said, said
bilevel.init_state = lambda net, key, shape, weights, alphas, scale, sampler: scale
for config, scale in ((usual.config, 1e-3), (wide.config, 0.1), (parsed("--config.search.alpha_init=zero").config, 0)):
    of = types.SimpleNamespace(
        config=config, net=None, image_shape=(), weight_optimizer=None, alpha_optimizer=None, sampler=None,
        devices=types.SimpleNamespace(everywhere=lambda state: state),
    )
    assert Training.initial_state(of, None) == scale
print("all follows")
"""


def test_a_key(tmp_path):
    entry, use = blocks("Key")
    copy = project.copied(tmp_path)
    project.insert(copy / "config" / "keys.py", "    alpha_init: str = key(", entry)
    supernet = copy / "training" / "supernet.py"
    text, changes = re.subn(r"^        scale = 1e-3 if .*\n", use, supernet.read_text(), flags=re.MULTILINE)
    assert changes == 1
    supernet.write_text(text)
    (option,) = options("Key")
    done = project.executed(tmp_path, USES.replace("{option}", option))
    assert done.stdout == "all follows\n", done.stderr


def test_a_kernel():
    (block,) = blocks("Kernel")
    module = types.ModuleType("blur")
    exec(compile(block, "blur.py", "exec"), vars(module))
    (x,) = normals(0, (2, 7, 8, 3))
    same_forms(module.blur, module.blur_plain, x)
    text = jax.export.export(jax.jit(module.blur), platforms=["cpu", "cuda"])(x).mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.case" in text, "each platform's own form"

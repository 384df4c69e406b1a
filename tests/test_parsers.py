"""Any bytes in a file or an argument give a value or our own error of one line, quickly and with little memory."""

import atexit
import bz2
import functools
import io
import itertools
import json
import pathlib
import shutil
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from darts_pt_jax import network
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data import nasbench201_files, sources
from darts_pt_jax.data.images import DataError, from_arrays
from darts_pt_jax.experiments import predict
from darts_pt_jax.experiments.config.schema import KEYS
from darts_pt_jax.experiments.config.settings import parse
from darts_pt_jax.experiments.engine import directory
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from darts_pt_jax.interop.export import TrainedNetwork
from darts_pt_jax.nasbench201 import Table, TableError
from darts_pt_jax.network import Network
from darts_pt_jax.record import JsonLines, RecordError, sealed
from darts_pt_jax.selection import schedule
from darts_pt_jax.spaces import SPACES
from tests.command import SOAK

GIGABYTE = 2**20
"""A limit in kB."""

anything = settings(
    max_examples=2000 if SOAK else 60,
    deadline=10_000,
    suppress_health_check=list(HealthCheck),
    derandomize=not SOAK,
    database=None,
)


PLACE, NUMBERS = pathlib.Path(tempfile.mkdtemp(prefix="darts-pt-jax-parsers-")), itertools.count()
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)


@st.composite
def damaged(draw, content):
    """Any bytes, or `content` with parts replaced, removed, repeated, or cut off."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(content))), draw(st.sampled_from((0, 1, 2, 8, 100)))
        new = draw(st.one_of(st.binary(max_size=8), st.just(content[at : at + length] * 2), st.just(content[:at][:0])))
        end = at + length if draw(st.integers(0, 9)) else len(content)
        content = content[:at] + new + content[end:]
    return content


@pytest.fixture(autouse=True)
def little_memory():
    if sys.platform != "linux":
        yield
        return
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak()
    yield
    assert peak() - before < GIGABYTE


def peak():
    """Peak memory of this process in kB."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def allowed(errors, function, *args):
    """Calls a function, which may raise `errors` of one line; returns its value, or None."""
    try:
        return function(*args)
    except errors as error:
        assert str(error) and "\n" not in str(error), error


def in_file(content, name="file"):
    folder = PLACE / str(next(NUMBERS))
    folder.mkdir()
    (folder / name).write_bytes(content)
    return folder / name


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


TEXTS = [
    published.find("DARTS_V2").text("darts"),
    published.find("DARTS_V2").to_json(),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
]
RUN = sealed({"config": {"seed": 1, "data.mean": [0.1]}, "data_sha256": "00"}).encode()
DATA = npz(
    train_images=np.zeros((4, 8, 8, 3), np.uint8), train_labels=np.arange(4) % 2,
    test_images=np.zeros((2, 8, 8, 3), np.uint8), test_labels=np.arange(2),
)  # fmt: skip
TABLE = npz(
    arch=np.array([TEXTS[2].encode()] * 3), metric_names=np.array(["c10_test"]), metrics=np.ones((3, 1), np.float32)
)


@anything
@given(st.one_of(st.text(), *(damaged(text.encode()).map(lambda b: b.decode("latin1")) for text in TEXTS)))
def test_genotypes(text):
    genotype = allowed(ValueError, Genotype.from_text, text)
    assert genotype is None or Genotype.from_json(genotype.to_json()) == genotype


@anything
@given(st.one_of(*(damaged(text.encode()) for text in TEXTS)))
def test_genotype_files(content):
    allowed(ValueError, published.find, str(in_file(content)))


DEEP = "Genotype(normal=" + "-" * 700 + "1, normal_concat=[2])"


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000, "Genotype(" + "-" * 50_000, "Genotype(normal=" + "(" * 5000, "{" * 50_000, DEEP, "A = " + DEEP],
)
def test_deep_nesting(text):
    with pytest.raises(ValueError, match="genotype"):
        Genotype.from_text(text)
    with pytest.raises(ValueError, match="genotype"):
        Genotype.from_json(text)


def test_a_file_that_never_ends_is_no_genotype():
    with pytest.raises(ValueError, match="more than 100,000 characters"):
        published.find("/dev/zero")


@anything
@given(damaged(DATA))
def test_images(content):
    images = allowed(DataError, sources.npz, str(in_file(content)))
    assert images is None or images.classes >= 2


@anything
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4))
def test_labels_of_any_size(labels):
    arrays = {"train_images": np.zeros((4, 8, 8, 3), np.uint8), "train_labels": np.array(labels)}
    arrays |= {"test_images": arrays["train_images"], "test_labels": np.array(labels)}
    images = allowed(DataError, from_arrays, "here", arrays)
    assert images is None or sorted(set(labels)) == list(range(images.classes))


@anything
@given(damaged(TABLE))
def test_tables(content):
    path = in_file(content)
    table = allowed(TableError, Table, path)
    for arch in (0, TEXTS[2], "none~0"):
        for ask in ("accuracies", "rank"):
            if table:
                allowed(TableError, getattr(table, ask), arch)


@anything
@given(damaged(json.dumps({"a": [1.5, "b"]}).encode() + b"\n" + b"{}\n"))
def test_records(content):
    allowed(RecordError, JsonLines(in_file(content)).read)


@anything
@given(damaged(RUN))
def test_run_files(content):
    stored = allowed(RunError, directory.stored, in_file(content, "run.json").parent)
    assert (stored is None) == (content != RUN)


@functools.cache
def checkpoints():
    made = Checkpoints(PLACE / "checkpoints")
    made.save(1, {"a": jnp.ones(3)}, {})
    return made, (made.directory / "1" / "manifest.json").read_bytes()


@anything
@given(st.data())
def test_manifests(data):
    made, whole = checkpoints()
    content = data.draw(damaged(whole))
    (made.directory / "1" / "manifest.json").write_bytes(content)
    assert (made.damage(1) is None) == (content == whole)


@anything
@given(st.one_of(st.text(), damaged(b"normal:4,0,5,2,3,1").map(lambda b: b.decode("latin1"))))
def test_orders(text):
    order = allowed(ValueError, schedule.parse_order, text, SPACES["nasbench201"])
    assert order is None or sorted(order["normal"]) == list(range(6))


@anything
@example("report.latency", "\n")
@given(st.sampled_from(sorted(KEYS)), st.one_of(st.text(), st.integers().map(str), st.floats().map(str)))
def test_arguments(key, value):
    allowed(ConfigError, parse, ["main", "--config=configs/quickstart.py", f"--config.{key}={value}"])


@functools.cache
def trained():
    """A small network, in files."""
    net = Network(published.find("DARTS_V2"), "cifar", 3, 2, 2)
    like = network.abstract_variables(net, (8, 8, 3))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    folder = PLACE / "network"
    TrainedNetwork(net, variables, (8, 8, 3), (0.5,) * 3, (0.5,) * 3).save(folder)
    return folder, (folder / "network.json").read_bytes(), (folder / "network.safetensors").read_bytes()


@anything
@given(st.data())
def test_networks(data):
    folder, description, weights = trained()
    which = data.draw(st.booleans())
    (folder / "network.json").write_bytes(data.draw(damaged(description)) if which else description)
    (folder / "network.safetensors").write_bytes(weights if which else data.draw(damaged(weights)))
    allowed(ValueError, TrainedNetwork.load, folder)


@functools.cache
def picture():
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(content, "png")
    return content.getvalue()


@anything
@given(st.data())
def test_pictures(data):
    classifier = predict.Classifier(lambda images: np.zeros((1, 2)), (8, 8, 3), 2)
    allowed(DataError, predict.classify, classifier, in_file(data.draw(damaged(picture())), "a.png"))


@anything
@given(st.binary(max_size=300), st.booleans())
def test_official_files(content, packed):
    folder = in_file(bz2.compress(content) if packed else content, "meta.pickle.pbz2").parent
    allowed(TableError, nasbench201_files.convert, folder, folder / "table.npz")

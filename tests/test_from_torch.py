"""Checkpoints of the reference implementation: state dicts and logits of PyTorch modules (tests/golden/checkpoints.py)."""

import functools
import json
import pickle
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import darts_pt_jax.experiments.export
from darts_pt_jax import network
from darts_pt_jax.checkpoints import Checkpoints
from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments import import_network, predict
from darts_pt_jax.interop import export, from_torch, published, torch_checkpoints
from darts_pt_jax.interop.torch_checkpoints import Checkpoint
from darts_pt_jax.network import Network
from darts_pt_jax.spaces import SPACES
from darts_pt_jax.supernet import Supernet
from tests import tiny
from tests.command import TINY, lines, run
from tests.golden import checkpoints, make


@pytest.fixture(scope="module")
def cases():
    return checkpoints.read()


@functools.cache
def supernet(space):
    """A supernet as the golden ones, its shapes, and edge weights."""
    cells, size = checkpoints.SUPERNETS[space]
    net = Supernet(SPACES[space], cells, checkpoints.CHANNELS, checkpoints.CLASSES)
    weights = {kind: make.edge_weights(kind, graph.candidate_mask) for kind, graph in net.space.cells.items()}
    images = jnp.zeros((1, size, size, checkpoints.IMAGE_CHANNELS))
    return net, jax.eval_shape(lambda: net.init(jax.random.key(0), images, weights, True)), weights


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * abs(theirs).max())


@pytest.mark.parametrize("space", checkpoints.SUPERNETS)
def test_a_supernet_gives_the_logits_of_its_checkpoint(cases, space):
    (net, like, weights), case = supernet(space), f"supernet {space}"
    tensors, logits = cases[case]
    variables = from_torch.variables(tensors, net, like)
    images = checkpoints.images(case, checkpoints.SUPERNETS[space][1])
    close(jax.jit(lambda v: net.apply(v, images, weights, False))(variables), logits)


@pytest.mark.parametrize("name", checkpoints.NETWORKS)
def test_a_network_gives_the_logits_of_its_checkpoint(cases, name):
    (form, cells, size), case, genotype = checkpoints.NETWORKS[name], f"network {name}", published.find(name)
    tensors, logits = cases[case]
    net = from_torch.network_of(tensors, genotype, cells)
    assert net == Network(genotype, form, cells, checkpoints.CHANNELS, checkpoints.CLASSES)
    variables = from_torch.variables(
        tensors, net, network.abstract_variables(net, (size, size, checkpoints.IMAGE_CHANNELS))
    )
    images = checkpoints.images(case, size)
    close(jax.jit(lambda v: net.apply(v, images, False)[0])(variables), logits)


def test_the_auxiliary_head_is_taken_by_a_network_that_has_one(cases):
    name = "DARTS_V2"
    tensors, _ = cases[f"network {name}"]
    net = Network(published.find(name), "cifar", 3, checkpoints.CHANNELS, checkpoints.CLASSES, auxiliary=True)
    like = network.abstract_variables(net, (32, 32, checkpoints.IMAGE_CHANNELS))
    variables = from_torch.variables(tensors, net, like)
    kept = net.clone(auxiliary=False)
    without = from_torch.variables(
        tensors, kept, network.abstract_variables(kept, (32, 32, checkpoints.IMAGE_CHANNELS))
    )
    head = variables["params"].pop("auxiliary")
    variables["batch_stats"].pop("auxiliary")
    jax.tree.map(np.testing.assert_array_equal, variables, without)
    theirs = {n.removeprefix("auxiliary_head."): a for n, a in tensors.items() if n.startswith("auxiliary_head.")}
    np.testing.assert_array_equal(head["conv_b"]["kernel"], theirs["features.5.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(head["norm_b"]["scale"], theirs["features.6.weight"])
    np.testing.assert_array_equal(head["head"]["kernel"], theirs["classifier.weight"].T)
    with pytest.raises(ValueError, match="for params/auxiliary/conv_a/kernel"):
        from_torch.variables({n: a for n, a in tensors.items() if "auxiliary" not in n}, net, like)


def test_stacked_rows_are_edges_and_shared_statistics_hold_for_every_edge(cases):
    net, like, _ = supernet("darts")
    tensors, _ = cases["supernet darts"]
    variables = from_torch.variables(tensors, net, like)
    graph, cell = net.space.cells["reduce"], "cells_1"
    for group in graph.groups:
        theirs = [f"cells.1._ops.{e}._ops.{o}" for e, o in zip(group.edges, group.candidates, strict=True)]
        if group.operation == "sep_conv_5x5":
            rows = variables["params"][cell][group.label]["conv_b"]["pointwise"]
            for row, name in zip(rows, theirs, strict=True):
                np.testing.assert_array_equal(row, tensors[f"{name}.op.6.weight"].transpose(2, 3, 1, 0))
        if group.operation == "avg_pool_3x3":
            variance = variables["batch_stats"][cell][group.label]["norm"]["var"]
            for name in theirs:
                close(variance, tensors[f"{name}.1.running_var"])


def test_shared_statistics_that_differ_by_edge_are_averaged_with_a_note(cases):
    net, like, _ = supernet("darts")
    tensors = dict(cases["supernet darts"][0])
    name = "cells.0._ops.5._ops.0.1.running_var"  # max_pool_3x3 from state 0, as on the edges 0, 2 and 9
    tensors[name] = tensors[name] * 1.3
    with pytest.warns(UserWarning, match="^1 running statistics.* differ by edge .by up to 2.*%") as said:
        variables = from_torch.variables(tensors, net, like)
    assert "batch_stats/cells_0/from_0_max_pool_3x3/norm/var" in str(said[0].message)
    ours = variables["batch_stats"]["cells_0"]["from_0_max_pool_3x3"]["norm"]["var"]
    close(ours, np.mean([tensors[f"cells.0._ops.{e}._ops.0.1.running_var"] for e in (0, 2, 5, 9)], 0))
    tensors[name] = cases["supernet darts"][0][name] * (1 + 1e-6)
    with warnings.catch_warnings(action="error"):
        from_torch.variables(tensors, net, like)


def test_names_do_not_matter_and_other_tensors_are_ignored(cases):
    net, like, _ = supernet("nasbench201")
    tensors, _ = cases["supernet nasbench201"]
    assert "arch_parameters" in tensors and any(n.endswith("num_batches_tracked") for n in tensors)
    kept = [a for n, a in tensors.items() if n != "arch_parameters" and not n.endswith("num_batches_tracked")]
    named = {f"module.{i}": a for i, a in enumerate(kept)} | {"module._alphas": np.zeros((6, 5))}
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torch.variables(named, net, like),
        from_torch.variables(tensors, net, like),
    )


def test_tensors_that_do_not_fit_are_refused_in_one_line(cases):
    net, like, _ = supernet("s2")
    tensors, _ = cases["supernet s2"]
    other_space = cases["supernet darts"][0]
    for given, message in (
        (
            {**tensors, "cells.2.preprocess1.op.1.weight": np.zeros((4, 3, 1, 1))},
            r"cells.2.preprocess1.op.1.weight: got shape \(4, 3, 1, 1\), expected \(8, 16, 1, 1\) for "
            r"params/cells_2/preprocess_1/conv/kernel: space, cells, channels and classes",
        ),
        (
            {**tensors, "cells.0._ops.4._ops.1.op.2.weight": np.zeros((1, 1, 1, 1))},
            r"\(2, 2, 1, 1\) for params/cells_0/from_2_sep_conv_3x3/conv_a/pointwise, row 0: ",
        ),
        ({**tensors, "more": np.zeros(3)}, r"more \(3,\) is left over$"),
        (dict(list(tensors.items())[:-1]), "nothing is left for params/head/bias$"),
        ({}, "got 0 tensors, the network has [0-9]+: nothing is left for params/stem_conv/kernel$"),
        (other_space, "cells.0._ops.0._ops.0.1.running_mean: got shape"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            from_torch.variables(given, net, like)
        assert "\n" not in str(error.value)
    tiny_net = tiny.supernet("tiny")
    state = jax.eval_shape(lambda: tiny.state(tiny_net, jax.random.key(0)).variables)
    with pytest.raises(ValueError, match="centre: the reference implementation has nothing like it"):
        from_torch.variables(tensors, tiny_net, state)
    with pytest.raises(ValueError, match="expected convolutions"):
        from_torch.network_of({"a": np.zeros(3)}, published.find("DARTS_V2"), 3)
    with pytest.raises(ValueError, match="the nasbench201 network has normal"):
        from_torch.network_of(tensors, published.find("DARTS_V2"), 3, "nasbench201")


class Tensor:
    """The part of a tensor's interface that is used."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def detach(self):
        return self

    def float(self):
        return Tensor(self.values.astype(np.float32))

    def numpy(self):
        return self.values


@pytest.fixture
def torch_gives(monkeypatch):
    """Replaces torch by a module whose `load` returns or raises a given value."""

    def put(value):
        def load(path, map_location, weights_only):
            assert map_location == "cpu" and weights_only
            if isinstance(value, Exception):
                raise value
            return value

        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load, __version__=(2, 5)))

    return put


def test_load_finds_the_state_dict_and_the_values_beside_it(torch_gives):
    state = {"stem.weight": Tensor(np.ones((2, 1, 1, 1), np.float64)), "arch_parameters": Tensor([[1, 2]])}
    torch_gives(state)
    checkpoint = torch_checkpoints.load("a.pt")
    assert list(checkpoint.tensors) == list(state) and checkpoint.tensors["stem.weight"].dtype == np.float32
    assert checkpoint.epoch is None and [a.tolist() for a in checkpoint.alphas] == [[[1, 2]]]
    torch_gives({"model": state, "alpha": Tensor([[3, 4]]), "epoch": 7, "optimizer": {"state": {}}})
    checkpoint = torch_checkpoints.load("a.pt")
    assert checkpoint.epoch == 7 and [a.tolist() for a in checkpoint.alphas] == [[[3, 4]]]
    assert checkpoint.weight_optimizer == {"state": {}} and checkpoint.alpha_optimizer is None
    torch_gives({"state_dict": state, "alpha": [Tensor([[3, 4]]), Tensor([[5, 6]])]})
    assert [a.tolist() for a in torch_checkpoints.load("a.pt").alphas] == [[[3, 4]], [[5, 6]]]
    for name in ("state_dict", "model", "model_state_dict", "net"):
        torch_gives({"epoch": np.int64(7), "best": np.float64(0.97), name: state})
        checkpoint = torch_checkpoints.load("a.pt")
        assert list(checkpoint.tensors) == list(state) and checkpoint.epoch == 7


REFUSED = (
    "Weights only load failed.\n\tWeightsUnpickler error: Unsupported global: GLOBAL model.Network was not an allowed"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.UnpicklingError(REFUSED), "it holds a model.Network, and only .*: load it .* save model.state_dict.. instead, or"),
        (pickle.UnpicklingError("invalid load key\nmore"), r"not a whole PyTorch checkpoint \(UnpicklingError\), expected what torch.save writes$"),
        (EOFError(), r"not a whole PyTorch checkpoint \(EOFError\)"),
        (FileNotFoundError(2, "No such file or directory"), r"cannot be read \(No such file or directory\)"),
        (Tensor([1]), "got a tensor, expected a state dict"),
        ({}, "got a dict, expected a state dict"),
        ({"epoch": 3, "best": 4}, "got a dict with epoch, best, expected a state dict, or a dict with it as"),
        ({"state_dict": {"a": Tensor([1])}, "alpha": 3}, "got a int as 'alpha'"),
        ({"state_dict": {"a": Tensor([1])}, "proj_weights": {}}, "left amid a selection"),
        ({"a": Tensor([1]), "b": Tensor([np.nan, 1, np.inf])}, "b has 2 of 3 numbers that are not finite"),
        ({"net": {"a": Tensor([1])}, "alpha": [Tensor([1]), Tensor([-np.inf])]}, "alpha/1 has 1 of 1 numbers that are not"),
        (
            {"net": {"a": Tensor([1])}, "optimizer": {"state": {3: {"momentum_buffer": Tensor([np.nan])}}}},
            "optimizer/state/3/momentum_buffer has 1 of 1 numbers that are not finite",
        ),
    ],
)  # fmt: skip
def test_load_refuses_other_files_in_one_line(torch_gives, content, message):
    torch_gives(content)
    with pytest.raises(ValueError, match=message) as error:
        torch_checkpoints.load("a.pt")
    assert str(error.value).startswith("a.pt: ") and "\n" not in str(error.value)


def test_load_says_how_to_get_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"a.pt: .* needs torch: pip install torch$"):
        torch_checkpoints.load("a.pt")


def test_load_reads_what_torch_saves(cases, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch, which is not installed with this")
    tensors, _ = cases["supernet nasbench201"]
    state = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    alphas = [torch.zeros(6, 5, requires_grad=True)]
    optimizer = torch.optim.Adam(alphas)
    alphas[0].sum().backward()
    optimizer.step()
    content = {"state_dict": state, "alpha": alphas, "epoch": np.int64(3), "arch_optimizer": optimizer.state_dict()}
    content |= {"best": np.float64(0.97), "converged": np.bool_(True)}
    torch.save(content, tmp_path / "a.pt")
    checkpoint = torch_checkpoints.load(tmp_path / "a.pt")
    assert list(checkpoint.tensors) == list(tensors) and checkpoint.epoch == 3
    assert all(np.array_equal(checkpoint.tensors[name], value) for name, value in tensors.items())
    np.testing.assert_allclose(checkpoint.alphas[0], -1e-3, rtol=1e-4)
    assert torch_checkpoints.optimizer_values(checkpoint.alpha_optimizer, "step") == [1]
    torch.save(torch.nn.Linear(1, 1), tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"it holds a torch\.nn\.modules\.linear\.Linear"):
        torch_checkpoints.load(tmp_path / "b.pt")
    (tmp_path / "c.pt").write_text("hello")
    with pytest.raises(ValueError, match="not a whole PyTorch checkpoint"):
        torch_checkpoints.load(tmp_path / "c.pt")


KEYS = {
    **TINY, "space": "nasbench201", "search.epochs": 3, "supernet.channels": checkpoints.CHANNELS,
    "stages": "select", "select.interval": 0, "select.method": "magnitude",
}  # fmt: skip


@pytest.fixture
def file(cases, tmp_path, monkeypatch):
    """A checkpoint file whose content `put` changes."""
    rng, (tensors, _) = np.random.default_rng(0), cases["supernet nasbench201"]
    alphas = [rng.standard_normal((6, 5)).astype(np.float32)]
    moments = {"step": 12, "exp_avg": alphas[0] / 10, "exp_avg_sq": alphas[0] ** 2}
    momentum = [a + 1 for n, a in tensors.items() if not n.startswith("arch") and n.endswith((".weight", ".bias"))]
    content = {
        "tensors": tensors, "alphas": alphas, "epoch": 2,
        "weight_optimizer": {"param_groups": [{"params": [*range(len(momentum))]}],
                             "state": {i: {"momentum_buffer": m} for i, m in enumerate(momentum)}},
        "alpha_optimizer": {"param_groups": [{"params": [0]}], "state": {0: moments}},
    }  # fmt: skip
    path = tmp_path / "search.pt"
    path.touch()

    def put(**changes):
        monkeypatch.setattr(torch_checkpoints, "load", lambda _: Checkpoint(**{**content, **changes}))
        return path

    return put


def test_a_selection_from_a_file_starts_from_its_supernet(file, tmp_path, capsys, cases):
    workdir, keys = tmp_path / "run", {**KEYS, "stages": "select,report"}
    assert run(workdir, keys, init_from=file()) == 0
    assert "begins afresh" not in capsys.readouterr().out
    checkpoint = torch_checkpoints.load(None)
    snapshots = Checkpoints(workdir / "snapshots", read_only=True)
    assert snapshots.latest() == 2
    arrays = snapshots.arrays(2)
    net, like, _ = supernet("nasbench201")
    variables = from_torch.variables(checkpoint.tensors, net, like)
    momentum = {n: a + 1 for n, a in checkpoint.tensors.items()}
    expected = {
        "params": variables["params"], "batch_stats": variables["batch_stats"], "alphas": {"normal": checkpoint.alphas[0]},
        "weight_optimizer[2].trace": from_torch.variables(momentum, net, like)["params"],
        "alpha_optimizer[1][0].mu": {"normal": checkpoint.alphas[0] / 10},
        "alpha_optimizer[1][0].nu": {"normal": checkpoint.alphas[0] ** 2},
        "alpha_optimizer[1][0].count": 12,
    }  # fmt: skip
    for name, tree in expected.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            np.testing.assert_array_equal(arrays.pop(f".{name}{jax.tree_util.keystr(path)}"), leaf)
    assert all(name.startswith(".decisions") for name in arrays)
    first, *_ = lines(workdir, "metrics.jsonl")
    weights = jax.nn.softmax(checkpoint.alphas[0])
    assert first.keys() == {"stage", "epoch", "edge_weights"} and first["epoch"] == 2
    np.testing.assert_allclose(first["edge_weights"]["normal"], weights, rtol=1e-6)
    chosen = [d["choice_index"] for d in lines(workdir, "decisions.jsonl")]
    assert chosen == np.argmax(weights, 1).tolist()
    assert "| at the end of the search | not looked at | not looked at |" in (workdir / "report.md").read_text()
    assert run(workdir, keys, init_from=file()) == 0, "a finished run"


def test_without_optimisers_a_selection_says_so(file, tmp_path, capsys):
    assert run(tmp_path / "run", KEYS, init_from=file(weight_optimizer=None, alpha_optimizer=None, epoch=None)) == 0
    assert "no fitting optimiser state of the alphas: it begins afresh" in capsys.readouterr().out
    assert lines(tmp_path / "run", "metrics.jsonl")[0]["epoch"] == 3


def test_fixed_alphas_of_zero_need_none_in_the_file(file, tmp_path):
    keys = {**KEYS, "select.method": "random", "search.alpha": "fixed", "search.alpha_init": "zero"}
    assert run(tmp_path / "run", keys, init_from=file(alphas=[])) == 0
    (row, *_) = lines(tmp_path / "run", "metrics.jsonl")[0]["edge_weights"]["normal"]
    assert row == pytest.approx([0.2] * 5)


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({}, {"init_epoch": 2}, "init_epoch is 2, but init_from"),
        ({}, {"supernet.channels": 4}, "stem.0.weight: got shape (2, 1, 3, 3), expected (4, 1, 3, 3) for params/stem_conv"),
        ({}, {"supernet.channels": 4, "plan": True}, "expected (4, 1, 3, 3)"),
        ({}, {"space": "s2"}, "got alphas [6, 5], space s2 has [14, 2] of normal, [14, 2] of reduce: take the space"),
        ({"alphas": []}, {}, "got alphas none, space nasbench201 has [6, 5] of normal: save them beside it as 'alpha'"),
        ({"epoch": 4}, {}, "it is of epoch 4, but search.epochs is 3: give the config that it was searched with"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_before_any_work(file, changes, keys, message, tmp_path, capsys):
    from darts_pt_jax.experiments import main
    from tests.command import arguments

    plan = ["--plan"] * keys.pop("plan", False)
    argv = arguments(tmp_path / "run", **{**KEYS, "init_from": file(**changes), **keys})
    if keys.get("space"):
        argv.append("--config.supernet.cells=3")
    assert main.main([*argv, *plan]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def imported(monkeypatch, tmp_path, tensors, *options):
    monkeypatch.setattr(torch_checkpoints, "load", lambda _: Checkpoint(tensors, []))
    return import_network.main(["a.pt", f"--to={tmp_path / 'net'}", *options])


def test_a_network_is_imported_into_the_files_of_a_retrained_one(cases, monkeypatch, tmp_path, capsys):
    tensors, logits = cases["network DARTS_V2"]
    options = ["--genotype=DARTS_V2", "--cells=3", "--mean=0.5", "--std=0.25"]
    assert imported(monkeypatch, tmp_path, tensors, *options) == 0
    out = capsys.readouterr().out
    sizes = {n: a.size for n, a in tensors.items() if n.endswith((".weight", ".bias")) and "auxiliary" not in n}
    assert f"cifar network of 3 cells, 2 channels, 10 classes, {sum(sizes.values()):,} parameters" in out
    network = export.TrainedNetwork.load(tmp_path / "net")
    assert json.loads((tmp_path / "net" / "network.json").read_text())["mean"] == [0.5]
    assert network.image_shape == (32, 32, 1) and network.std == (0.25,)
    pixels = np.round(255 * np.random.default_rng(0).random((2, 32, 32, 1))).astype(np.uint8)
    ours = network.net.apply(network.variables, (pixels / 255 - 0.5) / 0.25, False)[0]
    close(network.logits(pixels), np.asarray(ours))
    images = checkpoints.images("network DARTS_V2", 32)
    close(network.net.apply(network.variables, images, False)[0], logits)
    assert imported(monkeypatch, tmp_path, tensors, *options) == 2
    assert "holds a network already" in capsys.readouterr().err


def test_a_network_with_numbers_that_are_not_finite_is_not_used(cases, monkeypatch, tmp_path, capsys):
    options = ["--genotype=DARTS_V2", "--cells=3", "--mean=0.5", "--std=0.25"]
    assert imported(monkeypatch, tmp_path, cases["network DARTS_V2"][0], *options) == 0
    file, description = tmp_path / "net" / "network.safetensors", tmp_path / "net" / "network.json"
    whole, arrays = file.read_bytes(), safetensors.numpy.load_file(file)
    name = "batch_stats/cells_1/preprocess_0/norm/var"
    arrays[name][0] = np.nan
    safetensors.numpy.save_file(arrays, file)
    refused = f"network.safetensors: {name} has numbers that are not finite"
    for command, *more in ((predict.main, "a.png"), (darts_pt_jax.experiments.export.main,)):
        assert command([str(tmp_path / "net"), *more]) == 2
        assert refused in capsys.readouterr().err
    file.write_bytes(whole)
    description.write_text(description.read_text().replace("[0.25]", "[NaN]"))
    assert darts_pt_jax.experiments.export.main([str(tmp_path / "net")]) == 2
    assert "std (nan,), expected finite numbers" in capsys.readouterr().err


def test_answers_that_are_not_finite_are_no_prediction(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    classifier = predict.Classifier(lambda images: np.full((len(images), 2), np.nan, np.float32), (8, 8, 3), 2)
    with pytest.raises(DataError, match=r"a\.png: the network answers with numbers that are not finite"):
        predict.classify(classifier, tmp_path / "a.png")
    images = np.zeros((4, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(4) % 2, test_images=images,
             test_labels=np.arange(4) % 2)  # fmt: skip
    with pytest.raises(DataError, match=r"a\.npz: the network answers with numbers that are not finite"):
        predict.evaluate(classifier, tmp_path / "a.npz", 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--genotype=DARTS_V3"], "no published name"),
        (["--genotype=DARTS_V2", "--cells=0"], "--cells is 0, expected at least 1"),
        (["--genotype=DARTS_V2", "--cells=3"], "its images have 1 channels: give a number for each by --mean and --std"),
        (["--genotype=DARTS_V2", "--cells=4", "--mean=0", "--std=1"], "expected (4, 16, 1, 1) for params/cells_3/preprocess_0/even"),
        (["--genotype=DARTS_V1", "--cells=3", "--mean=0", "--std=1"], "genotype, form, cells, channels and classes"),
        (["--genotype=DARTS_V2", "--cells=3", "--mean=0", "--std=0"], "--std has a 0"),
        (["--genotype=DARTS_V2", "--form=nasbench201"], "the nasbench201 network has normal"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_is_not_imported(cases, options, message, monkeypatch, tmp_path, capsys):
    assert imported(monkeypatch, tmp_path, cases["network DARTS_V2"][0], *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "net").exists()

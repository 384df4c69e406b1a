"""Weights of the reference implementation's PyTorch checkpoints (DARTS, DARTS-PT, NAS-Bench-201) for ours.

Tensors are told by their order, not by their names: a state dict lists them in the order in which the modules were
registered, which is the same in all descendants of the DARTS code, whatever they call their attributes. Of every tensor
the shape is checked.
"""

import collections
import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import network as networks
from darts_pt_jax import ops
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.network import AuxiliaryHead, Network
from darts_pt_jax.spaces import darts_layout
from darts_pt_jax.supernet import Supernet


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds, as NumPy arrays.

    Attributes:
      tensors: the state dict, in its order; float32 where PyTorch had any float.
      alphas: architecture parameters [E, O] in the order of the space's cell kinds; empty if there are none.
      epoch: epochs it was trained for, or None.
      weight_optimizer, alpha_optimizer: state dicts of the optimisers, or None.
    """

    tensors: dict[str, np.ndarray]
    alphas: list[np.ndarray]
    epoch: int | None = None
    weight_optimizer: dict | None = None
    alpha_optimizer: dict | None = None


def load(path) -> Checkpoint:
    """Reads a file that `torch.save` wrote; needs torch. No code in the file is run.

    Args:
      path: of a state dict, or of a dict that has it as "state_dict" or "model", and may have "alpha" (a tensor, or one for
        each cell kind), "epoch", "optimizer" and "arch_optimizer". Without "alpha", the tensors of the state dict that are
        named like architecture parameters are taken.

    Raises:
      ValueError: torch is missing, or the file is something else; one line names it and says what to do.
    """
    try:
        import torch
    except ImportError:
        raise ValueError(f"{path}: reading PyTorch checkpoints needs torch: pip install torch") from None
    try:
        content = _arrays(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # what zip and pickle make of other files is of many types
        message = str(error)
        if refused := re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", message):
            raise ValueError(
                f"{path}: it holds a {refused[1] or refused[2]}, and only tensors, numbers and containers are read: load it "
                "with the program that wrote it, and save model.state_dict() instead, or a dict with it as 'state_dict' and "
                "the alphas as 'alpha'"
            ) from error
        raise ValueError(
            f"{path}: not a whole PyTorch checkpoint ({type(error).__name__}), expected what torch.save writes"
        ) from error
    whole = content if isinstance(content, dict) else {}
    tensors = next((whole[key] for key in ("state_dict", "model") if isinstance(whole.get(key), dict)), whole)
    if not tensors or not all(isinstance(value, np.ndarray) for value in tensors.values()):
        kind = "tensor" if isinstance(content, np.ndarray) else type(content).__name__
        got = f"a dict with {', '.join(map(str, list(content)[:5]))}" if whole else f"a {kind}"
        raise ValueError(f"{path}: got {got}, expected a state dict, or a dict with it as 'state_dict' or 'model'")
    if "proj_weights" in whole:
        raise ValueError(f"{path}: left amid a selection (it has 'proj_weights'): take the checkpoint after the search")
    alphas = whole.get("alpha")
    if alphas is None:
        alphas = [value for name, value in tensors.items() if _ALPHA.search(name)]
    alphas = [alphas] if isinstance(alphas, np.ndarray) else alphas
    if not isinstance(alphas, list) or not all(isinstance(value, np.ndarray) for value in alphas):
        raise ValueError(f"{path}: got a {type(alphas).__name__} as 'alpha', expected a tensor or a list of tensors")
    epoch = whole.get("epoch")
    optimizers = (value if isinstance(value := whole.get(k), dict) else None for k in ("optimizer", "arch_optimizer"))
    return Checkpoint(tensors, alphas, epoch if isinstance(epoch, int) else None, *optimizers)


def _arrays(value):
    """Tensors as arrays, in containers of any depth."""
    if isinstance(value, Mapping):
        return {key: _arrays(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(entry) for entry in value]
    return value.detach().float().numpy() if hasattr(value, "detach") else value


_ALPHA = re.compile("alpha|arch_param")


def _weights(tensors: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The tensors that are weights or running statistics, with their names."""
    return [(n, a) for n, a in tensors.items() if not n.endswith("num_batches_tracked") and not _ALPHA.search(n)]


_ORDER = (
    "stem_conv", "stem_norm", "stem_conv_a", "stem_norm_a", "stem_conv_b", "stem_norm_b", "stem_conv_c", "stem_norm_c",
    "cells", "auxiliary", "final_norm",
    "preprocess_0", "preprocess_1", "edges",
    "reduce", "block", "even", "odd", "conv", "conv_a", "norm_a", "conv_b", "norm_b", "norm", "shortcut", "head",
    "kernel", "depthwise", "pointwise", "scale", "bias", "mean", "var",
)  # fmt: skip
"""Names within our variables, so that of any two in one module the first is registered first in the reference's."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a tensor belongs: in the leaf `path`, as row `row` of a stacked one; `shape` is PyTorch's."""

    key: tuple
    path: tuple[str, ...]
    row: int | None
    shape: tuple[int, ...]

    def __str__(self):
        return "/".join(self.path) + ("" if self.row is None else f", row {self.row}")


def _places(net: Supernet | Network, like: Mapping) -> list[_Place]:
    """The places of all tensors, in the reference's order; of what edges share, one for every edge."""
    places = []
    for entries, leaf in jax.tree_util.tree_leaves_with_path(like):
        path = tuple(entry.key for entry in entries)
        group = net.group_of(path) if isinstance(net, Supernet) else None
        edges = zip(group.edges, group.candidates, strict=True) if group else [None]
        stacked = group is not None and ops.differs_by_edge(group.operation, group.stride)
        shape = leaf.shape[1:] if stacked else leaf.shape
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        for row, edge in enumerate(edges):
            key = tuple(_rank(name, path, edge) for name in path[1:])
            places.append(_Place(key, path, row if group else None, shape))
    return sorted(places, key=lambda place: place.key)


def _rank(name: str, path: tuple[str, ...], edge: tuple[int, int] | None) -> tuple[int, ...]:
    """How a name ranks in its module; `edge` is the supernet's, with the candidate's position."""
    if name.startswith("cells_"):
        return _ORDER.index("cells"), int(name[6:])
    if name.startswith("from_"):
        return _ORDER.index("edges"), *(edge or ())
    if of_node := re.match(r"node_(\d+)_(\d+)_", name):
        return _ORDER.index("edges"), *map(int, of_node.groups())
    if name not in _ORDER:
        raise ValueError(f"{'/'.join(path)}: the reference implementation has nothing like it")
    return (_ORDER.index(name),)


def variables(tensors: Mapping[str, np.ndarray], net: Supernet | Network, like: Mapping) -> dict:
    """A state dict as variables of a supernet or a discrete network.

    Args:
      tensors: the state dict, in its order; architecture parameters and counts of batches in it are left out, and the
        auxiliary head, if `net` has none.
      net: the network. Its genotype has to list the inputs of a node in the order that the weights were trained with.
      like: shapes of "params" and "batch_stats", or of one of them if `tensors` are of those alone.

    Returns:
      float32 arrays, shaped `like`. Running statistics that several edges have one of (`Supernet`) are those of the first;
      where the edges differ by more than 1e-5 of the largest, as after SDARTS, which skips operations now and then, it
      is their mean, and a warning says so: logits by running statistics then differ from the reference's.

    Raises:
      ValueError: a tensor has another shape than its place, there are too few or too many, or the reference has no
        such network; one line names tensor and place.
    """
    of, places = _weights(tensors), _places(net, like)
    if isinstance(net, Network) and not net.auxiliary:
        of = _without_auxiliary(of, net, places)
    found = collections.defaultdict(list)
    for (name, array), place in zip(of, places, strict=False):
        if array.shape != place.shape:
            what = "space, cells" if isinstance(net, Supernet) else "genotype, form, cells"
            raise ValueError(
                f"{name}: got shape {array.shape}, expected {place.shape} for {place}: "
                f"{what}, channels and classes have to be those of the checkpoint"
            )
        array = np.asarray(array, np.float32)
        found[place.path].append(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)
    if len(of) != len(places):
        left = of[len(places) :]
        rest = f"{left[0][0]} {left[0][1].shape} is left over" if left else f"nothing is left for {places[len(of)]}"
        raise ValueError(f"got {len(of)} tensors, the network has {len(places)}: {rest}")
    differing = {}

    def leaf(entries, shape):
        path = tuple(entry.key for entry in entries)
        rows = np.stack(found[path])
        if len(rows) == 1 or rows.shape == shape.shape:
            return rows.reshape(shape.shape)
        difference = abs(rows - rows[0]).max() / max(abs(rows).max(), 1e-30)
        if difference <= 1e-5:
            return rows[0]
        differing[path] = difference
        return rows.mean(0)

    taken = jax.tree_util.tree_map_with_path(leaf, like)
    if differing:
        worst = max(differing, key=differing.__getitem__)
        warnings.warn(
            f"{len(differing)} running statistics, of what several edges share here, differ by edge (by up to "
            f"{100 * differing[worst]:.2g}% in {'/'.join(worst)}): their means are taken",
            stacklevel=2,
        )
    return taken


def _without_auxiliary(of: list, net: Network, places: list[_Place]) -> list:
    """The tensors less those of an auxiliary head, if there are just as many more than places."""
    if net.form == "nasbench201":
        return of
    layout = darts_layout(net.cells)[: 2 * net.cells // 3 + 1]
    channels = net.channels * 2 ** layout.count("reduce") * len(net.genotype.outputs[layout[-1]])
    head = AuxiliaryHead(net.classes, net.form == "imagenet")  # which looks at 2 x 2 pixels, whatever the image
    like = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, 8, 8, channels))))
    extra = _places(net, {name: {"auxiliary": part} for name, part in like.items()})
    start = next(i for i, place in enumerate(places) if place.path[1] == "head")
    between = [array.shape for _, array in of[start : start + len(extra)]]
    if len(of) != len(places) + len(extra) or between != [place.shape for place in extra]:
        return of
    return of[:start] + of[start + len(extra) :]


def network_of(tensors: Mapping[str, np.ndarray], genotype: Genotype, cells: int, form: str = "auto") -> Network:
    """The network, without auxiliary head, that a state dict is of, as far as its shapes tell.

    Args:
      tensors: the state dict, in its order.
      genotype: its architecture.
      cells: its depth, as `Network` counts it.
      form: one of `network.FORMS`, or "auto": nasbench201 if cells have one input, imagenet if two 3x3 convolutions stand
        before the first cell, else cifar.

    Raises:
      ValueError: the genotype has no place in the form, or the tensors are not of such a network.
    """
    arrays = [array for _, array in _weights(tensors)]
    first, second, *_ = [*(array.shape for array in arrays if array.ndim == 4), (), ()]
    if not first or not second or arrays[-1].ndim != 1:
        raise ValueError(f"got {len(arrays)} tensors, expected convolutions, and a classifier's bias as the last")
    if form == "auto":
        strided = second[2:] == (3, 3)
        form = networks.form_of(genotype)
        form = "imagenet" if form == "cifar" and strided else form
    networks.check(genotype, form)
    channels = {"cifar": first[0] // 3, "imagenet": second[0], "nasbench201": first[0]}[form]
    return Network(genotype, form, cells, channels, len(arrays[-1]))


def image_channels(tensors: Mapping[str, np.ndarray]) -> int:
    """Channels of the images that a network's first convolution takes."""
    return next(array.shape[1] for _, array in _weights(tensors) if array.ndim == 4)


def optimizer_values(state: Any, name: str) -> list[np.ndarray | None]:
    """One value of a PyTorch optimiser's state dict for every parameter, in their order; None where it has none.

    Args:
      state: the state dict, or None.
      name: "momentum_buffer", "exp_avg", "exp_avg_sq" or "step".
    """
    try:
        order = [number for group in state["param_groups"] for number in group["params"]]
        return [state["state"].get(number, {}).get(name) for number in order]
    except (TypeError, KeyError, AttributeError):
        return []

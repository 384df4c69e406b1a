"""The reference implementation's weights (DARTS, DARTS-PT, NAS-Bench-201) as our variables.

Tensors are matched by their order, not by their names: a state dict lists them in the order in which the modules were
registered, which is the same in all descendants of the DARTS code, whatever they call their attributes. The shape of
every tensor is checked.
"""

import collections
import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import network as networks
from darts_pt_jax import ops
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop.torch_checkpoints import is_alpha
from darts_pt_jax.network import AuxiliaryHead, Network
from darts_pt_jax.spaces import darts_layout
from darts_pt_jax.supernet import Supernet

Path = tuple[str, ...]
"""The names that lead to an array in our variables: ("params", "cells_0", ...)."""


Named = list[tuple[str, np.ndarray]]
"""Tensors with their names, in the order of the state dict."""


def _weights(tensors: Mapping[str, np.ndarray]) -> Named:
    """The tensors that are weights or running statistics."""
    return [
        (name, array)
        for name, array in tensors.items()
        if not name.endswith("num_batches_tracked") and not is_alpha(name)
    ]


_ORDER = (
    "stem_conv", "stem_norm", "stem_conv_a", "stem_norm_a", "stem_conv_b", "stem_norm_b", "stem_conv_c", "stem_norm_c",
    "cells", "auxiliary", "final_norm",
    "preprocess_0", "preprocess_1", "edges",
    "reduce", "block", "even", "odd", "conv", "conv_a", "norm_a", "conv_b", "norm_b", "norm", "shortcut", "head",
    "kernel", "depthwise", "pointwise", "scale", "bias", "mean", "var",
)  # fmt: skip
"""Names in our variables: of two names in one module, the reference registers first the one that stands first here."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a tensor belongs.

    Attributes:
      rank: sorts places into the reference's order.
      path: the array in our variables.
      row: the row of an array that several edges share or that is stacked by edge; else None.
      shape: PyTorch's shape of the tensor.
    """

    rank: tuple[tuple[int, ...], ...]
    path: Path
    row: int | None
    shape: tuple[int, ...]

    def __str__(self):
        return "/".join(self.path) + ("" if self.row is None else f", row {self.row}")


def _places(net: Supernet | Network, like: Mapping) -> list[_Place]:
    """The places of all tensors, in the reference's order. An array that several edges share has one for every edge."""
    places = []
    for entries, leaf in jax.tree_util.tree_leaves_with_path(like):
        path = _path(entries)
        group = net.group_of(path) if isinstance(net, Supernet) else None
        if group is None:
            places.append(_Place(_ranks(path), path, None, _torch_shape(leaf.shape)))
            continue
        stacked = ops.differs_by_edge(group.operation, group.stride)
        shape = _torch_shape(leaf.shape[1:] if stacked else leaf.shape)
        for row, edge in enumerate(zip(group.edges, group.candidates, strict=True)):
            places.append(_Place(_ranks(path, edge), path, row, shape))
    return sorted(places, key=lambda place: place.rank)


def _path(entries: Sequence[Any]) -> Path:
    return tuple(entry.key for entry in entries)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of an array of ours: [H, W, I, O] is [O, I, H, W] there, [I, O] is [O, I]."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _ours(tensor: np.ndarray) -> np.ndarray:
    """A tensor in our layout: [O, I, H, W] to [H, W, I, O], [O, I] to [I, O]."""
    array = np.asarray(tensor, np.float32)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _ranks(path: Path, edge: tuple[int, int] | None = None) -> tuple[tuple[int, ...], ...]:
    """The `_rank` of every name of a path below "params" or "batch_stats"."""
    return tuple(_rank(name, path, edge) for name in path[1:])


def _rank(name: str, path: Path, edge: tuple[int, int] | None) -> tuple[int, ...]:
    """How a name ranks in its module; `edge` is a supernet's edge and the position of its candidate."""
    if name.startswith("cells_"):
        return _ORDER.index("cells"), int(name[6:])
    if name.startswith("from_") and edge:
        return _ORDER.index("edges"), *edge
    if node_and_input := re.match(r"node_(\d+)_(\d+)_", name):
        return _ORDER.index("edges"), *map(int, node_and_input.groups())
    if name not in _ORDER:
        raise ValueError(f"{'/'.join(path)}: the reference implementation has nothing like it")
    return (_ORDER.index(name),)


def variables(tensors: Mapping[str, np.ndarray], net: Supernet | Network, like: Mapping) -> dict:
    """A state dict as variables of a supernet or a discrete network.

    Edges of a supernet may share running statistics that the reference keeps for each edge. The first edge's are taken,
    unless they differ by more than 1e-5 of the largest value. That happens after SDARTS, which sometimes skips
    operations. Then the mean is taken, logits from running statistics differ from the reference's, and a warning says so.

    Args:
      tensors: the state dict, in its order. Architecture parameters and batch counts in it are ignored, as is the
        auxiliary head if `net` has none.
      net: the network. Its genotype has to list the inputs of a node in the order that the weights were trained with.
      like: shapes of "params" and "batch_stats", or of one of them if `tensors` are of those alone.

    Returns:
      float32 arrays, shaped `like`.

    Raises:
      ValueError: a tensor has another shape than its place, there are too few or too many, or the reference has no
        such network; one line names tensor and place.
    """
    rows, different = _rows(tensors, net, like), {}

    def merged(entries: Sequence[Any], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        path = _path(entries)
        arrays = np.stack(rows[path])
        if len(arrays) == 1 or arrays.shape == leaf.shape:
            return arrays.reshape(leaf.shape)
        difference = abs(arrays - arrays[0]).max() / max(abs(arrays).max(), 1e-30)
        if difference <= 1e-5:
            return arrays[0]
        different[path] = difference
        return arrays.mean(0)

    result = jax.tree_util.tree_map_with_path(merged, like)
    if different:
        worst = max(different, key=lambda path: different[path])
        warnings.warn(
            f"{len(different)} running statistics, of what several edges share here, differ by edge (by up to "
            f"{100 * different[worst]:.2g}% in {'/'.join(worst)}): their means are taken",
            stacklevel=2,
        )
    return result


def _rows(tensors: Mapping[str, np.ndarray], net: Supernet | Network, like: Mapping) -> dict[Path, list[np.ndarray]]:
    """The tensors of every array of ours, in our layout: one, or one for each edge."""
    named, places = _weights(tensors), _places(net, like)
    if isinstance(net, Network) and not net.auxiliary:
        named = _without_auxiliary(named, net, places)
    rows = collections.defaultdict(list)
    for (name, tensor), place in zip(named, places, strict=False):  # the first that does not fit says more than a count
        if tensor.shape != place.shape:
            what = "space, cells" if isinstance(net, Supernet) else "genotype, form, cells"
            raise ValueError(
                f"{name}: got shape {tensor.shape}, expected {place.shape} for {place}: "
                f"{what}, channels and classes have to be those of the checkpoint"
            )
        rows[place.path].append(_ours(tensor))
    counts = f"got {len(named)} tensors, the network has {len(places)}"
    if len(named) > len(places):
        name, tensor = named[len(places)]
        raise ValueError(f"{counts}: {name} {tensor.shape} is left over")
    if len(named) < len(places):
        raise ValueError(f"{counts}: nothing is left for {places[len(named)]}")
    return rows


def _without_auxiliary(named: Named, net: Network, places: list[_Place]) -> Named:
    """The tensors without those of an auxiliary head, if there is one."""
    if net.form == "nasbench201":
        return named
    extra = _auxiliary_places(net)
    start = next(i for i, place in enumerate(places) if place.path[1] == "head")
    end = start + len(extra)
    shapes = [tensor.shape for _, tensor in named[start:end]]
    if len(named) != len(places) + len(extra) or shapes != [place.shape for place in extra]:
        return named
    return named[:start] + named[end:]


def _auxiliary_places(net: Network) -> list[_Place]:
    """The places of the auxiliary head that a network like `net` would have."""
    layout = darts_layout(net.cells)[: 2 * net.cells // 3 + 1]
    channels = net.channels * 2 ** layout.count("reduce") * len(net.genotype.outputs[layout[-1]])
    head = AuxiliaryHead(net.classes, net.form == "imagenet")
    features = jnp.zeros((1, 8, 8, channels))  # the shapes of its weights do not depend on the height and width
    like = jax.eval_shape(lambda: head.init(jax.random.key(0), features))
    return _places(net, {collection: {"auxiliary": arrays} for collection, arrays in like.items()})


def network_of(tensors: Mapping[str, np.ndarray], genotype: Genotype, cells: int, form: str = "auto") -> Network:
    """The network of a state dict, without auxiliary head; form, channels and classes come from the tensors' shapes.

    Args:
      tensors: the state dict, in its order.
      genotype: its architecture.
      cells: its depth, as `Network` counts it.
      form: one of `network.FORMS`, or "auto": nasbench201 if cells have one input, imagenet if two 3x3 convolutions stand
        before the first cell, else cifar.

    Raises:
      ValueError: the genotype does not fit the form, or the tensors are not of such a network.
    """
    arrays = [array for _, array in _weights(tensors)]
    kernels = [array.shape for array in arrays if array.ndim == 4]
    if len(kernels) < 2 or arrays[-1].ndim != 1:
        raise ValueError(f"got {len(arrays)} tensors, expected convolutions, and a classifier's bias as the last")
    (stem_channels, *_), (second_channels, _, *second_size) = kernels[:2]
    if form == "auto":
        form = networks.form_of(genotype)
        if form == "cifar" and second_size == [3, 3]:
            form = "imagenet"
    networks.check(genotype, form)
    channels = {"cifar": stem_channels // 3, "imagenet": second_channels, "nasbench201": stem_channels}
    return Network(genotype, form, cells, channels[form], len(arrays[-1]))


def image_channels(tensors: Mapping[str, np.ndarray]) -> int:
    """The number of channels of the images, from a network's first convolution."""
    return next(array.shape[1] for _, array in _weights(tensors) if array.ndim == 4)

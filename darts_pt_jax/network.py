"""The discrete network of a genotype, as it is retrained (DARTS, sections 3.2 and A.2).

BatchNorm is affine, and none follows pooling. There are three forms: "cifar", "imagenet" (three strided convolutions
before the first cell) and "nasbench201". The first two may have an auxiliary head, which helps training and is no part of
the network that is kept.
"""

import functools
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import counting, kernels, ops
from darts_pt_jax.genotype import Genotype, Node
from darts_pt_jax.spaces import RESIDUAL_BLOCK, SearchSpace, darts_layout, nasbench201_layout

FORMS = ("cifar", "imagenet", "nasbench201")

REDUCTION = "reduce"
"""The kind of the reduction cells. A genotype tells kinds by their names alone (`darts_layout` places them by name)."""


class DiscreteCell(nn.Module):
    """One cell.

    Attributes:
      nodes: the inputs of each node, as (operation, source state).
      outputs: the states that are concatenated.
      channels: C, of every state inside the cell.
      inputs: the number of states that the cell starts from: two are preprocessed to `channels`, one is taken as it is.
      reduction: whether operations on the cell's inputs halve height and width.
      after_reduction: whether the previous cell halved them, so that the older input is still twice as large.

    Call with the input states [B, H, W, C_in], whether it is training, and the probability of drop path, with which the
    output of an operation is dropped for an image. Drop path draws from the random stream "dropout", the noise operation
    from "noise". Returns [B, H, W, C * len(outputs)]; a reduction halves H and W.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    channels: int
    inputs: int
    reduction: bool
    after_reduction: bool

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], train: bool, drop_path) -> jax.Array:
        states = list(inputs)
        if self.inputs == 2:
            older = ops.FactorizedReduce if self.after_reduction else ops.ReLUConvNorm
            states[0] = older(self.channels, affine=True, name="preprocess_0")(states[0], train)
            states[1] = ops.ReLUConvNorm(self.channels, affine=True, name="preprocess_1")(states[1], train)
        for n, node in enumerate(self.nodes):
            total: Any = 0.0
            for i, (name, source) in enumerate(node):
                stride = 2 if self.reduction and source < self.inputs else 1
                make = ops.OPERATIONS[name]
                operation = make(self.channels, stride, affine=True, pool_norm=False, name=f"node_{n}_{i}_{name}")
                y = operation(states[source], train)
                identity = name == "skip_connect" and stride == 1
                total += y if identity or not train else self._dropped(y, drop_path)
            states.append(total)
        return jnp.concatenate([states[s] for s in self.outputs], -1)

    def _dropped(self, x: jax.Array, probability) -> jax.Array:
        """Drop path: zero for some of the images, scaled up for the others."""
        keep = 1 - probability
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (len(x), 1, 1, 1))
        return jnp.where(kept, x / keep, 0).astype(x.dtype)


class AuxiliaryHead(nn.Module):
    """Classifies the images after two thirds of the depth; in training only.

    Attributes:
      classes: number of classes.
      imagenet: whether the pool's stride is 2 instead of 3 and the last BatchNorm is missing, as in the DARTS code.
    """

    classes: int
    imagenet: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stride = 2 if self.imagenet else 3
        x = nn.avg_pool(kernels.relu(x), (5, 5), (stride, stride), count_include_pad=False)
        x = kernels.relu(ops.Norm(affine=True, name="norm_a")(ops.Conv(128, 1, name="conv_a")(x), True))
        x = nn.Conv(768, (2, 2), padding="VALID", use_bias=False, kernel_init=ops.torch_uniform, name="conv_b")(x)
        x = x if self.imagenet else ops.Norm(affine=True, name="norm_b")(x, True)
        return ops.Linear(self.classes, name="head")(kernels.relu(x).reshape(len(x), -1))


class Network(nn.Module):
    """The network of a genotype.

    Attributes:
      genotype: the architecture; forms cifar and imagenet need the cells "normal" and "reduce" with two inputs,
        nasbench201 "normal" with one.
      form: one of `FORMS`.
      cells: depth; in the form nasbench201, the cells of each of the three stages.
      channels: C of the first cells; doubles at every reduction.
      classes: number of classes.
      auxiliary: whether there is an auxiliary head.
      dtype: type of images and activations; parameters, statistics and logits are float32.
      remat: as `Supernet.remat`, in training only.

    Call with images [B, H, W, C_image], whether it is training (batch statistics, drop path, auxiliary head), and the
    probability of drop path. Returns logits [B, classes] twice: of the head, and of the auxiliary head or None.
    """

    genotype: Genotype
    form: str
    cells: int
    channels: int
    classes: int
    auxiliary: bool = False
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, drop_path=0.0) -> tuple[jax.Array, jax.Array | None]:
        previous, x, after_reduction = self._stem(images.astype(self.dtype), train)
        channels, auxiliary = self.channels, None
        layout = (nasbench201_layout if self.form == "nasbench201" else darts_layout)(self.cells)
        for i, kind in enumerate(layout):
            if kind == RESIDUAL_BLOCK:
                channels *= 2
                x = ops.ResidualBlock(channels, name=f"cells_{i}")(x, train)
                continue
            reduction = kind == REDUCTION
            channels *= 1 + reduction
            inputs = self.genotype.inputs(kind)
            cell_type = nn.remat(DiscreteCell, static_argnums=(2,)) if self.remat and train else DiscreteCell
            nodes, outputs = self.genotype.cells[kind], self.genotype.outputs[kind]
            cell = cell_type(nodes, outputs, channels, inputs, reduction, after_reduction, name=f"cells_{i}")
            previous, x = x, cell((previous, x)[-inputs:], train, drop_path)
            after_reduction = reduction
            if self.auxiliary and i == 2 * self.cells // 3 and (train or self.is_initializing()):
                head = AuxiliaryHead(self.classes, self.form == "imagenet", name="auxiliary")
                auxiliary = head(x).astype(jnp.float32)
        if self.form == "nasbench201":
            x = kernels.relu(ops.Norm(affine=True, name="final_norm")(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        return ops.Linear(self.classes, name="head")(x), auxiliary

    def _stem(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, bool]:
        """The two states before the first cell, and whether the older is twice as large."""
        norm = functools.partial(ops.Norm, affine=True)
        if self.form == "imagenet":
            half = ops.Conv(self.channels // 2, 3, 2, name="stem_conv_a")(x)
            half = kernels.relu(norm(name="stem_norm_a")(half, train))
            older = norm(name="stem_norm_b")(ops.Conv(self.channels, 3, 2, name="stem_conv_b")(half), train)
            newer = ops.Conv(self.channels, 3, 2, name="stem_conv_c")(kernels.relu(older))
            return older, norm(name="stem_norm_c")(newer, train), True
        multiplier = 1 if self.form == "nasbench201" else 3
        x = ops.Conv(multiplier * self.channels, 3, name="stem_conv")(x)
        x = norm(name="stem_norm")(x, train)
        return x, x, False


def form_of(genotype: Genotype) -> str:
    """The usual form of an architecture on small images, by the number of its cells' inputs."""
    return "nasbench201" if all(genotype.inputs(kind) == 1 for kind in genotype.cells) else "cifar"


def check(genotype: Genotype, form: str):
    """Refuses an architecture whose cells do not fit a form.

    Raises:
      ValueError: the form, the cell kinds, their number of inputs, or an operation is unknown.
    """
    if form not in FORMS:
        raise ValueError(f"got form {form!r}, expected one of {', '.join(FORMS)}")
    kinds, inputs = (("normal",), 1) if form == "nasbench201" else (("normal", REDUCTION), 2)
    if set(genotype.cells) != set(kinds):
        raise ValueError(f"got cells {', '.join(genotype.cells)}, the {form} network has {', '.join(kinds)}")
    for kind in kinds:
        if genotype.inputs(kind) != inputs:
            raise ValueError(f"{kind}: got {genotype.inputs(kind)} inputs, the {form} network's cells have {inputs}")
        for name in genotype.operations(kind):
            if name not in ops.OPERATIONS:
                raise ValueError(f"{kind}: got operation {name!r}, expected one of {', '.join(ops.OPERATIONS)}")


def abstract_variables(net: Network, image_shape: Sequence[int]) -> dict:
    """The shapes of a network's variables for images [H, W, C]: "params" and "batch_stats"."""
    rngs = dict.fromkeys(("params", "noise"), jax.random.key(0))
    return jax.eval_shape(lambda: net.init(rngs, jnp.zeros((1, *image_shape)), False))


def parameters(params: dict) -> int:
    """The number of parameters without the auxiliary head, as papers quote it, from arrays or their shapes."""
    return sum(leaf.size for name, part in params.items() if name != "auxiliary" for leaf in jax.tree.leaves(part))


def multiply_adds(net: Network, image_shape: Sequence[int]) -> int:
    """Multiply-adds for one image [H, W, C], as `size` counts them."""
    return size(net, image_shape)[1]


def size(net: Network, image_shape: Sequence[int]) -> tuple[int, int]:
    """Parameters, and multiply-adds for one image [H, W, C], as NAS-Bench-201 counts "FLOPs"; no auxiliary head.

    Convolutions and products of matrices count. Programs that also count BatchNorm and pooling give larger numbers.
    """
    rngs = dict.fromkeys(("params", "noise"), jax.random.key(0))
    program = functools.partial(net.clone(auxiliary=False).init_with_output, rngs, train=False)
    products, (_, variables) = counting.multiply_adds(program, (1, *image_shape))
    return parameters(variables["params"]), products


class Costs(NamedTuple):
    """What the networks of a space cost, in parameters and multiply-adds as `size` counts them.

    The cost of a network is `fixed` plus the entries of the operations on the edges that it keeps: the stem,
    preprocessing and the head depend on no choice.

    Attributes:
      fixed: int [2], of everything but the operations.
      operations: int [E, O, 2] by cell kind, of an edge's candidate in all cells of the kind; 0 where there is none.
    """

    fixed: np.ndarray
    operations: dict[str, np.ndarray]


def costs(net: Network, space: SearchSpace, image_shape: Sequence[int]) -> Costs:
    """The costs of the networks of a space for images [H, W, C]; `net` is one of them."""
    cells = []

    def look(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if isinstance(context.module, DiscreteCell) and context.method_name == "__call__":
            (*_, newer), *_ = args
            cells.append((context.module, newer.shape[1:3], y.shape[1:3]))
        return y

    with nn.intercept_methods(look):
        whole = np.array(size(net, image_shape))
    operations = {kind: np.zeros((*graph.candidate_mask.shape, 2), int) for kind, graph in space.cells.items()}
    for cell, before, after in cells:
        kind = REDUCTION if cell.reduction else "normal"
        for e, edge in enumerate(space.cells[kind].edges):
            shape, stride = (before, 2) if cell.reduction and edge.source < cell.inputs else (after, 1)
            for o, name in edge.operations:
                operations[kind][e, o] += _operation_size(ops.OPERATIONS[name], cell.channels, stride, shape)
    return Costs(whole - _of_operations(net.genotype, space, operations), operations)


def _of_operations(genotype: Genotype, space: SearchSpace, operations: dict[str, np.ndarray]) -> np.ndarray:
    """The costs [2] of the operations of an architecture."""
    total = np.zeros(2, int)
    for kind, graph in space.cells.items():
        for e, edge in enumerate(graph.edges):
            for name, source in genotype.cells[kind][edge.target - graph.inputs]:
                if source == edge.source:
                    total += operations[kind][e, edge.candidates.index(name)]
    return total


@functools.cache
def _operation_size(make: ops.MakeOperation, channels: int, stride: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Parameters and multiply-adds of an operation on an image of a shape [H, W], as `size` counts them."""
    operation = make(channels, stride, affine=True, pool_norm=False)
    rngs = dict.fromkeys(("params", "noise"), jax.random.key(0))
    program = functools.partial(operation.init_with_output, rngs, batch_statistics=False)
    products, (_, variables) = counting.multiply_adds(program, (1, *shape, channels))
    return parameters(variables.get("params", {})), products


def latency(net: Network, image_shape: Sequence[int], calls: int = 30) -> float:
    """Milliseconds for one image [H, W, C] on the default device: the median of `calls`, without compiling."""
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_variables(net, image_shape))
    image, rngs = jnp.zeros((1, *image_shape)), {"noise": jax.random.key(0)}
    apply = jax.jit(lambda variables, image: net.apply(variables, image, False, rngs=rngs)[0])

    def seconds() -> float:
        start = time.perf_counter()
        apply(variables, image).block_until_ready()
        return time.perf_counter() - start

    seconds()
    return 1000 * statistics.median(seconds() for _ in range(calls))

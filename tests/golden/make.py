"""Makes golden.npz: outputs and gradients of operations, supernets and discrete networks, and two steps of retraining.

Computed with PyTorch's own layers and optimiser.

    PYTHONPATH=. TORCH_ENVIRONMENT/bin/python tests/golden/make.py [--check]

Needs torch 2.13.0 and NumPy. --check writes nothing, and fails unless what is there is regenerated within 1e-6 of every
array's largest value. Weights, images and edge weights are drawn by name (`draw`), so that only results are kept; names
and layouts are those of the Flax modules.
"""

import argparse
import pathlib
import sys
import zlib

import numpy as np

FILE = pathlib.Path(__file__).with_name("golden.npz")
CHANNELS, CLASSES, BATCH = 4, 5, 3

OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
              "dil_conv_5x5", "nor_conv_1x1", "nor_conv_3x3", "none")  # fmt: skip
OPERATION_CASES = [
    (name, stride, affine) for name in OPERATIONS for stride in (1, 2) for affine in (False, True)
    if not (name.startswith("nor") and stride == 2)
]  # fmt: skip
SUPERNETS = {"darts": (3, 16), "s1": (3, 16), "s3": (3, 16), "nasbench201": (1, 16)}
"""Cells and image size by space."""
NETWORKS = {
    "DARTS_V2": ("cifar", 3, 32), "darts_pt_s5_0": ("cifar", 4, 32), "darts_pt_s5_1": ("imagenet", 3, 224),
    "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|": ("nasbench201", 1, 16),
}  # fmt: skip
"""Form, cells and image size by genotype."""

STEPS = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 3e-4, "clip": 0.5, "auxiliary": 0.4, "smoothing": 0.1}
"""Of the steps of retraining, on the first of the networks."""


def draw(name: str, shape) -> np.ndarray:
    """The values of an array by its name: near 1 for scales, small for biases, of variance 1 / fan-in for kernels."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rpartition("/")[-1]
    if last == "scale":
        values = 1 + 0.1 * values
    elif last == "bias":
        values = 0.1 * values
    elif last in ("kernel", "depthwise", "pointwise"):
        values = values * np.prod(shape[-4:-1] if len(shape) > 2 else shape[:1]) ** -0.5
    return values.astype(np.float32)


def edge_weights(kind: str, mask: np.ndarray) -> np.ndarray:
    """Edge weights [E, O]: rows that sum to one over the candidates."""
    weights = np.where(mask, np.exp(draw(f"weights/{kind}", mask.shape)), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def labels(batch: int) -> np.ndarray:
    """Classes of the images."""
    return np.arange(batch) % CLASSES


class Scope:
    """Parameters by name, drawn when they are first asked for."""

    multiply_adds = 0

    def __init__(self, values: dict | None = None, prefix: str = ""):
        self.values, self.prefix = {} if values is None else values, prefix

    def __truediv__(self, name: str) -> "Scope":
        return Scope(self.values, f"{self.prefix}{name}/")

    def row(self, name: str, count: int, index: int) -> "Scope":
        """The scope of one row of stacked parameters."""
        return Row(self.values, f"{self.prefix}{name}/", count, index)

    def get(self, name: str, shape):
        """A parameter, as a tensor that gathers gradients."""
        name = self.prefix + name
        if name not in self.values:
            self.values[name] = torch.tensor(draw(name, shape), requires_grad=True)
        return self.values[name]


class Row(Scope):
    """A scope whose parameters are rows of stacked ones."""

    def __init__(self, values: dict, prefix: str, count: int, index: int):
        super().__init__(values, prefix)
        self.count, self.index = count, index

    def __truediv__(self, name: str) -> "Row":
        return Row(self.values, f"{self.prefix}{name}/", self.count, self.index)

    def get(self, name: str, shape):
        return super().get(name, (self.count, *shape))[self.index]


def conv(scope, x, channels, kernel, stride=1, padding=None):
    weight = scope.get("kernel", (kernel, kernel, x.shape[1], channels)).permute(3, 2, 0, 1).contiguous()
    y = functional.conv2d(x, weight, None, stride, kernel // 2 if padding is None else padding)
    Scope.multiply_adds += y[0, 0].numel() * weight.numel()
    return y


def separable(scope, x, channels, kernel, stride, dilation=1):
    c = x.shape[1]
    depthwise = scope.get("depthwise", (kernel, kernel, 1, c)).permute(3, 2, 0, 1).contiguous()
    x = functional.conv2d(x, depthwise, None, stride, dilation * (kernel // 2), dilation, c)
    pointwise = scope.get("pointwise", (1, 1, c, channels)).permute(3, 2, 0, 1).contiguous()
    Scope.multiply_adds += x[0, 0].numel() * (depthwise.numel() + pointwise.numel())
    return functional.conv2d(x, pointwise)


def norm(scope, x, affine):
    shape = (x.shape[1],)
    scale, bias = (scope.get("scale", shape), scope.get("bias", shape)) if affine else (None, None)
    return functional.batch_norm(x, None, None, scale, bias, training=True)


def relu_conv_norm(scope, x, channels, kernel=1, stride=1, affine=False):
    return norm(scope / "norm", conv(scope / "conv", x.relu(), channels, kernel, stride), affine)


def factorized_reduce(scope, x, channels, affine):
    x = x.relu()
    even = conv(scope / "even", x, channels // 2, 1, 2)
    odd = conv(scope / "odd", x[:, :, 1:, 1:], channels - channels // 2, 1, 2)
    return norm(scope / "norm", torch.cat((even, odd), 1), affine)


def residual_block(scope, x, channels):
    y = relu_conv_norm(scope / "conv_a", x, channels, 3, 2, affine=True)
    y = relu_conv_norm(scope / "conv_b", y, channels, 3, 1, affine=True)
    return y + conv(scope / "shortcut", functional.avg_pool2d(x, 2), channels, 1)


def operation(scope, name, x, stride, affine, pool_norm):
    channels, (kind, _, size) = x.shape[1], name.rpartition("_")
    if name == "none":
        return x[:, :, ::stride, ::stride] * 0
    if name == "skip_connect":
        return x if stride == 1 else factorized_reduce(scope / "reduce", x, channels, affine)
    if kind == "max_pool":
        x = functional.max_pool2d(x, 3, stride, 1)
        return norm(scope / "norm", x, affine) if pool_norm else x
    if kind == "avg_pool":
        x = functional.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        return norm(scope / "norm", x, affine) if pool_norm else x
    if kind == "nor_conv":
        return relu_conv_norm(scope / "block", x, channels, int(size[0]), stride, affine)
    if kind == "dil_conv":
        return norm(scope / "norm", separable(scope / "conv", x.relu(), channels, int(size[0]), stride, 2), affine)
    for part, step in (("a", stride), ("b", 1)):
        x = separable(scope / f"conv_{part}", x.relu(), channels, int(size[0]), step)
        x = norm(scope / f"norm_{part}", x, affine)
    return x


def preprocessed(scope, states, channels, after_reduction, affine):
    if len(states) == 1:
        return states
    if after_reduction:
        older = factorized_reduce(scope / "preprocess_0", states[0], channels, affine)
    else:
        older = relu_conv_norm(scope / "preprocess_0", states[0], channels, affine=affine)
    return [older, relu_conv_norm(scope / "preprocess_1", states[1], channels, affine=affine)]


def head(scope, x):
    Scope.multiply_adds += (x.shape[1] + 1) * CLASSES
    return x @ scope.get("kernel", (x.shape[1], CLASSES)) + scope.get("bias", (CLASSES,))


def skeleton(scope, x, layout, channels, stem, cell, inputs):
    """Stem, cells, head; `cell(scope, kind, states, channels, after_reduction)`."""
    x = norm(scope / "stem_norm", conv(scope / "stem_conv", x, stem * channels, 3), True)
    return body(scope, x, x, False, layout, channels, cell, inputs)


def body(scope, previous, x, after_reduction, layout, channels, cell, inputs):
    for i, kind in enumerate(layout):
        if kind == "residual_block":
            channels *= 2
            x = residual_block(scope / f"cells_{i}", x, channels)
            continue
        channels *= 2 if kind == "reduce" else 1
        states = [previous, x][-inputs:]
        previous, x = x, cell(scope / f"cells_{i}", i, kind, states, channels, after_reduction)
        after_reduction = kind == "reduce"
    if inputs == 1:
        x = norm(scope / "final_norm", x, True).relu()
    return head(scope / "head", x.mean((2, 3)))


def supernet(scope, space, layout, x, weights):
    def cell(scope, _, kind, states, channels, after_reduction):
        graph = space.cells[kind]
        states = preprocessed(scope, states, channels, after_reduction, False)
        for state in graph.node_states:
            total = 0
            for e in graph.incoming(state):
                edge = graph.edges[e]
                for o, name in edge.operations:
                    (group,) = (
                        g
                        for g in graph.groups
                        if (
                            g.source,
                            g.operation,
                            g.stride,
                        )
                        == (edge.source, name, edge.stride)
                    )
                    row = scope.row(group.label, len(group.edges), group.edges.index(e))
                    total = total + weights[kind][e, o] * operation(
                        row, name, states[edge.source], edge.stride, False, space.pool_norm
                    )
            states.append(total)
        return torch.cat([states[s] for s in graph.outputs], 1)

    inputs = next(iter(space.cells.values())).inputs
    return skeleton(scope, x, layout, CHANNELS, space.stem_multiplier, cell, inputs)


def network(scope, genotype, form, cells, x):
    """Logits and, of cifar and imagenet, those of the auxiliary head."""
    auxiliary = []

    def cell(scope_, i, kind, states, channels, after_reduction):
        inputs = len(states)
        states = preprocessed(scope_, states, channels, after_reduction, True)
        for n, node in enumerate(genotype.cells[kind]):
            total = 0
            for j, (name, source) in enumerate(node):
                stride = 2 if kind == "reduce" and source < inputs else 1
                total = total + operation(scope_ / f"node_{n}_{j}_{name}", name, states[source], stride, True, False)
            states.append(total)
        out = torch.cat([states[s] for s in genotype.outputs[kind]], 1)
        if i == 2 * cells // 3 and form != "nasbench201":
            auxiliary.append(auxiliary_head(scope / "auxiliary", out, form))
        return out

    Scope.multiply_adds = 0
    if form == "nasbench201":
        return [skeleton(scope, x, nasbench201_layout(cells), CHANNELS, 1, cell, 1)]
    layout = darts_layout(cells)
    if form == "cifar":
        return [skeleton(scope, x, layout, CHANNELS, 3, cell, 2), *auxiliary]
    x = norm(scope / "stem_norm_a", conv(scope / "stem_conv_a", x, CHANNELS // 2, 3, 2), True).relu()
    older = norm(scope / "stem_norm_b", conv(scope / "stem_conv_b", x, CHANNELS, 3, 2), True)
    newer = norm(scope / "stem_norm_c", conv(scope / "stem_conv_c", older.relu(), CHANNELS, 3, 2), True)
    return [body(scope, older, newer, True, layout, CHANNELS, cell, 2), *auxiliary]


def auxiliary_head(scope, x, form):
    x = functional.avg_pool2d(x.relu(), 5, 2 if form == "imagenet" else 3, 0, count_include_pad=False)
    x = norm(scope / "norm_a", conv(scope / "conv_a", x, 128, 1), True).relu()
    x = conv(scope / "conv_b", x, 768, 2, padding=0)
    x = x if form == "imagenet" else norm(scope / "norm_b", x, True)
    return head(scope / "head", x.relu().flatten(1))


def results(case: str, outputs, images, scope: Scope, others: dict) -> dict[str, np.ndarray]:
    """Outputs of a case and, of the cross-entropy of logits or a projection of images, all gradients."""
    loss = 0
    for y in outputs:
        logits = y.ndim == 2
        loss = loss + (functional.cross_entropy(y, torch.tensor(labels(len(y)))) if logits else
                       (y * torch.tensor(draw(f"direction/{case}", y.shape))).mean())  # fmt: skip
    leaves = {"images": images, **others, **{f"params/{name}": value for name, value in scope.values.items()}}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True) if loss.requires_grad else []
    arrays = {f"{case} output {i}": y.detach().numpy() for i, y in enumerate(outputs)}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=False):
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        arrays[f"{case} gradient {name}"] = thinned(gradient.numpy())
    return arrays


def steps(case: str, genotype, form, cells, images) -> dict[str, np.ndarray]:
    """How two steps of retraining change every parameter."""
    scope, target = Scope(), torch.tensor(labels(BATCH))
    network(scope, genotype, form, cells, images)  # draws the parameters
    before = {name: value.detach().clone() for name, value in scope.values.items()}
    params = list(scope.values.values())
    optimizer = torch.optim.SGD(
        params, STEPS["learning_rate"], momentum=STEPS["momentum"], weight_decay=STEPS["weight_decay"]
    )
    for _ in range(2):
        optimizer.zero_grad()
        parts = network(scope, genotype, form, cells, images)
        losses = [functional.cross_entropy(y, target, label_smoothing=STEPS["smoothing"]) for y in parts]
        (losses[0] + STEPS["auxiliary"] * losses[1]).backward()
        torch.nn.utils.clip_grad_norm_(params, STEPS["clip"])
        optimizer.step()
    return {f"{case} {name}": thinned((scope.values[name].detach() - before[name]).numpy()) for name in before}


def thinned(values: np.ndarray) -> np.ndarray:
    """Of a large array, some 10,000 entries, flat."""
    return values if values.size <= 20000 else values.ravel()[:: values.size // 10000]


def make() -> dict[str, np.ndarray]:
    """All arrays of the file."""
    arrays = {}

    def images_of(case, size, channels=3):
        return torch.tensor(draw(f"images/{case}", (BATCH, size, size, channels)), requires_grad=True)

    for name, stride, affine in OPERATION_CASES:
        case, scope = f"operation {name} {stride} {affine}", Scope()
        x = images_of(case, 8, CHANNELS)
        y = operation(scope, name, x.permute(0, 3, 1, 2).contiguous(), stride, affine, pool_norm=not affine)
        arrays |= results(case, [y.permute(0, 2, 3, 1)], x, scope, {})
    for name, (cells, size) in SUPERNETS.items():
        case, space, scope = f"supernet {name}", SPACES[name], Scope()
        x = images_of(case, size)
        weights = {
            k: torch.tensor(edge_weights(k, g.candidate_mask), requires_grad=True) for k, g in space.cells.items()
        }
        logits = supernet(scope, space, space.layout(cells), x.permute(0, 3, 1, 2).contiguous(), weights)
        arrays |= results(case, [logits], x, scope, {f"weights/{k}": w for k, w in weights.items()})
    for name, (form, cells, size) in NETWORKS.items():
        case, scope = f"network {name}", Scope()
        x = images_of(case, size)
        outputs = network(scope, find(name), form, cells, x.permute(0, 3, 1, 2).contiguous())
        arrays |= results(case, outputs, x.detach() if size > 32 else x, scope, {})
        arrays[f"multiply-adds {name}"] = np.array(Scope.multiply_adds)
        if not any(key.startswith("steps ") for key in arrays):
            arrays |= steps("steps", find(name), form, cells, x.detach().permute(0, 3, 1, 2).contiguous())
    return arrays


def main() -> int:
    """Writes or checks the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is there")
    asked, arrays = parser.parse_args(), make()
    if not asked.check:
        np.savez_compressed(FILE, **arrays)
        print(f"{FILE}: {len(arrays)} arrays, {FILE.stat().st_size / 1e6:.1f} MB")
        return 0
    with np.load(FILE) as before:
        if set(before) != set(arrays):
            sys.exit(f"error: {FILE} has other arrays")
        worst = max(abs(before[n] - a).max() / max(abs(a).max(), 1e-9) for n, a in arrays.items() if a.size)
    print(f"largest relative difference {worst:.1e}")
    return int(worst > 1e-6)


if __name__ == "__main__":
    import torch
    from torch.nn import functional

    from darts_pt_jax.interop.published import find
    from darts_pt_jax.spaces import SPACES, darts_layout, nasbench201_layout

    sys.exit(main())

"""Makes torch_checkpoints.npz: state dicts of supernets and discrete networks in PyTorch, in order, and their logits.

    PYTHONPATH=. TORCH_ENVIRONMENT/bin/python tests/golden/checkpoints.py [--save FOLDER]

Needs torch 2.13.0 and NumPy. The modules have the attributes, and register them in the order, of the DARTS code and of
NAS-Bench-201. Running statistics are those that a few training passes leave; logits are of evaluation. --save also
writes every state dict with alphas as `torch.save` does, a .pt for each case.
"""

import argparse
import json
import pathlib

import numpy as np

from tests.golden.make import draw, edge_weights

FILE = pathlib.Path(__file__).with_name("torch_checkpoints.npz")
CHANNELS, CLASSES, BATCH, IMAGE_CHANNELS = 2, 10, 4, 1
SUPERNETS = {"darts": (3, 16), "s2": (3, 16), "nasbench201": (1, 8)}
"""Cells and image size by space."""
ARCH = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"
NETWORKS = {"DARTS_V2": ("cifar", 3, 32), ARCH: ("nasbench201", 1, 8), "darts_pt_s5_0": ("imagenet", 3, 64)}
"""Form, cells and image size by genotype; cifar and imagenet have an auxiliary head."""


def images(case: str, size: int) -> np.ndarray:
    """The images [B, H, W, C] of a case."""
    return draw(f"images/{case}", (BATCH, size, size, IMAGE_CHANNELS))


def read() -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
    """State dict and logits of every case."""
    cases = {}
    with np.load(FILE) as file:
        for case, tensors in json.loads(str(file["tensors"])).items():
            values, state = file[case], {}
            for name, shape in tensors:
                size = int(np.prod(shape))
                state[name], values = values[:size].reshape(shape), values[size:]
            cases[case] = state, file[f"{case} logits"]
    return cases


def main():
    """Writes the file."""
    import torch
    from torch import nn

    from darts_pt_jax.interop.published import find
    from darts_pt_jax.spaces import SPACES, darts_layout, nasbench201_layout

    class Zero(nn.Module):
        def __init__(self, stride):
            super().__init__()
            self.stride = stride

        def forward(self, x):
            return x[:, :, :: self.stride, :: self.stride] * 0

    class ReLUConvBN(nn.Module):
        def __init__(self, c_in, c_out, kernel, stride, affine):
            super().__init__()
            conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
            self.op = nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out, affine=affine))

        def forward(self, x):
            return self.op(x)

    class FactorizedReduce(nn.Module):
        def __init__(self, c_in, c_out, affine):
            super().__init__()
            self.relu = nn.ReLU()
            self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
            self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
            self.bn = nn.BatchNorm2d(c_out, affine=affine)

        def forward(self, x):
            x = self.relu(x)
            return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))

    class Separable(nn.Module):
        def __init__(self, c, kernel, stride, dilation, times, affine):
            super().__init__()
            parts = []
            for n in range(times):
                padding, groups = dilation * (kernel // 2), {"groups": c, "bias": False}
                parts += [nn.ReLU(), nn.Conv2d(c, c, kernel, 1 if n else stride, padding, dilation, **groups)]
                parts += [nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c, affine=affine)]
            self.op = nn.Sequential(*parts)

        def forward(self, x):
            return self.op(x)

    def operation(name, c, stride, affine, pool_norm):
        kind, _, size = name.rpartition("_")
        if name == "none":
            return Zero(stride)
        if name == "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine)
        if kind == "nor_conv":
            return ReLUConvBN(c, c, int(size[0]), stride, affine)
        if kind == "sep_conv":
            return Separable(c, int(size[0]), stride, 1, 2, affine)
        if kind == "dil_conv":
            return Separable(c, int(size[0]), stride, 2, 1, affine)
        average = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        pool = nn.MaxPool2d(3, stride, 1) if kind == "max_pool" else average
        return nn.Sequential(pool, nn.BatchNorm2d(c, affine=False)) if pool_norm else pool

    class MixedOp(nn.Module):
        def __init__(self, names, c, stride, pool_norm):
            super().__init__()
            self._ops = nn.ModuleList(operation(name, c, stride, False, pool_norm) for name in names)

        def forward(self, x, weights):
            return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))

    class Cell(nn.Module):
        """Of a DARTS supernet if it has a graph, else of a discrete network."""

        def __init__(self, c_before, c_in, c, reduction, after_reduction, graph, nodes):
            super().__init__()
            affine = graph is None
            self.preprocess0 = (
                FactorizedReduce(c_before, c, affine) if after_reduction else ReLUConvBN(c_before, c, 1, 1, affine)
            )
            self.preprocess1 = ReLUConvBN(c_in, c, 1, 1, affine)
            self._ops, self._bns, self.ends = nn.ModuleList(), nn.ModuleList(), []
            for n, node in enumerate(nodes):
                for name, source in node:
                    stride = 2 if reduction and source < 2 else 1
                    made = operation(name, c, stride, True, False) if affine else MixedOp(name, c, stride, True)
                    self._ops.append(made)
                    self.ends.append((source, n))

        def forward(self, s0, s1, weights=None):
            states = [self.preprocess0(s0), self.preprocess1(s1)]
            for n in range(4):
                ops = [(e, s) for e, (s, of) in enumerate(self.ends) if of == n]
                args = [(states[s],) if weights is None else (states[s], weights[e]) for e, s in ops]
                states.append(sum(self._ops[e](*a) for (e, _), a in zip(ops, args, strict=True)))
            return torch.cat(states[2:], 1)

    class Auxiliary(nn.Module):
        def __init__(self, c, imagenet):
            super().__init__()
            pool = nn.AvgPool2d(5, 2 if imagenet else 3, 0, count_include_pad=False)
            parts = [nn.ReLU(), pool, nn.Conv2d(c, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()]
            parts += [nn.Conv2d(128, 768, 2, bias=False), *([] if imagenet else [nn.BatchNorm2d(768)]), nn.ReLU()]
            self.features = nn.Sequential(*parts)
            self.classifier = nn.Linear(768, CLASSES)

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    class Darts(nn.Module):
        """Supernet of a space, or network of a genotype."""

        def __init__(self, cells, space=None, genotype=None, form="cifar"):
            super().__init__()
            imagenet, c = form == "imagenet", CHANNELS
            conv = lambda c_in, c_out, stride=1: nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)  # noqa: E731
            if imagenet:
                first = [conv(IMAGE_CHANNELS, c // 2, 2), nn.BatchNorm2d(c // 2), nn.ReLU(), conv(c // 2, c, 2)]
                self.stem0 = nn.Sequential(*first, nn.BatchNorm2d(c))
                self.stem1 = nn.Sequential(nn.ReLU(), conv(c, c, 2), nn.BatchNorm2d(c))
                c_before = c_in = c
            else:
                c_before = c_in = 3 * c
                self.stem = nn.Sequential(conv(IMAGE_CHANNELS, c_in), nn.BatchNorm2d(c_in))
            self.cells, self.kinds, after = nn.ModuleList(), darts_layout(cells), imagenet
            for i, kind in enumerate(self.kinds):
                reduction = kind == "reduce"
                c *= 1 + reduction
                graph = space.cells[kind] if space else None
                edges = [[graph.edges[e] for e in graph.incoming(s)] for s in graph.node_states] if space else []
                nodes = [[(e.candidates, e.source) for e in of] for of in edges] if space else genotype.cells[kind]
                self.cells.append(Cell(c_before, c_in, c, reduction, after, graph, nodes))
                after, c_before, c_in = reduction, c_in, 4 * c
                if i == 2 * cells // 3:
                    c_auxiliary = c_in
            if genotype:
                self.auxiliary_head = Auxiliary(c_auxiliary, imagenet)
            self.classifier = nn.Linear(c_in, CLASSES)

        def forward(self, x, weights=None):
            if hasattr(self, "stem0"):
                s0 = self.stem0(x)
                s1 = self.stem1(s0)
            else:
                s0 = s1 = self.stem(x)
            for cell, kind in zip(self.cells, self.kinds, strict=True):
                s0, s1 = s1, cell(s0, s1, *([weights[kind]] if weights else []))
            return self.classifier(s1.mean((2, 3)))

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv_a = ReLUConvBN(c, 2 * c, 3, 2, True)
            self.conv_b = ReLUConvBN(2 * c, 2 * c, 3, 1, True)
            self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c, 2 * c, 1, bias=False))

        def forward(self, x, *_):
            return self.downsample(x) + self.conv_b(self.conv_a(x))

    class BenchCell(nn.Module):
        def __init__(self, c, space, genotype):
            super().__init__()
            if space:
                of = {f"{e.target}<-{e.source}": e.candidates for e in space.cells["normal"].edges}
                modules = {k: MixedOp(names, c, 1, False)._ops for k, names in of.items()}
                self.edges = nn.ModuleDict(modules)
            else:
                pairs = [pair for node in genotype.cells["normal"] for pair in node]
                self.layers = nn.ModuleList(operation(name, c, 1, True, False) for name, _ in pairs)

        def forward(self, x, weights=None):
            states, e = [x], 0
            of = list(self.layers) if weights is None else list(self.edges.values())
            for target in range(1, 4):
                parts = []
                for source in range(target):
                    y = states[source]
                    mixed = [op(y) for op in of[e]] if weights is not None else [of[e](y)]
                    parts += [w * z for w, z in zip([1] if weights is None else weights[e], mixed, strict=True)]
                    e += 1
                states.append(sum(parts))
            return states[-1]

    class Bench(nn.Module):
        def __init__(self, cells, space=None, genotype=None):
            super().__init__()
            c = CHANNELS
            self.stem = nn.Sequential(nn.Conv2d(IMAGE_CHANNELS, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))
            self.cells = nn.ModuleList()
            for kind in nasbench201_layout(cells):
                self.cells.append(Block(c) if kind == "residual_block" else BenchCell(c, space, genotype))
                c *= 1 + (kind == "residual_block")
            self.lastact = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())
            self.classifier = nn.Linear(c, CLASSES)
            if space:
                self.arch_parameters = nn.Parameter(1e-3 * torch.randn(6, 5))

        def forward(self, x, weights=None):
            x = self.stem(x)
            for cell in self.cells:
                x = cell(x, *([weights["normal"]] if weights else []))
            return self.classifier(self.lastact(x).mean((2, 3)))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=pathlib.Path, metavar="FOLDER", help="for a .pt of each case")
    asked = parser.parse_args()
    torch.manual_seed(0)
    nets = {}
    for name, (cells, size) in SUPERNETS.items():
        space = SPACES[name]
        weights = {k: torch.tensor(edge_weights(k, g.candidate_mask)) for k, g in space.cells.items()}
        net = Bench(cells, space) if name == "nasbench201" else Darts(cells, space)
        nets[f"supernet {name}"] = net, size, [weights]
    for name, (form, cells, size) in NETWORKS.items():
        genotype = find(name)
        net = Bench(cells, None, genotype) if form == "nasbench201" else Darts(cells, None, genotype, form)
        nets[f"network {name}"] = net, size, []
    arrays, tensors = {}, {}
    for case, (net, size, args) in nets.items():
        x = torch.tensor(images(case, size).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            for name, p in net.named_parameters():
                if "auxiliary" in name:  # large: a pattern that takes no room
                    p.copy_((torch.arange(p.numel()) % 7 - 3).reshape(p.shape) / (10 + len(name)))
                elif p.ndim == 1 and "classifier" not in name:
                    nn.init.normal_(p, 1.0 if name.endswith("weight") else 0.0, 0.3)
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 0.4
            net.train()
            for _ in range(2):
                net(x + 0.5 * torch.randn(x.shape), *args)
            logits = net.eval()(x, *args)
        state = net.state_dict()
        tensors[case] = [(name, list(v.shape)) for name, v in state.items()]
        arrays[case] = np.concatenate([v.float().numpy().ravel() for v in state.values()])
        arrays[f"{case} logits"] = logits.numpy()
        if asked.save:
            asked.save.mkdir(parents=True, exist_ok=True)
            checkpoint = (
                {"epoch": 3, "state_dict": state, "alpha": [1e-3 * torch.randn(w.shape) for w in args[0].values()]}
                if args
                else state
            )
            torch.save(checkpoint, asked.save / f"{case.split()[1].split('|')[0] or 'arch'}.pt")
    np.savez_compressed(FILE, tensors=json.dumps(tensors), **arrays)
    print(f"{FILE}: {len(nets)} cases, {FILE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""The supernets and their steps in plain PyTorch, to compare our programs with.

    TORCH_ENVIRONMENT/bin/python benchmarks/torch_peer.py --space darts --channels 16 --cells 8 --size 32 --batch 64

A standalone program: it needs torch, which the project does not, and nothing from the project. Structure and settings are
the published ones (DARTS, section 3.1; NAS-Bench-201, section 2.1), computed as in the published code: one operation of one
edge after the other, except those of weight zero.

It prints a JSON line. Seconds are medians of --runs runs after an uncounted first run, with the images in memory:
`forward_s`, a pass with the statistics of the batch, without gradients; `bilevel_step_s`, a first-order alpha step and a
weight step; `score_edge_s`, one pass for each candidate of the last normal edge, without that candidate. --decided N first
fixes the first N edges of every cell kind to one operation each.
"""

import argparse
import json
import statistics
import time
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

OPERATIONS = {
    "darts": (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    "s2": ("skip_connect", "sep_conv_3x3"),
    "nasbench201": ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
}
"""The candidates of every edge, by space."""


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1):
    """A convolution without bias; zero padding keeps the size at stride 1."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def norm(channels: int, affine: bool = False) -> nn.BatchNorm2d:
    """BatchNorm with PyTorch's epsilon 1e-5 and momentum 0.1; a supernet's operations have neither scale nor bias."""
    return nn.BatchNorm2d(channels, affine=affine)


def chain(**parts: nn.Module) -> nn.Sequential:
    """Named modules, one after the other."""
    return nn.Sequential(OrderedDict(parts))


def relu_conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, affine: bool = False):
    """ReLU, dense convolution, BatchNorm."""
    conv = convolution(inputs, outputs, kernel, stride)
    return chain(relu=nn.ReLU(), conv=conv, norm=norm(outputs, affine))


def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise and pointwise convolution, BatchNorm."""
    return chain(
        relu=nn.ReLU(),
        depthwise=convolution(channels, channels, kernel, stride, dilation, groups=channels),
        pointwise=convolution(channels, channels),
        norm=norm(channels),
    )


class FactorizedReduce(nn.Module):
    """Halves the size: ReLU, one 1x1 convolution for even and one for odd pixels, concatenation, BatchNorm."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.even = convolution(inputs, outputs // 2, stride=2)
        self.odd = convolution(inputs, outputs - outputs // 2, stride=2)
        self.norm = norm(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] with even H and W."""
        images = images.relu()
        return self.norm(torch.cat((self.even(images), self.odd(images[..., 1:, 1:])), 1))


class Zero(nn.Module):
    """The operation `none`, at stride 1 as in NAS-Bench-201."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Zeros of the shape of `images`."""
        return images.mul(0)


def make_operation(name: str, channels: int, stride: int, pool_norm: bool) -> nn.Module:
    """A candidate operation; `pool_norm` is whether BatchNorm follows pooling."""
    kind, _, size = name.rpartition("_")
    match kind:
        case "" if name == "none":
            return Zero()
        case "skip":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
        case "max_pool" | "avg_pool":
            average = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
            pool = average if kind == "avg_pool" else nn.MaxPool2d(3, stride, 1)
            return chain(pool=pool, norm=norm(channels)) if pool_norm else pool
        case "sep_conv":
            kernel = int(size[0])
            return chain(a=separable(channels, kernel, stride), b=separable(channels, kernel, 1))
        case "dil_conv":
            return separable(channels, int(size[0]), stride, dilation=2)
        case "nor_conv":
            return relu_conv_norm(channels, channels, int(size[0]), stride)
    raise ValueError(f"no operation {name}")


class MixedEdge(nn.ModuleDict):
    """The candidates of an edge by name, summed with their weights."""

    def __init__(self, names: tuple[str, ...], channels: int, stride: int, pool_norm: bool):
        super().__init__({name: make_operation(name, channels, stride, pool_norm) for name in names})

    def forward(self, images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The mixture; `weights` has an entry for each candidate, and a candidate of weight zero is skipped."""
        total = 0
        for weight, operation in zip(weights, self.values(), strict=True):
            if weight.item():
                total = total + weight * operation(images)
        return total


class Graph(nn.Module):
    """The nodes of a cell, each the sum of an edge from every earlier state; edges from the inputs have `stride`."""

    def __init__(self, names, inputs: int, nodes: int, channels: int, stride: int = 1, pool_norm: bool = True):
        super().__init__()
        self.edges = nn.ModuleList(
            MixedEdge(names, channels, stride if source < inputs else 1, pool_norm)
            for node in range(nodes)
            for source in range(inputs + node)
        )
        self.nodes = nodes

    def forward(self, inputs: list[torch.Tensor], weights: torch.Tensor) -> list[torch.Tensor]:
        """The nodes, in order; `weights` is [edges, candidates]."""
        states, edges = list(inputs), iter(zip(self.edges, weights, strict=True))
        for _ in range(self.nodes):
            parts = []
            for state in states:
                edge, row = next(edges)
                parts.append(edge(state, row))
            states.append(sum(parts))
        return states[-self.nodes :]


class DartsCell(nn.Module):
    """Two inputs, preprocessed to the cell's channels, and four nodes, which together are the output."""

    def __init__(self, names, older: int, newer: int, channels: int, reduction: bool, after_reduction: bool):
        super().__init__()
        self.kind = "reduce" if reduction else "normal"
        self.preprocess_0 = (FactorizedReduce if after_reduction else relu_conv_norm)(older, channels)
        self.preprocess_1 = relu_conv_norm(newer, channels)
        self.graph = Graph(names, 2, 4, channels, stride=1 + reduction)

    def forward(self, older: torch.Tensor, newer: torch.Tensor, weights: dict) -> torch.Tensor:
        """The nodes, concatenated."""
        inputs = [self.preprocess_0(older), self.preprocess_1(newer)]
        return torch.cat(self.graph(inputs, weights[self.kind]), 1)


class DartsSupernet(nn.Module):
    """Cells in a row, reductions at one third and two thirds of the depth."""

    kinds, edges = ("normal", "reduce"), 14

    def __init__(self, names: tuple[str, ...], channels: int, cells: int, classes: int):
        super().__init__()
        older = newer = 3 * channels
        self.stem = chain(conv=convolution(3, newer, 3), norm=norm(newer, affine=True))
        self.cells, after_reduction = nn.ModuleList(), False
        for position in range(cells):
            reduction = position in {cells // 3, 2 * cells // 3}
            channels *= 1 + reduction
            self.cells.append(DartsCell(names, older, newer, channels, reduction, after_reduction))
            older, newer, after_reduction = newer, 4 * channels, reduction
        self.head = nn.Linear(newer, classes)

    def forward(self, images: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits of [B, 3, H, W], with edge weights by cell kind."""
        older = newer = self.stem(images)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, weights)
        return self.head(newer.mean((-2, -1)))


class BenchCell(nn.Module):
    """One input, three nodes, the last of which is the output; no BatchNorm after pooling."""

    def __init__(self, names: tuple[str, ...], channels: int):
        super().__init__()
        self.graph = Graph(names, 1, 3, channels, pool_norm=False)

    def forward(self, images: torch.Tensor, weights: dict) -> torch.Tensor:
        """The last node."""
        return self.graph([images], weights["normal"])[-1]


class ResidualBlock(nn.Module):
    """Doubles the channels and halves the size between two stages."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_a = relu_conv_norm(channels, 2 * channels, 3, stride=2, affine=True)
        self.conv_b = relu_conv_norm(2 * channels, 2 * channels, 3, affine=True)
        self.shortcut = convolution(channels, 2 * channels)

    def forward(self, images: torch.Tensor, weights: dict) -> torch.Tensor:
        """[B, C, H, W] to [B, 2C, H/2, W/2]; ignores the edge weights."""
        return self.conv_b(self.conv_a(images)) + self.shortcut(functional.avg_pool2d(images, 2))


class BenchSupernet(nn.Module):
    """Three stages of `cells` cells."""

    kinds, edges = ("normal",), 6

    def __init__(self, names: tuple[str, ...], channels: int, cells: int, classes: int):
        super().__init__()
        self.stem = chain(conv=convolution(3, channels, 3), norm=norm(channels, affine=True))
        stages = []
        for width in (channels, 2 * channels, 4 * channels):
            stages += [ResidualBlock(width // 2)] if stages else []
            stages += [BenchCell(names, width) for _ in range(cells)]
        self.cells = nn.ModuleList(stages)
        self.norm = norm(4 * channels, affine=True)
        self.head = nn.Linear(4 * channels, classes)

    def forward(self, images: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits of [B, 3, H, W], with edge weights by cell kind."""
        images = self.stem(images)
        for cell in self.cells:
            images = cell(images, weights)
        return self.head(self.norm(images).relu().mean((-2, -1)))


class Work:
    """A supernet with its alphas, optimisers and two batches, and the calls to time."""

    def __init__(self, args: argparse.Namespace):
        names = OPERATIONS[args.space]
        make = BenchSupernet if args.space == "nasbench201" else DartsSupernet
        self.net = make(names, args.channels, args.cells, args.classes).train()
        shape = self.net.edges, len(names)
        self.alphas = {kind: (1e-3 * torch.randn(shape)).requires_grad_() for kind in self.net.kinds}
        self.decided = functional.one_hot(torch.arange(args.decided) % len(names), len(names)).float()
        self.sgd = torch.optim.SGD(self.net.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam(self.alphas.values(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        images = torch.randn(2, args.batch, 3, args.size, args.size)
        self.valid, self.train = zip(images, torch.randint(args.classes, (2, args.batch)), strict=True)

    def weights(self) -> dict[str, torch.Tensor]:
        """Edge weights by cell kind: one-hot rows for the decided edges, the softmax of the alphas for the others."""
        mixtures = {kind: alphas.softmax(-1) for kind, alphas in self.alphas.items()}
        return {kind: torch.cat((self.decided, rows[len(self.decided) :])) for kind, rows in mixtures.items()}

    @torch.no_grad()
    def forward(self):
        """One pass."""
        self.net(self.valid[0], self.weights())

    def step(self):
        """One bilevel step; the pass of the alphas computes gradients of the weights too, as in the published code."""
        images, labels = self.valid
        self.adam.zero_grad()
        functional.cross_entropy(self.net(images, self.weights()), labels).backward()
        self.adam.step()
        images, labels = self.train
        self.sgd.zero_grad()
        with torch.no_grad():
            weights = self.weights()
        functional.cross_entropy(self.net(images, weights), labels).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.sgd.step()

    @torch.no_grad()
    def score_edge(self):
        """One pass for each candidate of the last normal edge, without that candidate."""
        for operation in range(self.alphas["normal"].shape[1]):
            weights = self.weights()
            weights["normal"][-1, operation] = 0
            self.net(self.valid[0], weights)


def median_seconds(work, runs: int) -> float:
    """Median seconds of a call of `work`, after an uncounted first call."""
    seconds = []
    for _ in range(1 + runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds[1:]), 5)


def main():
    """Prints the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=OPERATIONS, default="darts")
    defaults = {"channels": 16, "cells": 8, "size": 32, "batch": 64, "classes": 10, "runs": 3, "threads": 2}
    for name, value in {**defaults, "decided": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--what", default="forward,step,score", help="default: %(default)s")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    work = Work(args)
    answer = vars(args) | {"torch": torch.__version__}
    answer["parameters"] = sum(parameter.numel() for parameter in work.net.parameters())
    timed = {
        "forward": ("forward_s", work.forward),
        "step": ("bilevel_step_s", work.step),
        "score": ("score_edge_s", work.score_edge),
    }
    for name in args.what.split(","):
        key, call = timed[name]
        answer[key] = median_seconds(call, args.runs)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

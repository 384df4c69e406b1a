"""Import a network that the reference code retrained: `python -m experiments.import_network CHECKPOINT --genotype ...`.

CHECKPOINT is a PyTorch file with the network's state dict; reading it needs torch. Channels and classes are read from the
tensors; an auxiliary head is dropped. Writes network.safetensors and network.json for experiments.predict and
experiments.export. The genotype has to list a node's inputs in the order that the network was trained with.

Exit codes: 0 done, 2 a setting or a file is wrong.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from darts_pt_jax import network
from darts_pt_jax.configs import darts_c10, retrain_imagenet
from darts_pt_jax.experiments import commands
from darts_pt_jax.interop import export, from_torch, published, torch_checkpoints

_CIFAR, _IMAGENET = darts_c10.get_config().data, retrain_imagenet.get_config().data
DEFAULTS = {
    "cifar": (20, 32, _CIFAR.mean, _CIFAR.std),
    "imagenet": (14, 224, _IMAGENET.mean, _IMAGENET.std),
    "nasbench201": (5, 32, _CIFAR.mean, _CIFAR.std),
}
"""Cells, height and width of images, mean and standard deviation, by form."""


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    asked = _parse(argv)
    try:
        trained = convert(asked)
        if (asked.to / "network.json").exists():
            raise ValueError(f"--to {asked.to} holds a network already: name another directory")
        trained.save(asked.to)
    except (ValueError, OSError) as error:
        return commands.fail(error, 2)
    net, count = trained.net, network.parameters(trained.variables["params"])
    print(f"{asked.to}: network.safetensors, network.json: {net.form} network of {net.cells} cells, {net.channels} channels, "
          f"{net.classes} classes, {count:,} parameters")  # fmt: skip
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = commands.parser("import_network", __doc__)
    add = parser.add_argument
    add("checkpoint", type=pathlib.Path, metavar="CHECKPOINT")
    add("--genotype", required=True, help="a published name, a file, FILE:NAME, or the text itself")
    add("--to", required=True, type=pathlib.Path, metavar="DIR", help="where the network is written")
    add("--form", default="auto", choices=("auto", *network.FORMS), help="default: by the tensors")
    add("--cells", type=int, help="depth; of nasbench201, cells of each stage (default: 20, 14 or 5 by form)")
    add("--size", type=int, help="height and width of images (default: 32, or 224 for imagenet)")
    of_channels = "of the channels of pixels in [0, 1] (default: CIFAR-10's, or ImageNet's)"
    add("--mean", type=_numbers, metavar="A,B,C", help=f"means {of_channels}")
    add("--std", type=_numbers, metavar="A,B,C", help=f"standard deviations {of_channels}")
    return parser.parse_args(argv)


def convert(asked: argparse.Namespace) -> export.TrainedNetwork:
    """The network that a command line asks for.

    Raises:
      ValueError: the checkpoint cannot be read, or does not fit the options.
    """
    genotype = published.find(asked.genotype)
    tensors = torch_checkpoints.load(asked.checkpoint).tensors
    for name in ("cells", "size"):
        if (value := getattr(asked, name)) is not None and value < 1:
            raise ValueError(f"--{name} is {value}, expected at least 1")
    try:
        form = from_torch.network_of(tensors, genotype, 1, asked.form).form
        cells, size, mean, std = DEFAULTS[form]
        net = from_torch.network_of(tensors, genotype, asked.cells or cells, form)
        shape = (asked.size or size, asked.size or size, from_torch.image_channels(tensors))
        mean, std = asked.mean or mean, asked.std or std
        if {len(mean), len(std)} != {shape[2]}:
            raise ValueError(f"its images have {shape[2]} channels: give a number for each by --mean and --std")
        if not all(std):
            raise ValueError("--std has a 0, expected more")
        variables = from_torch.variables(tensors, net, network.abstract_variables(net, shape))
    except ValueError as error:
        raise ValueError(f"{asked.checkpoint}: {error}") from error
    fit = "middle" if form == "imagenet" else "resized"
    return export.TrainedNetwork(net, variables, shape, tuple(mean), tuple(std), fit)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers of 0 to 1 such as 0.49,0.48,0.45")
    return numbers


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

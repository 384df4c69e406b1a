"""Export a retrained network: `python -m experiments.export RUN_DIR`.

Writes network.stablehlo beside the network.safetensors and network.json that retraining has left, and tells how to run it
with nothing but jax:

    exported = jax.export.deserialize(open("network.stablehlo", "rb").read())
    logits = exported.call(images)  # uint8 [n, height, width, channels]

Exit codes: 0 done, 2 there is no network.
"""

import pathlib
import sys
from collections.abc import Sequence

from darts_pt_jax import record
from darts_pt_jax.experiments import commands
from darts_pt_jax.experiments.config import plugins
from darts_pt_jax.interop.export import TrainedNetwork, plugins_of


def main(argv: Sequence[str]) -> int:
    """Carries out one command and returns the exit code."""
    parser = commands.parser("export", __doc__)
    parser.add_argument("run", type=pathlib.Path, metavar="RUN_DIR", help="of a run that has retrained")
    plugins.add_option(parser)
    asked = parser.parse_args(argv)
    plugins.use(asked.plugins)
    file = asked.run / "network.stablehlo"
    try:
        plugins.load(",".join(plugins_of(asked.run)))
        network = TrainedNetwork.load(asked.run)
        record.write_bytes(file, network.stablehlo())
    except ValueError as error:
        return commands.fail(error, 2)
    except record.WriteError as error:
        return commands.fail(error, 1)
    epoch = "" if network.epoch is None else f"weights after epoch {network.epoch}, "
    print(f"{file}: {epoch}takes uint8 images [n, {', '.join(map(str, network.image_shape))}]")
    return 0


if __name__ == "__main__":
    commands.start(main, sys.argv[1:])

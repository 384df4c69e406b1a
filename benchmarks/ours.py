"""One measurement of our programs in a process of its own, with the same command line as the peer.

    python -m benchmarks.ours --space darts --channels 16 --cells 8 --size 32 --batch 64 --what step,score

It prints a JSON line: sizes, `parameters` of the whole supernet, the measurements that --what names (see
`benchmarks.programs` for their units), and `peak_memory_gb` of the process. It uses a compilation cache only with --cache.
"""

import argparse
import json
import resource
import sys

from darts_pt_jax.experiments.config import plugins
from darts_pt_jax.experiments.engine.large_pages import use_large_pages

# The names of `programs.MEASUREMENTS`. That module cannot be imported yet: it imports jax, and this process may restart.
WHAT = ("forward", "score", "score_reduce", "pipeline", "records", "collectives", "step")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="darts")
    usual = {"channels": 16, "cells": 8, "size": 32, "batch": 64, "classes": 10, "runs": 3}
    numbers = {**usual, "decided": 0, "devices": 1}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument(
        "--images", type=int, default=50000, help="number of images in both halves together (default: 50000)"
    )
    parser.add_argument("--gradients", choices=("separate", "shared"), default="separate")
    parser.add_argument("--what", default="forward,step,score", help=f"any of {','.join(WHAT)}")
    parser.add_argument("--cache", action="store_true", help="keep compiled programs as experiments.main does")
    plugins.add_option(parser)
    args = parser.parse_args()
    if unknown := set(args.what.split(",")) - set(WHAT):
        parser.error(f"--what names {', '.join(sorted(unknown))}, expected any of {', '.join(WHAT)}")
    return args


def main():
    """Prints the line."""
    args = parse()
    import jax  # not earlier: the process may restart

    from benchmarks import programs
    from darts_pt_jax.experiments.engine import machine

    jax.config.update("jax_num_cpu_devices", args.devices)  # they share the CPU's cores
    plugins.load(args.plugins or "")
    config = programs.make_config(args, {"search.gradients": args.gradients})
    if args.cache:
        machine.prepare(config)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    assert set(programs.MEASUREMENTS) == set(WHAT)
    asked = [name for name in programs.MEASUREMENTS if name in args.what.split(",")]
    answer = vars(args) | programs.measure(config, args, asked)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    answer["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)
    print(json.dumps(answer))


if __name__ == "__main__":
    use_large_pages()
    main()

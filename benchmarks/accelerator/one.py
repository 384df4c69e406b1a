"""Compiles one program of a run for a target in a process of its own; `python -m benchmarks.accelerator` calls it.

It prints a JSON line: the row of the program.
"""

import argparse
import json
import pathlib
import tempfile
import time

import jax

from benchmarks.accelerator import model, programs, thunks
from benchmarks.accelerator.hlo import Module
from benchmarks.accelerator.targets import TARGETS, Target


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("target", "space", "program"):
        parser.add_argument(f"--{name}", required=True)
    for name, usual in {"channels": 16, "cells": 8, "size": 32, "batch": 64, "classes": 10, "images": 50000}.items():
        parser.add_argument(f"--{name}", type=int, default=usual, help=f"default: {usual}")
    for name in ("cells", "channels", "batch"):
        parser.add_argument(f"--retrain_{name}", type=int, help="of the retrained network; default: the config's")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--restricted", action="store_true", help="half of the edges of each kind are decided")
    parser.add_argument("--top", type=int, default=0, help="how many of the most expensive kernels to list")
    return parser.parse_args()


def row(traced: jax.stages.Traced, target: Target, precision: str, folder: pathlib.Path, top: int = 0) -> dict:
    """Compiles a traced program: `model.summary`, what the compiler says, and the most expensive kernels.

    Args:
      traced: the program, traced for devices of the target.
      target: the target.
      precision: the type of most numbers, a key of `Target.matrix_flops`.
      folder: an empty folder, for what XLA dumps.
      top: how many kernels to list.
    """
    start = time.perf_counter()
    lowered = traced.lower()
    middle = time.perf_counter()
    program = lowered.compile({"xla_dump_to": str(folder)} if target.platform == "cuda" else None)
    end = time.perf_counter()
    module, memory = Module(program.as_text()), program.memory_analysis()
    if target.platform == "cuda":
        sequence, buffers = thunks.read(folder, module)
        kernels = model.of_gpu(module, sequence)
        launches = buffers + sum(kernel.times for kernel in kernels if not kernel.captured)
    else:
        kernels, buffers, launches = model.of_tpu(module), 0, 1
    said = {
        "collective_bytes": module.collectives(), "lower_s": middle - start, "compile_s": end - middle,
        "temporary_bytes": memory.temp_size_in_bytes, "argument_bytes": memory.argument_size_in_bytes,
    }  # fmt: skip
    listed = {"most_expensive": model.most_expensive(kernels, target, precision, top)} if top else {}
    return model.summary(kernels, launches, buffers, target, precision) | said | listed


def main():
    """Prints the line."""
    args = parse()
    target = TARGETS[args.target]
    jax.config.update("jax_enable_compilation_cache", False)
    program = programs.traced(args, programs.Absent(target.devices()))
    with tempfile.TemporaryDirectory() as folder:
        answer = row(program.traced, target, args.precision, pathlib.Path(folder), args.top)
    print(json.dumps(answer | {"trace_s": program.seconds}))


if __name__ == "__main__":
    main()

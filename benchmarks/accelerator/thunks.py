"""Reads how XLA launches a program on a GPU, from the files that `xla_dump_to` leaves: its sequence of thunks."""

import dataclasses
import pathlib
import re

from benchmarks.accelerator import hlo
from benchmarks.accelerator.hlo import Module

KINDS = {
    "kernel": {"kKernel", "kCustomKernel"},
    "convolution": {"kConvolution", "kConvolutionReorder"},
    "copy": {"kCopy", "kCopyDone", "kDeviceToDevice", "kMemcpy", "kMemset32BitValue", "kMemset", "kMemzero"},
    "structure": {"kCommandBuffer", "kWhile", "kConditional", "kSequential", "kCall", "kAsyncDone", "kAsyncStart"},
}  # fmt: skip
"""What kinds of thunks are; collectives are named so, and all others call a library."""


@dataclasses.dataclass(frozen=True)
class Thunk:
    """Something that the GPU does.

    Attributes:
      instruction: the name of the instruction that it carries out; "" if XLA does not tell.
      kind: "kernel", "convolution", "copy", "collective" or "library".
      times: how often it runs.
      captured: whether a command buffer launches it.
      blocks: the number of blocks of a kernel, else None.
    """

    instruction: str
    kind: str
    times: int
    captured: bool
    blocks: int | None


def read(folder: pathlib.Path, module: Module) -> tuple[list[Thunk], int]:
    """The thunks of the module that was dumped to `folder`, and how often a command buffer is launched."""
    names = _names(next(folder.glob("*.thunk_metadata.txt")).read_text())
    after = sorted(folder.glob("*.thunk_sequence_after_thunk_passes.txt"))  # none, if the passes changed nothing
    text = (after or sorted(folder.glob("*.thunk_sequence.txt")))[-1].read_text()
    thunks, buffers = [], 0
    around = [(-1, 1, False)]  # by level: indentation, how often it runs, whether captured
    for line in text.splitlines():
        found = re.match(r"( *)(\d+): (k\w+)", line)
        if not found:
            continue
        indent, name, kind = len(found[1]), names.get(int(found[2]), ""), found[3]
        while around[-1][0] >= indent:
            around.pop()
        _, times, captured = around[-1]
        if kind == "kCommandBuffer":
            buffers += 0 if captured else times
            around.append((indent, times, True))
        elif kind == "kWhile":
            turns = hlo.trips(module.by_name[name]) if name in module.by_name else 1
            around.append((indent, times * turns, captured))
        elif kind in KINDS["structure"]:
            around.append((indent, times, captured))
        else:
            grid = re.search(r"grid: \[(\d+), (\d+), (\d+)\]", line)
            blocks = int(grid[1]) * int(grid[2]) * int(grid[3]) if grid else None
            thunks.append(Thunk(name, _kind(kind), times, captured, blocks))
    return thunks, buffers


def _kind(kind: str) -> str:
    named = next((name for name, kinds in KINDS.items() if kind in kinds), "library")
    return "collective" if re.search("All|Collective|ReduceScatter|Send|Recv|NvShmem", kind) else named


def _names(text: str) -> dict[int, str]:
    """The instruction of each thunk, by its number."""
    names = {}
    for block in text.split("thunk_metadata {")[1:]:
        number, name = re.search(r"thunk_id: (\d+)", block), re.search(r'profile_annotation: "([^"]*)"', block)
        if number and name:
            names[int(number[1])] = name[1]
    return names

"""What a compiled program does, and how long that takes at least on the target: a model, not a measurement."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from benchmarks.accelerator import hlo
from benchmarks.accelerator.hlo import Instruction, Module
from benchmarks.accelerator.targets import Target
from benchmarks.accelerator.thunks import Thunk


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel, a call of a library, a copy or a collective.

    Attributes:
      name: of its instruction.
      kind: as in `Thunk`.
      times: how often it runs.
      captured: whether the host does not launch it by itself.
      blocks: its number of blocks; None: unknown.
      read, written: bytes.
      products, others: operations of matrix units, and others.
      source: the line of code that made it.
    """

    name: str
    kind: str
    times: int
    captured: bool
    blocks: int | None
    read: int
    written: int
    products: float
    others: float
    source: str

    def seconds(self, target: Target, precision: str) -> float:
        """The least time of one run: that of its bytes, of its operations, or the shortest of any kernel."""
        operations = self.products / target.matrix_flops[precision] + self.others / target.other_flops
        floor = target.captured if self.captured else target.kernel
        return max((self.read + self.written) / target.bandwidth, operations, floor)


def of_gpu(module: Module, thunks: Iterable[Thunk]) -> list[Kernel]:
    """The kernels of a program for GPUs."""
    found = []
    for thunk in thunks:
        instruction = module.by_name.get(thunk.instruction)
        work = _work(module, instruction) if instruction else (0, 0, 0.0, 0.0, "")
        found.append(Kernel(thunk.instruction, thunk.kind, thunk.times, thunk.captured, thunk.blocks, *work))
    return found


def of_tpu(module: Module) -> list[Kernel]:
    """The kernels of a program for TPUs, which the host launches as one."""
    found = []
    for instruction, times in module.executed():
        kind = _kind(module, instruction)
        found.append(Kernel(instruction.name, kind, times, True, None, *_work(module, instruction)))
    return found


def _work(module: Module, instruction: Instruction) -> tuple[int, int, float, float, str]:
    moved = module.read(instruction), module.written(instruction)
    return *moved, *module.flops(instruction), module.source(instruction)


def _kind(module: Module, instruction: Instruction) -> str:
    if hlo.collective(instruction):
        return "collective"
    if module.contains(instruction, {"convolution", "dot"}):
        return "convolution"
    if instruction.opcode in ("copy", "copy-start", "slice-start"):
        return "copy"
    return "library" if hlo.library(instruction) else "kernel"


def summary(kernels: Sequence[Kernel], launches: int, buffers: int, target: Target, precision: str) -> dict:
    """The row of a program: counts, bytes, operations, and `model_s`, the seconds of the model."""
    counts = collections.Counter()
    for kernel in kernels:
        counts[kernel.kind] += kernel.times
        counts["one block"] += kernel.times * (kernel.kind == "kernel" and kernel.blocks == 1)
    one_by_one = sum(kernel.times * kernel.seconds(target, precision) for kernel in kernels)
    return {
        "kernels": counts["kernel"], "one_block": counts["one block"], "convolutions": counts["convolution"],
        "library_calls": counts["library"], "copies": counts["copy"], "collectives": counts["collective"],
        "command_buffers": buffers, "host_launches": launches,
        "read_bytes": sum(kernel.times * kernel.read for kernel in kernels),
        "written_bytes": sum(kernel.times * kernel.written for kernel in kernels),
        "flops": sum(kernel.times * (kernel.products + kernel.others) for kernel in kernels),
        "model_s": one_by_one + launches * target.launch,
    }  # fmt: skip


def most_expensive(kernels: Sequence[Kernel], target: Target, precision: str, count: int) -> list[dict]:
    """The kernels that take longest by the model; equal ones of one line of code together, `times` in all."""
    times = collections.Counter()
    for kernel in kernels:
        same = dataclasses.replace(kernel, name="", times=0)
        times[same] += kernel.times
    names = {dataclasses.replace(k, name="", times=0): k.name for k in reversed(kernels)}
    seconds = {kernel: n * kernel.seconds(target, precision) for kernel, n in times.items()}
    return [
        {"name": names[kernel], "kind": kernel.kind, "times": times[kernel], "seconds": seconds[kernel],
         "bytes": kernel.read + kernel.written, "flops": kernel.products + kernel.others, "source": kernel.source}
        for kernel in sorted(seconds, key=lambda kernel: -seconds[kernel])[:count]
    ]  # fmt: skip

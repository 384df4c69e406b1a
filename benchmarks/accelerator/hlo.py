"""Reads the text of a compiled module (HLO): what its instructions move and compute, and which line of code made them.

Sizes count a TPU's tiles in full, and nothing that lies in its fast memory.
"""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).parents[2]

NOTHING = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id",
    "replica-id", "add-dependency",
}  # fmt: skip
"""Instructions without work, besides the ends of what was started before (NAME-done)."""

MOVES = NOTHING | {
    "broadcast", "reshape", "transpose", "copy", "copy-start", "slice", "dynamic-slice", "dynamic-update-slice",
    "concatenate", "pad", "gather", "scatter", "reverse", "iota", "convert", "bitcast-convert",
}  # fmt: skip
"""Instructions without arithmetic."""

SLICES = {"slice", "dynamic-slice", "gather"}
"""Instructions that read a part of their first operand."""

COLLECTIVES = {"all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter", "collective-broadcast"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type, dimensions and layout; `layout` is the text in braces, such as "1,0:T(8,128)S(1)"."""

    type: str
    dimensions: tuple[int, ...]
    layout: str = ""

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.dimensions)

    @property
    def bytes(self) -> int:
        """Bytes of device memory: 0 in a TPU's fast memory; a tile that is partly used counts in full."""
        if re.search(r"S\([1-9]", self.layout):
            return 0
        order, _, tiles = self.layout.partition(":")
        dimensions = list(self.dimensions)
        if tile := re.match(r"T\(([\d,]+)\)", tiles):
            minor_first = [int(axis) for axis in order.split(",") if axis]
            for axis, side in zip(minor_first, reversed(tile[1].split(",")), strict=False):
                dimensions[axis] = -(-dimensions[axis] // int(side)) * int(side)
        bits = re.search(r"\d+", self.type)
        return math.ceil(math.prod(dimensions) * (int(bits[0]) if bits else 8) / 8)


def shapes(text: str) -> tuple[Shape, ...]:
    """The arrays in the text of a type, which may be a tuple."""
    found = re.findall(r"\b(pred|[a-z]+\d\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?", text)
    return tuple(Shape(t, tuple(int(n.strip("<=")) for n in d.split(",") if n), layout) for t, d, layout in found)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction of a computation.

    `result` are the arrays of its result, `operands` names in the same computation, `rest` the text of its attributes.
    """

    computation: str
    name: str
    opcode: str
    result: tuple[Shape, ...]
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    def attribute(self, pattern: str) -> list[str]:
        """The names, or numbers, in an attribute: `attribute("calls")`."""
        found = re.search(rf'[ ,"]{pattern}"?[=:](?:[{{\[]([^}}\]]*)[}}\]]|([%\w.\-]+))', self.rest)
        return re.findall(r"[\w.\-]+", found[1] or found[2]) if found else []

    @property
    def bytes(self) -> int:
        """Bytes of the result."""
        return sum(shape.bytes for shape in self.result)


class Computation:
    """Instructions in the order in which they run."""

    def __init__(self, instructions: Sequence[Instruction]):
        """Takes the instructions."""
        self.instructions = instructions
        self.by_name = {instruction.name: instruction for instruction in instructions}

    @property
    def root(self) -> Instruction:
        """The instruction of the result."""
        return next(instruction for instruction in self.instructions if instruction.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """The parameters by their number."""
        found = [instruction for instruction in self.instructions if instruction.opcode == "parameter"]
        return {int(parameter.rest.partition(")")[0]): parameter for parameter in found}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that take the result of each, by its name."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.by_name}
        for instruction in self.instructions:
            for operand in set(instruction.operands):
                found[operand].append(instruction)
        return found


class Module:
    """A compiled module."""

    def __init__(self, text: str):
        """Reads the text that `compiled.as_text()` returns."""
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        name, instructions = "", []
        for line in text.splitlines():
            if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
                name, instructions = head[2], []
                self.entry = name if head[1] else self.entry
            elif line.startswith("}") and name:
                self.computations[name] = Computation(instructions)
                name = ""
            elif name:
                instructions.append(_instruction(name, line))
        self.by_name = {i.name: i for computation in self.computations.values() for i in computation.instructions}
        self._files = _table(text, "FileNames", r'(\d+) "(.*)"')
        self._locations = _table(text, "FileLocations", r"(\d+) \{file_name_id=(\d+) .*?line=(\d+)")
        self._frames = _table(text, "StackFrames", r"(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")

    def operands(self, instruction: Instruction) -> list[Instruction]:
        """The instructions whose results it takes."""
        around = self.computations[instruction.computation].by_name
        return [around[name] for name in instruction.operands]

    def fused(self, instruction: Instruction) -> Computation:
        """What a fusion computes."""
        return self.computations[instruction.attribute("calls")[0]]

    def executed(self, computation: str = "", times: int = 1) -> Iterator[tuple[Instruction, int]]:
        """The instructions that do work, and how often each runs: those of loops too, and of all branches."""
        for instruction in self.computations[computation or self.entry].instructions:
            if instruction.opcode in ("while", "call", "conditional", "async-start"):
                turns = times * trips(instruction)
                parts = ("body", "to_apply", "calls", "branch_computations", "true_computation", "false_computation")
                for called in [name for part in parts for name in instruction.attribute(part)]:
                    yield from self.executed(called, turns)
            elif instruction.opcode not in NOTHING and not instruction.opcode.endswith(("-done", "-update")):
                yield instruction, times

    def collectives(self) -> dict[str, list[int]]:
        """Bytes of the result of each of `COLLECTIVES`, by operation."""
        found: dict[str, list[int]] = {}
        for instruction, times in self.executed():
            if name := collective(instruction):
                found.setdefault(name, []).extend([instruction.bytes] * times)
        return found

    def contains(self, instruction: Instruction, opcodes: set[str]) -> bool:
        """Whether the instruction, or a part of a fusion, is one of `opcodes`."""
        if instruction.opcode == "fusion":
            return any(self.contains(part, opcodes) for part in self.fused(instruction).instructions)
        return instruction.opcode in opcodes

    def read(self, instruction: Instruction) -> int:
        """Bytes that an instruction reads; of an operand that it only takes slices of, those of the slices."""
        operands = self.operands(instruction)
        if instruction.opcode == "fusion":
            called = self.fused(instruction)
            return sum(min(o.bytes, self._read(called, called.parameters[n])) for n, o in enumerate(operands))
        if instruction.opcode in SLICES:
            return min(instruction.bytes, operands[0].bytes) + sum(operand.bytes for operand in operands[1:])
        if instruction.opcode == "dynamic-update-slice":
            operands = operands[1:]
        return sum(operand.bytes for operand in operands)

    def _read(self, computation: Computation, value: Instruction) -> int:
        """Bytes of a value that a fused computation reads."""
        total = 0
        for user in computation.users[value.name]:
            first = user.operands[0] == value.name
            if user.opcode in SLICES and first:
                total += user.bytes
            elif user.opcode == "bitcast":
                total += self._read(computation, user)
            elif user.opcode == "fusion":
                called = self.fused(user)
                numbers = [n for n, operand in enumerate(user.operands) if operand == value.name]
                total += sum(self._read(called, called.parameters[n]) for n in numbers)
            elif not (user.opcode == "dynamic-update-slice" and first):
                return value.bytes
        return min(total, value.bytes)

    def written(self, instruction: Instruction) -> int:
        """Bytes that an instruction writes; where it updates a slice of an operand in place, those of the slice."""
        if instruction.opcode == "copy-start":
            return instruction.result[0].bytes
        if instruction.opcode == "dynamic-update-slice":
            return self.operands(instruction)[1].bytes
        if instruction.opcode == "fusion":
            called = self.fused(instruction)
            root = called.root
            roots = [called.by_name[name] for name in root.operands] if root.opcode == "tuple" else [root]
            inside = [self.written(r) if r.opcode == "dynamic-update-slice" else r.bytes for r in roots]
            return min(sum(inside), instruction.bytes)
        return instruction.bytes

    def flops(self, instruction: Instruction) -> tuple[float, float]:
        """Operations of matrix products and convolutions, and others, which count one for each element."""
        operands = [operand.result for operand in self.operands(instruction)]
        if instruction.opcode == "fusion":
            parts = [self.flops(part) for part in self.fused(instruction).instructions]
            return sum(part[0] for part in parts), sum(part[1] for part in parts)
        target = library(instruction)
        if instruction.opcode == "convolution" or target.startswith("__cudnn$conv"):
            return _convolution(instruction, operands, target), 0
        if instruction.opcode == "dot" or "gemm" in target or "matmul" in target:
            contracted = instruction.attribute("lhs_contracting_dim(?:ension)?s")
            depth = math.prod(operands[0][0].dimensions[int(axis)] for axis in contracted)
            return 2 * instruction.result[0].elements * depth, 0
        if instruction.opcode in MOVES or target:
            return 0, 0
        arrays = operands[0] if instruction.opcode.startswith("reduce") and operands else instruction.result
        return 0, max((array.elements for array in arrays), default=0)

    def source(self, instruction: Instruction) -> str:
        """FILE:LINE of the innermost call outside of installed packages that made the instruction; "" if unknown."""
        places = self._places(instruction)
        ours = [(file, line) for file, line in places if "site-packages" not in pathlib.Path(file).parts]
        if not places:
            return ""
        file, line = (ours or places)[0]
        path = pathlib.Path(file)
        return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}"

    def _places(self, instruction: Instruction) -> list[tuple[str, str]]:
        """File and line of every call, from the innermost."""
        if named := re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.rest):
            return [(named[1], named[2])]
        found = re.search(r"stack_frame_id=(\d+)", instruction.rest)
        if not found and instruction.opcode == "fusion":  # of several results
            return next(filter(None, map(self._places, reversed(self.fused(instruction).instructions))), [])
        offset = self._frames.get("1", ("", "0"))[1] == "1"  # XLA writes the numbers of parents plus one
        frame, places = found[1] if found else "", []
        while frame in self._frames:
            location, parent = self._frames[frame]
            file, line = self._locations[location]
            places.append((self._files[file][0], line))
            frame = str(int(parent or 0) - offset)
        return places


def trips(instruction: Instruction) -> int:
    """How often a loop runs, as far as XLA knows; 1 for another instruction."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
    return int(found[1]) if found else 1


def library(instruction: Instruction) -> str:
    """The function of a library that an instruction calls; "" if it calls none."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    return found[1] if found else ""


def collective(instruction: Instruction) -> str:
    """Which of `COLLECTIVES` an instruction is, or begins; "" if none."""
    name = instruction.opcode.removesuffix("-start")
    return name if name in COLLECTIVES else ""


def _convolution(instruction: Instruction, operands: list[tuple[Shape, ...]], target: str) -> float:
    """Operations of a convolution: each output takes a window over a group's channels. Padding counts, dilation not.

    The calls of cuDNN for gradients name the axes of the forward pass.
    """
    forward, kernel = instruction.result[0], operands[1][0]
    if "BackwardInput" in target:
        forward = operands[0][0]
    elif "BackwardFilter" in target:
        forward, kernel = operands[1][0], instruction.result[0]
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.rest)
    outputs = kernel.dimensions[labels[1].index("o")] if labels else 1
    dilated = re.search(r"lhs_dilate=([\dx]+)", instruction.rest)
    zeros = math.prod(int(n) for n in dilated[1].split("x")) if dilated else 1
    return 2 * forward.elements * kernel.elements / max(outputs, 1) / zeros


def _instruction(computation: str, line: str) -> Instruction:
    name, _, text = line.strip().partition(" = ")
    end = _closing(text) if text.startswith("(") else text.index(" ")
    kind, text = text[:end], text[end:].strip()
    opcode, _, rest = text.partition("(")
    inside = rest[: _closing("(" + rest) - 2]
    operands = () if opcode in ("parameter", "constant") else re.findall(r"%([\w.\-]+)", inside)
    is_root, name = name.startswith("ROOT "), name.removeprefix("ROOT ").lstrip("%")
    return Instruction(computation, name, opcode, shapes(kind), tuple(operands), rest, is_root)


def _closing(text: str) -> int:
    """The position after the bracket that closes the first one."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return i + 1
    raise ValueError(f"expected a closing bracket in {text!r:.80}")


def _table(text: str, name: str, row: str) -> dict[str, tuple[str, ...]]:
    """The numbered rows below the line `name`."""
    found = re.search(rf"^{name}\n((?:\d.*\n)*)", text, re.MULTILINE)
    return {
        number: tuple(values) for number, *values in re.findall(rf"^{row}", found[1] if found else "", re.MULTILINE)
    }

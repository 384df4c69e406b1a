"""The direction of imports between the packages, as docs/contributing.md draws it. Imports inside functions count."""

import ast
import functools
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = "benchmarks", "examples", "darts_pt_jax"

FLOORS = """
benchmarks examples
experiments.main experiments.sweep experiments.report experiments.predict experiments.export experiments.prepare \
    experiments.import_network experiments.nasbench201 experiments.cite
experiments.stages experiments.reporting experiments.launching experiments.analysis
experiments.engine experiments.training
configs
experiments experiments.config experiments.commands experiments.errors experiments.streams
darts_pt_jax
interop selection unrolled curvature checkpoints draw
bilevel supervised
supernet network data samplers metrics
ops architecture
kernels channels counting
spaces genotype devices hosts record npz naming loops nasbench201 notations literature
"""
"""The rooms, modules or packages, from the top floor down. A room imports from its own floor and from those below. All
but `PACKAGES` are in darts_pt_jax."""

FLOOR_OF = {
    room if room in PACKAGES else f"darts_pt_jax.{room}": floor
    for floor, rooms in enumerate(FLOORS.strip().splitlines())
    for room in rooms.split()
}


@functools.cache
def files() -> dict[str, pathlib.Path]:
    """The file of every module by its dotted name."""
    found = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports() -> dict[str, set[str]]:
    """The modules of this repository that each module imports."""
    return {module: imported(ast.parse(path.read_text()), files()) - {module} for module, path in files().items()}


def imported(tree: ast.Module, known) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            parts = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {part if part in known else node.module for part in parts.values()}
    return names & set(known)


def room(module: str) -> str:
    """The innermost of `FLOORS`' rooms that a module is in."""
    parts = module.split(".")
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in FLOOR_OF), module)


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Sets of nodes that reach each other."""

    @functools.cache
    def reached(start: str) -> frozenset[str]:
        found, todo = set(), [start]
        while todo:
            new = arrows[todo.pop()] - found
            found |= new
            todo += new
        return frozenset(found)

    together = {frozenset(b for b in reached(a) if a in reached(b)) for a in arrows}
    return [set(one) for one in together if one]


def test_every_module_has_a_floor():
    """A new module of the core, or a new command, goes into `FLOORS`."""
    assert not {module for module in files() if room(module) not in FLOOR_OF}
    assert not FLOOR_OF.keys() - files(), "rooms that are gone"
    for package in ("darts_pt_jax", "darts_pt_jax.experiments"):
        assert [module for module in files() if room(module) == package] == [package]


def test_imports_go_down():
    upward = [
        f"{module} -> {target}"
        for module, targets in imports().items()
        for target in targets
        if FLOOR_OF.get(room(target), 0) < FLOOR_OF.get(room(module), 0)
    ]
    assert not upward


def test_there_is_no_circle_of_modules():
    assert not circles(imports())


def test_there_is_no_circle_of_rooms():
    rooms = {room(module): set() for module in files()}
    for module, targets in imports().items():
        rooms[room(module)] |= {room(target) for target in targets} - {room(module)}
    assert not circles(rooms)


def test_the_core_stands_alone():
    outside = {target for module in files() if module.startswith("darts_pt_jax") for target in imports()[module]}
    assert all(target.startswith("darts_pt_jax") for target in outside)


def test_no_script_has_a_sibling_named_like_a_standard_library_module():
    """Python puts a script's folder first in the path, so that such a sibling would take the library's place."""
    scripts = [path for path in files().values() if '__name__ == "__main__"' in path.read_text()]
    assert len(scripts) >= 8
    siblings = {other for script in scripts for other in script.parent.iterdir() if other.suffix in (".py", "")}
    assert not sorted(str(one) for one in siblings if one.stem in sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import darts_pt_jax.ops", {"darts_pt_jax.ops"}),
        ("def f():\n    from darts_pt_jax import ops, spaces", {"darts_pt_jax.ops", "darts_pt_jax.spaces"}),
        ("from darts_pt_jax.spaces import SPACES", {"darts_pt_jax.spaces"}),
        ("import numpy", set()),
    ],
)
def test_imports_are_found(text, found):
    assert imported(ast.parse(text), files()) == found


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [{"b", "c"}]
    assert circles({"a": {"a"}}) == [{"a"}] and not circles({"a": {"b"}, "b": set()})

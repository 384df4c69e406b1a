import json

import numpy as np
import pytest

from darts_pt_jax.genotype import Genotype, genotype_of
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES

SHORT = {
    "K": "skip_connect", "S3": "sep_conv_3x3", "S5": "sep_conv_5x5", "D3": "dil_conv_3x3", "D5": "dil_conv_5x5",
    "M": "max_pool_3x3", "A": "avg_pool_3x3",
}  # fmt: skip

PUBLISHED = {
    "DARTS_V1": "S3.1 S3.0 K.0 S3.1 K.0 S3.1 S3.0 K.2 | M.0 M.1 K.2 M.0 M.0 K.2 K.2 A.0",
    "DARTS_V2": "S3.0 S3.1 S3.0 S3.1 S3.1 K.0 K.0 D3.2 | M.0 M.1 K.2 M.1 M.0 K.2 K.2 M.1",
    "darts_pt_s5_0": "S3.0 S3.1 S5.0 D3.1 K.0 K.2 K.0 M.4 | S3.0 A.1 D5.1 D3.2 A.0 M.2 S3.2 K.4",
    "darts_pt_s5_3": "S3.0 S3.1 S3.0 S3.1 K.0 K.2 S3.1 K.3 | A.0 S5.1 M.1 K.2 D5.1 M.3 S5.2 K.3",
    "blank_pt_s4_1": "S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 S3.0 S3.1 | S3.0 S3.1 S3.0 S3.2 S3.0 S3.3 S3.0 S3.1",
}
"""Architectures as operation.source, two for each node, of the normal and the reduction cell."""

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def published(name: str) -> Genotype:
    cells = {}
    for kind, text in zip(("normal", "reduce"), PUBLISHED[name].split("|"), strict=True):
        pairs = [(SHORT[operation], int(source)) for operation, source in (pair.split(".") for pair in text.split())]
        cells[kind] = tuple(tuple(pairs[i : i + 2]) for i in range(0, 8, 2))
    return Genotype(cells, {"normal": (2, 3, 4, 5), "reduce": (2, 3, 4, 5)})


def test_the_text_has_the_notation_of_the_darts_code():
    assert published("DARTS_V2").text("darts") == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
        "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
    )


def test_json_and_text_read_back_equal():
    for space in SPACES.values():
        for seed in range(5):
            genotype = genotype_of(space, *direct.random(space, {}, np.random.RandomState(seed)))
            assert Genotype.from_json(genotype.to_json()) == genotype
            assert Genotype.from_text(genotype.text(space.notation)) == genotype


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures_read_back_in_every_form_of_the_darts_code(name):
    text = published(name).text("darts")
    ranges = text.replace("[2, 3, 4, 5]", "range(2, 6)").replace("), (", "),\n  (")
    for form in (text, ranges, f"{name} = {text}\n", f"# {name}\n{name} = genotypes.{ranges}"):
        assert Genotype.from_text(form) == published(name)
        assert Genotype.from_text(form).text("darts") == text


def test_arch_strings_read_back():
    genotype = Genotype.from_text(ARCH + "\n")
    assert genotype.cells["normal"][1] == (("nor_conv_3x3", 0), ("avg_pool_3x3", 1))
    assert genotype.outputs == {"normal": (3,)} and genotype.inputs("normal") == 1
    assert genotype.text("nasbench201") == ARCH


def darts(pairs: str = "('a', 0), ('b', 1), ('a', 0), ('b', 2)", concat: str = "[2, 3]") -> str:
    return f"Genotype(normal=[{pairs}], normal_concat={concat})"


NEITHER = r"expected Genotype\(normal=\[...\], normal_concat=\[...\], ...\) or \|operation~0\|\+\|...\|"
PAIR = "expected an operation's name and a state's number"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "genotype: got '', " + NEITHER),
        ("sep_conv_3x3", "genotype: got 'sep_conv_3x3', " + NEITHER),
        ("Genotype", "genotype: got 'Genotype', " + NEITHER),
        ("Cell(normal=[])", "genotype: got .*, " + NEITHER),
        ("Genotype([], [2])", "genotype: got .*, " + NEITHER),
        ("Genotype(normal=[], normal=[])", "genotype: got .*, " + NEITHER),
        (darts() + "\n" + darts(), "genotype: got .*, " + NEITHER),
        (darts()[:-1], r"genotype, line 1, character 9: got .*, " + NEITHER),
        ("[" * 300, "genotype, .*: got .*, " + NEITHER),
        ("Genotype()", "genotype: got {}, expected a cell kind or more"),
        ("Genotype(normal=[('a', 0), ('b', 1)])", r"outputs: got \[\], expected those of the cell kinds normal"),
        (darts("('a', 0), ('b', 1), ('a', 0)"), "normal: got 3, expected an even number of pairs, two for each node"),
        (darts(""), r"normal: got \(\), expected a list of nodes, at least one"),
        (darts("open('file')"), r"normal: got \"\[open\('file'\)\]\", expected a list"),
        (darts("('a', 0), ('b', 2)", "[2]"), "normal node 0, input 1: got 2, expected an earlier state, 0 to 1"),
        (darts("('a', 0), ('b', -1)", "[2]"), "normal node 0, input 1: got -1, expected an earlier state, 0 to 1"),
        (darts("('a', 0), ('b', '1')", "[2]"), r"normal node 0, input 1: got \('b', '1'\), " + PAIR),
        (darts("('a', 0), (1, 'b')", "[2]"), r"normal node 0, input 1: got \(1, 'b'\), " + PAIR),
        (darts("('a', 0), 'b'", "[2]"), "normal node 0, input 1: got 'b', " + PAIR),
        (darts(concat="[2]"), r"normal outputs: got \(2,\), expected the last state 3 among them and none after it"),
        (darts(concat="range(2, 10**9)"), "normal_concat: got 'range.*', expected a list"),
        (darts(concat="range(2, 1000000000)"), r"normal outputs: got \(2, 3, 4.*, expected the last state 3 among them"),
        (darts(concat="[]"), r"normal outputs: got \(\), expected a list of states, at least one"),
        (darts(concat="[2, '3']"), r"normal outputs: got \(2, '3'\), expected a list of states, at least one"),
        ("|", r"normal node 0: got '\|', expected \|operation~state\|...\|"),
        (ARCH[:-1], r"normal node 2: got '\|skip_connect~0.*, expected \|operation~state\|...\|"),
        (ARCH + "+", r"normal node 3: got '', expected \|operation~state\|...\|"),
        ("|a~0|+|a~0|b~2|", "normal node 1, input 1: got 2, expected an earlier state, 0 to 1"),
        ("|a~0|+|a~0|b|", "normal node 1, input 1: got 'b', expected operation~state"),
        ("|a~zero|", "normal node 0, input 0: got 'a~zero', expected operation~state"),
    ],
)  # fmt: skip
def test_malformed_text_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^{message}") as refusal:
        Genotype.from_text(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"genotype: got '\[\]', expected JSON"),
        ({"cells": {}}, "genotype: got .*, expected JSON"),
        ({"cells": [], "outputs": []}, "genotype: got .*, expected JSON"),
        ({"cells": {}, "outputs": {}}, "genotype: got {}, expected a cell kind or more"),
        ({"cells": {"a": [[["x", 0]]]}, "outputs": {"b": [1]}}, r"outputs: got \['b'\], expected those of .* kinds a"),
        ({"cells": {"a": "x"}, "outputs": {"a": [1]}}, "a: got 'x', expected a list of nodes, at least one"),
        ({"cells": {"a": [[]]}, "outputs": {"a": [1]}}, r"a node 0: got \(\), expected a list of inputs, at least one"),
        ({"cells": {"a": [[["x", 0]]]}, "outputs": {"a": [0]}}, r"a outputs: got \(0,\), expected the last state 1"),
        ({"cells": {"a": [[["x", 1]]]}, "outputs": {"a": [1]}}, "a node 0, input 0: got 1, expected an earlier state"),
        ({"cells": {"a": [[["x", True]]]}, "outputs": {"a": [1]}}, r"a node 0, input 0: got \('x', True\), " + PAIR),
    ],
)  # fmt: skip
def test_malformed_json_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Genotype.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[" * 10_000], ids=["empty", "cut", "deep"])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"^genotype: got .*, expected JSON"):
        Genotype.from_json(text)


@pytest.mark.parametrize(
    ("notation", "cells", "outputs"),
    [
        ("darts", {"normal": ((("a", 0),), (("a", 0),))}, {"normal": (2, 3)}),
        ("darts", {"normal": ((("a", 0),), (("a", 0), ("b", 1), ("b", 2)))}, {"normal": (2, 3)}),
        ("darts", {"normal": ((("a", 0), ("b", 0)),)}, {"normal": (1,)}),
        ("darts", {"normal-cell": ((("a", 0), ("b", 1)),)}, {"normal-cell": (2,)}),
        ("nasbench201", {"reduce": ((("a", 0),),)}, {"reduce": (1,)}),
        ("nasbench201", {"normal": ((("a|b", 0),),)}, {"normal": (1,)}),
        ("nasbench201", {"normal": ((("a", 0),), (("a", 0),))}, {"normal": (1, 2)}),
        ("nasbench201", dict.fromkeys(("normal", "reduce"), ((("a", 0),),)), {"normal": (1,), "reduce": (1,)}),
    ],
)  # fmt: skip
def test_text_that_could_not_be_read_back_is_not_written(notation, cells, outputs):
    genotype = Genotype(cells, outputs)
    assert Genotype.from_json(genotype.to_json()) == genotype
    with pytest.raises(ValueError, match=f"^{notation} notation: got .*, expected .*: write this genotype as JSON$"):
        genotype.text(notation)


def test_an_unknown_notation_is_refused():
    with pytest.raises(ValueError, match=r"^notation: got 'xml', expected darts or nasbench201 or json$"):
        published("DARTS_V2").text("xml")

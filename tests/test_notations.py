"""Architectures as other programs write them: their texts, as published, and what each of them means."""

import json

import pytest

from darts_pt_jax import network
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.interop import published
from tests.test_genotype import ARCH, SHORT

GENOTYPES = """
from collections import namedtuple
Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')
PRIMITIVES = ['none', 'max_pool_3x3']
NASNet = Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),
    ('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6], reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0),
    ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3),
    ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=[4, 5, 6])
AmoebaNet = Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
    ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0),
    ('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3',
    0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
    ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])
PC_DARTS_cifar = Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
    ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)], normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0),
    ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))
PCDARTS = PC_DARTS_cifar
PDARTS = Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
    ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)], normal_concat=range(2, 6),
    reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0),
    ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))
Cri1_CIFAR_3 = Genotype(normal=[('sep_conv_3x3', 0), ('dil_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
    ('sep_conv_5x5', 1), ('sep_conv_5x5', 3), ('skip_connect', 0), ('dil_conv_5x5', 2)], normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 0), ('skip_connect', 2), ('sep_conv_3x3', 1),
    ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))
Cri1_CIFAR_Best = Cri1_CIFAR_3
DrNAS_cifar10 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2),
    ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2), ('dil_conv_5x5', 3)], normal_concat=range(2, 6),
    reduce=[('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_5x5', 2), ('sep_conv_5x5', 1), ('sep_conv_5x5', 1),
    ('dil_conv_5x5', 3), ('skip_connect', 4), ('sep_conv_5x5', 1)], reduce_concat=range(2, 6))
FairDARTS_a = Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_5x5', 2, 1), ('max_pool_3x3', 4, 0),
    ('sep_conv_3x3', 5, 0)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 2, 0), ('avg_pool_3x3', 2, 1),
    ('avg_pool_3x3', 3, 0), ('dil_conv_5x5', 3, 1), ('avg_pool_3x3', 4, 0), ('sep_conv_5x5', 4, 1), ('skip_connect',
    5, 0), ('skip_connect', 5, 1)], reduce_concat=range(2, 6))
"""
"""A genotypes.py, after those of DARTS, PC-DARTS, P-DARTS, SGAS, DrNAS and FairDARTS."""

CDARTS = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], "
    "[('sep_conv_3x3', 1), ('skip_connect', 0)], [('skip_connect', 0), ('dil_conv_3x3', 2)]], normal_concat=[2, 3, 4, 5], "
    "reduce=[[('max_pool_3x3', 0), ('max_pool_3x3', 1)], [('skip_connect', 2), ('max_pool_3x3', 1)], [('max_pool_3x3', 0), "
    "('skip_connect', 2)], [('skip_connect', 2), ('max_pool_3x3', 1)]], reduce_concat=[2, 3, 4, 5])"
)
"""DARTS_V2 as CDARTS writes it."""

MEANINGS = {
    "PC_DARTS_cifar": "S3.1 K.0 S3.0 D3.1 S5.0 S3.1 A.0 D3.1 | S5.1 M.0 S5.1 S5.2 S3.0 S3.3 S3.1 S3.2",
    "PCDARTS": "S3.1 K.0 S3.0 D3.1 S5.0 S3.1 A.0 D3.1 | S5.1 M.0 S5.1 S5.2 S3.0 S3.3 S3.1 S3.2",
    "PDARTS": "K.0 D3.1 K.0 S3.1 S3.1 S3.3 S3.0 D5.4 | A.0 S5.1 S3.0 D5.2 M.0 D3.1 D3.1 D5.3",
    "Cri1_CIFAR_Best": "S3.0 D3.1 S3.0 S3.1 S5.1 S5.3 K.0 D5.2 | M.0 D5.1 S3.0 K.2 S3.1 K.2 M.0 M.1",
    "DrNAS_cifar10": "S3.0 S5.1 S3.1 S3.2 K.0 S3.1 S3.2 D5.3 | M.0 S5.1 D5.2 S5.1 S5.1 D5.3 K.4 S5.1",
}


@pytest.fixture
def file(tmp_path):
    """A file of a given content; its path as text."""

    def written(content):
        path = tmp_path / "file (1).py"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return written


@pytest.mark.parametrize("name", MEANINGS)
def test_a_name_of_a_genotypes_py_is_read(name, file):
    genotype = published.find(f"{file(GENOTYPES)}:{name}")
    assert genotype == Genotype.from_text(GENOTYPES, name)
    for kind, column in zip(("normal", "reduce"), MEANINGS[name].split("|"), strict=True):
        pairs = [entry.split(".") for entry in column.split()]
        assert [(SHORT[operation], int(source)) for operation, source in pairs] == list(sum(genotype.cells[kind], ()))
        assert genotype.outputs[kind] == (2, 3, 4, 5) and len(genotype.cells[kind]) == 4
    network.check(genotype, "cifar")


@pytest.mark.parametrize(
    ("name", "unknown", "outputs"), [("NASNet", "sep_conv_7x7", (4, 5, 6)), ("AmoebaNet", "sep_conv_7x7", (3, 4, 6))]
)
def test_cells_of_five_nodes_are_read_and_their_unknown_operations_named(name, unknown, outputs):
    genotype = Genotype.from_text(GENOTYPES, name)
    assert [len(genotype.cells[kind]) for kind in ("normal", "reduce")] == [5, 5]
    assert genotype.outputs["reduce"] == outputs and genotype.inputs("reduce") == 2
    with pytest.raises(ValueError, match=f"^reduce: got operation '{unknown}', expected one of none, noise, "):
        network.check(genotype, "cifar")


def test_a_file_of_one_architecture_needs_no_name(file):
    start = GENOTYPES.index("PDARTS = Gen")
    one = GENOTYPES[: GENOTYPES.index("NASNet")] + GENOTYPES[start : GENOTYPES.index("Cri1")]
    assert published.find(file(one)) == Genotype.from_text(GENOTYPES, "PDARTS")
    assert published.find(file(one + "Best = PDARTS\n")) == Genotype.from_text(GENOTYPES, "PDARTS")
    assert published.find(file(b"\xef\xbb\xbf" + one.encode())) == Genotype.from_text(GENOTYPES, "PDARTS")
    assert Genotype.from_text("\ufeffDARTS_V2\n") == published.genotypes()["DARTS_V2"]


def test_a_file_is_never_executed(file, tmp_path):
    witness = tmp_path / "witness"
    text = f"open({str(witness)!r}, 'w')\nA = Genotype(normal=[open({str(witness)!r}, 'w')], normal_concat=[2])\n"
    with pytest.raises(ValueError, match=r"file \(1\)\.py: normal: got .*, expected a list"):
        published.find(file(text))
    assert not witness.exists()


def test_a_list_for_each_node_is_read():
    assert Genotype.from_text(CDARTS) == Genotype.from_text("DARTS_V2")
    stages = {str(i): CDARTS for i in range(3)}
    assert Genotype.from_text(json.dumps(stages)) == Genotype.from_text("DARTS_V2")
    other = {**stages, "2": published.find("DARTS_V1").text("darts")}
    assert Genotype.from_text(json.dumps(other), "2") == Genotype.from_text("DARTS_V1")
    with pytest.raises(
        ValueError, match=r"got 3 architectures, expected one: add its name, as in FILE:NAME \(it has 0, 1, 2\)"
    ):
        Genotype.from_text(json.dumps(other))
    uneven = Genotype.from_text("Genotype(normal=[[('a', 0)], [('b', 0), ('a', 1), ('b', 2)]], normal_concat=[2, 3])")
    assert [len(node) for node in uneven.cells["normal"]] == [1, 3]


def test_the_lines_of_a_log_are_read_without_their_time(file):
    text, other = (published.find(name).text("darts") for name in ("DARTS_V2", "DARTS_V1"))
    line = "11/09 02:44:23 AM genotype = "
    assert Genotype.from_text(line + text) == published.find("DARTS_V2")
    log = (
        f"11/09 02:44:20 AM epoch 1 lr 2.5e-02\n{line}{text}\n11/09 02:44:25 AM tensor([[0.1, 0.2]], device='cuda:0')\n"
    )
    assert published.find(file(log)) == published.find("DARTS_V2")
    with pytest.raises(ValueError, match=r"got 2 architectures, expected one: .* \(it has line 2, line 4\)"):
        published.find(file(log + line + other))


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (GENOTYPES, "", r"genotype: got 9 architectures, expected one: add its name, as in FILE:NAME \(it has NASNet, "),
        (GENOTYPES, "PDART", "genotype: got 'PDART', expected NASNet, AmoebaNet, .*: did you mean PDARTS"),
        ("DARTS_V2", "PDARTS", "genotype: got 'PDARTS', expected no name, as the text has none"),
        (GENOTYPES, "FairDARTS_a", r"normal: got \('sep_conv_3x3', 2, 0\), expected pairs \(operation, source state\): write tri"),
        (CDARTS.replace("0)", "0, 0.5)"), "", r"normal: got \('sep_conv_3x3', 0, 0.5\), expected pairs"),
        ("(4, 0, 3, 1, 4)", "", r"genotype: got \(4, 0, 3, 1, 4\), expected 6 of NASLib's numbers \(0 skip_connect, 1 none"),
        ("(4, 0, 3, 1, 4, 5)", "", r"genotype: got \(4, 0, 3, 1, 4, 5\), expected 6 of NASLib's"),
        (f"Structure(5 nodes with {ARCH})", "", "Structure: got 5, expected 4 nodes"),
        ("PDARTS", "", r"genotype: got 'PDARTS', expected Genotype.* or a published name"),
    ],
)  # fmt: skip
def test_a_message_names_what_is_wrong(text, name, message):
    with pytest.raises(ValueError, match=f"^{message}") as refusal:
        Genotype.from_text(text, name)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 260


@pytest.mark.parametrize(
    ("text", "near"),
    [("PCDARTS", ""), ("PDARTS", ""), ("darts_v2", "DARTS_V2"), ("darts_pt_s5", "darts_pt_s5_"), ("DrNAS", "")],
)
def test_only_a_near_name_is_suggested(text, near):
    with pytest.raises(ValueError, match="no published name and no readable file") as refusal:
        published.find(text)
    assert ("did you mean" in str(refusal.value)) == bool(near) and near in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        ARCH.replace("+", " + "), ARCH.replace("+", "+\n"), f"'{ARCH}'", f'"{ARCH}"\n', f"  {ARCH}",
        f"Structure(4 nodes with {ARCH})", "(2, 2, 0, 4, 2, 0)", "[2, 2, 0, 4, 2, 0]", "\ufeff" + ARCH,
    ],
)  # fmt: skip
def test_other_spellings_of_an_arch_string_are_read(text):
    assert Genotype.from_text(text) == published.find(text) == Genotype.from_text(ARCH)


def test_the_numbers_are_those_of_naslib():
    """By the maintainers' conversion (automl/NASLib, naslib/search_spaces/nasbench201/conversions.py)."""
    arch = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    assert Genotype.from_text("(4, 0, 3, 1, 4, 3)").text("nasbench201") == arch

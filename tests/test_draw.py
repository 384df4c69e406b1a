import itertools
import subprocess
import sys
from collections import Counter
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.patches import Circle, FancyArrowPatch

from darts_pt_jax import draw, ops
from darts_pt_jax.genotype import Genotype, genotype_of
from darts_pt_jax.selection import direct
from darts_pt_jax.spaces import SPACES

ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
OPERATION = {"type": "operation", "kind": "normal", "images": 200, "choice_index": 2}
TOPOLOGY = {"type": "topology", "kind": "reduce"}


def random_genotype(space: str, seed: int) -> Genotype:
    return genotype_of(SPACES[space], *direct.random(SPACES[space], {}, np.random.RandomState(seed)))


def labels(figure) -> list:
    return [text for text in figure.axes[0].texts if text.get_text() in ops.OPERATIONS]


def svg_words(file) -> Counter:
    """Every text of an SVG, with its parts joined."""
    texts = ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")
    return Counter("".join("".join(text.itertext()).split()) for text in texts)


def decision(number: int, **fields) -> dict:
    return {"decision": number, "baseline": {"correct": 100, "loss": 1.0}, "correct": [90, 80, 70], **fields}


def lines(figure) -> dict:
    """The points in a figure of accuracies, by label."""
    return {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space", SPACES)
def test_every_edge_is_an_arrow_with_its_name_apart_from_names_and_states(space, seed):
    genotype = random_genotype(space, seed)
    for kind in genotype.cells:
        figure = draw.cell(genotype, kind)
        names = labels(figure)
        assert Counter(text.get_text() for text in names) == Counter(genotype.operations(kind))
        boxes = [text.get_window_extent() for text in names]
        states = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, Circle)]
        assert len(states) == genotype.inputs(kind) + len(genotype.cells[kind]) + 1
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes + states, 2))
        assert all(figure.bbox.containsx(x) and figure.bbox.containsy(y) for box in boxes for x, y in box.corners())
        arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == len(names) + len(genotype.outputs[kind])


def test_operations_without_parameters_are_dashed_and_grey():
    figure = draw.cell(Genotype.from_text(ARCH), "normal")
    arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    solid = {text.get_text() for text in labels(figure) if text.get_color() != draw.GREY}
    assert solid == {"nor_conv_3x3", "nor_conv_1x1"}
    assert sum(arrow.get_linestyle() == draw.DASHED for arrow in arrows) == 3
    assert "no parameters (at stride 1)" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_files_hold_the_names_as_text_and_a_picture(tmp_path):
    draw.save(draw.cell(Genotype.from_text(ARCH), "normal"), tmp_path / "cell.1")
    words = svg_words(tmp_path / "cell.1.svg")
    expected = {"nor_conv_3x3": 2, "avg_pool_3x3": 1, "skip_connect": 1, "nor_conv_1x1": 1, "none": 1}
    assert {name: words[name] for name in expected} == expected
    assert words["ck\N{MINUS SIGN}1"] == words["0"] == words["1"] == words["2"] == words["ck"] == 1
    height, width, _ = matplotlib.image.imread(tmp_path / "cell.1.png").shape
    assert 200 < height < width < 1000
    assert len(list(tmp_path.iterdir())) == 2


def test_equal_figures_are_equal_files(tmp_path):
    script = (
        "import sys; from darts_pt_jax import draw; from darts_pt_jax.genotype import Genotype; "
        "draw.save(draw.cell(Genotype.from_text(sys.argv[1]), 'normal'), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", script, ARCH, tmp_path / "other"], check=True)
    for name in "ab":
        draw.save(draw.cell(Genotype.from_text(ARCH), "normal"), tmp_path / name)
    for suffix in ("svg", "png"):
        first, *others = [(tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b", "other")]
        assert others == [first, first]


def test_what_cannot_be_drawn_is_refused():
    genotype = Genotype.from_text("|conv_7x7~0|")
    with pytest.raises(ValueError, match="cell kind: got 'reduce', expected normal"):
        draw.cell(genotype, "reduce")
    with pytest.raises(ValueError, match="operation: got 'conv_7x7', expected one of none, noise"):
        draw.cell(genotype, "normal")


def test_accuracies_come_from_the_records():
    passes = [
        {"edges": [4, 5, 7], "removed": 5, "images": 100, "baseline": {"correct": 40}, "correct": [30, 39, 20]},
        {"edges": [4, 7], "removed": 7, "images": 100, "baseline": {"correct": 41}, "correct": [30, 38]},
    ]
    tuning = [{"decisions": 1, "valid_accuracy": 48.0}, {"decisions": 1}, {"decisions": 2, "valid_accuracy": 47.0}]
    decisions = [decision(1, **OPERATION), decision(2, **OPERATION), {"decision": 3, "passes": passes, **TOPOLOGY}]
    points = lines(draw.accuracy(decisions, tuning))
    assert points["normal, nothing removed"] == [[1, 50], [2, 50]]
    assert points["normal, after each removal"] == [[n, y] for n in (1, 2) for y in (45, 40, 35)]
    assert points["normal, after the removal that decided"] == [[1, 35], [2, 35]]
    assert points["reduce, nothing removed"] == [[2.85, 40], [3.15, 41]]
    assert points["reduce, after each removal"] == [[2.85, 30], [2.85, 39], [2.85, 20], [3.15, 30], [3.15, 38]]
    assert points["reduce, after the removal that decided"] == [[2.85, 39], [3.15, 38]]
    assert points["after tuning, unaugmented images"] == [[1.5, 48], [2.5, 47]]
    assert [2.5, 0] in itertools.chain(*points.values()), "the line before the topology decisions"
    kept = lines(draw.accuracy([decision(1, strategy="keep_one", **OPERATION), decisions[2]], []))
    assert kept["normal, with each operation alone"] == [[1, y] for y in (45, 40, 35)]
    assert kept["normal, nothing removed"] == [[1, 50]] and kept["normal, with the operation chosen"] == [[1, 35]]
    assert kept["reduce, nothing removed"] == [[2.85, 40], [3.15, 41]]
    raced = {"of": 400, "images": [200, 100, 200], "baseline": {"correct": [100, 50, 100]}}
    left = lines(draw.accuracy([decision(1, raced=raced, **OPERATION)], []))
    assert left["normal, after each removal"] == [[1, y] for y in (45, 80, 35)], "the second has seen half"


def test_accuracies_can_be_saved_without_tuning(tmp_path):
    draw.save(draw.accuracy([decision(1, **OPERATION)], []), tmp_path / "accuracy")
    words = svg_words(tmp_path / "accuracy.svg")
    assert words["decision"] == words["validationaccuracy,%"] == words["normalcell"] == 1


def test_decisions_without_images_have_no_accuracies():
    unscored = [{"decision": 1, "type": "operation", "kind": "normal", "choice_index": 0}]
    assert lines(draw.accuracy([*unscored, decision(2, **OPERATION)], []))["normal, nothing removed"] == [[2, 50]]
    with pytest.raises(ValueError, match="got 1 decisions without a baseline, expected one, or a tuning"):
        draw.accuracy(unscored, [])
    tuning = [{"decisions": 1, "valid_accuracy": 40.0}, {"decisions": 2}, {"decisions": 2, "valid_accuracy": 60.0}]
    drawn = lines(draw.accuracy(unscored, tuning))
    assert [y for _, y in drawn["after tuning, unaugmented images"]] == [40, 60] and len(drawn) == 1

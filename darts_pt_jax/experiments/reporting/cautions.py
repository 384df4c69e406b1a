"""What to know before one trusts a selection or retrains what it chose; the screen, report.md and the page say the same."""

from collections.abc import Mapping, Sequence

from darts_pt_jax import ops
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.selection import certainty
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.selection.ties import FIRST, rule_of

CUT_DOWN = (
    "nothing was tuned after the decisions: the accuracy after the selection is that of a supernet just cut down, and says "
    "little of the architecture"
)


def of_run(decisions: Sequence[Mapping], metrics: Sequence[Mapping], genotypes: Sequence[Genotype]) -> list[str]:
    """All cautions about a run, from the lines of its records and the architectures that it chose."""
    cut_down = any(m["stage"] == "select" and m["tuning_epoch"] == 0 for m in metrics)
    found = [*of_decisions(decisions), *(text for genotype in genotypes for text in of_architecture(genotype))]
    return list(dict.fromkeys(found + [CUT_DOWN] * cut_down))


def of_decisions(decisions: Sequence[Mapping]) -> list[str]:
    """How many operations were chosen by a tie, and what to do about it."""
    operations = [d for d in decisions if d["type"] == "operation"]
    tied = [d for d in operations if certainty.is_tie(d)]
    if not tied:
        return []
    advice, criterion, rule = "", tied[0].get("criterion"), rule_of(tied[0])
    if criterion:
        loss = ", or --config.select.criterion=loss" if CRITERIA[criterion].counts and rule is FIRST else ""
        advice = f": score more images{loss}"
    return [f"{len(tied)} of {len(operations)} choices of an operation are ties, which go to {rule.words}{advice}"]


def of_architecture(genotype: Genotype) -> list[str]:
    """Whether an architecture has nothing to train, or passes nothing on."""
    operations = [name for kind in genotype.cells for name in genotype.operations(kind)]
    found = []
    if not any(map(ops.has_parameters, operations)):
        names = ", ".join(sorted(set(operations)))
        found.append(f"the architecture has no operation with parameters ({names}): its cells learn next to nothing")
    for kind in genotype.cells:
        if is_cut(genotype, kind):
            found.append(f"none cuts the {kind} cell: no path leads from its inputs to its output, which is zero")
    return found


def is_cut(genotype: Genotype, kind: str) -> bool:
    """Whether no path without `none` leads from the inputs of a cell to its output."""
    inputs = genotype.inputs(kind)
    reached = set(range(inputs))
    for state, node in enumerate(genotype.cells[kind], inputs):
        if any(source in reached and operation != "none" for operation, source in node):
            reached.add(state)
    return reached.isdisjoint(genotype.outputs[kind])

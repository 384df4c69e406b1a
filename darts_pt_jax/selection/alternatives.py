"""Alternatives: complete architectures next to the chosen one, from the records of its decisions.

An alternative takes the runner-up in some decisions: the next best operation of an edge that is kept, or of a node's inputs
the edge that was dropped last in the place of the one that was then the next to go. It is behind the choice by the sum of
the margins of these decisions. No decision is taken anew, though later ones were taken after the choice.

This module does not import jax, so that records can be read without jax.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from darts_pt_jax.selection import certainty, direct
from darts_pt_jax.selection.budgets import Rows, nothing_decided
from darts_pt_jax.spaces import SearchSpace

MOST_TRIED = 10_000
"""Combinations of changes that are tried at most; limits or equal architectures may leave fewer alternatives."""


class Change(NamedTuple):
    """A decision with its runner-up.

    Attributes:
      margin: by how much the runner-up is behind, in the unit of the decision; 0 where a limit or a plugin took a weaker one.
      record: the record as it would be, for `applied`.
      words: the change, such as "normal edge 3: skip_connect".
    """

    margin: float
    record: dict
    words: str


class Alternative(NamedTuple):
    """A complete architecture.

    Attributes:
      behind: the sum of the margins of its changes.
      changes: their words.
      operations, kept: as in `direct.Choice`.
    """

    behind: float
    changes: list[str]
    operations: Rows
    kept: Rows


def changed(record: Mapping) -> Change | None:
    """A recorded decision with its runner-up; None if there was no other choice."""
    contests = certainty.contests(record)
    if record["type"] == "operation":
        other = contests[0].runner_up if contests else _next_best(record)
        if other is None:
            return None
        name = record["candidates"][other]
        new = {**record, "choice": name, "choice_index": other}
        return Change(max(record["margin"], 0.0), new, f"{record['kind']} edge {record['edge']}: {name}")
    if contests:
        last = record["passes"][-1]
        out, back = contests[-1].runner_up, last["removed"]
        if out is None:
            return None
        margin, out = last["margin"], last["edges"][out]
    else:
        strength = dict(zip(record["edges"], direct.values_of(record)[1], strict=True))
        out = min(record["choice"], key=strength.__getitem__)
        back = max((e for e in record["edges"] if e not in record["choice"]), key=strength.__getitem__)
        margin = max(record["margin"], 0.0)
    keep = sorted({*record["choice"], back} - {out})
    words = f"{record['kind']} node {record['node']}: edges {', '.join(map(str, keep))}"
    return Change(margin, {**record, "choice": keep}, words)


def _next_best(record: Mapping) -> int | None:
    """The position with the best value after that of the choice."""
    values = direct.values_of(record)[1]
    return max((o for o in record["eligible"] if o != record["choice_index"]), key=values.__getitem__, default=None)


def applied(space: SearchSpace, records: Sequence[Mapping]) -> tuple[Rows, Rows]:
    """The operations and the edges kept that records of all decisions give."""
    operations, kept = nothing_decided(space)
    for record in records:
        if record["type"] == "operation":
            operations[record["kind"]][record["edge"]] = record["choice_index"]
            dropped = record.get("pruned", [])
        else:
            dropped = [e for e in record["edges"] if e not in record["choice"]]
        kept[record["kind"]][dropped] = False
    return operations, kept


def alternatives(
    space: SearchSpace, records: Sequence[Mapping], count: int, fits: Callable[[Rows, Rows], bool] = lambda *_: True
) -> list[Alternative]:
    """The `count` nearest alternatives, or fewer, by how far they are behind the choice.

    Args:
      space: the search space.
      records: all decisions of a selection.
      count: how many.
      fits: `fits(operations, kept)`, whether an architecture may be taken (`Budget.fits`).
    """
    chosen = applied(space, records)
    places = {}
    for place, record in enumerate(records):
        idle = record["type"] == "operation" and not chosen[1][record["kind"]][record["edge"]]
        if not idle and (change := changed(record)):
            places[place] = change
    order = sorted(places, key=lambda place: places[place].margin)
    seen, found = {_signature(space, *chosen)}, list[Alternative]()
    for subset in itertools.islice(_by_sum([places[place].margin for place in order]), MOST_TRIED):
        if len(found) == count:
            break
        taken = [order[i] for i in subset]
        new = {place: places[place].record for place in taken}
        architecture = applied(space, [new.get(place, record) for place, record in enumerate(records)])
        if (signature := _signature(space, *architecture)) not in seen and fits(*architecture):
            behind = sum(places[place].margin for place in taken)
            found.append(Alternative(behind, [places[place].words for place in taken], *architecture))
        seen.add(signature)
    return found


def _signature(space: SearchSpace, operations: Rows, kept: Rows) -> tuple:
    """What two decisions have in common that give one architecture."""
    return tuple(tuple(np.where(kept[kind], operations[kind], -2).tolist()) for kind in space.cells)


def _by_sum(values: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """All sets of positions of ascending, not negative values, by the sum of their values."""
    heap: list[tuple[float, tuple[int, ...]]] = [(values[0], (0,))] if values else []
    while heap:
        total, subset = heapq.heappop(heap)
        yield subset
        others, last = subset[:-1], subset[-1]
        if last + 1 < len(values):
            following = values[last + 1]
            heapq.heappush(heap, (total + following, (*subset, last + 1)))
            heapq.heappush(heap, (total - values[last] + following, (*others, last + 1)))

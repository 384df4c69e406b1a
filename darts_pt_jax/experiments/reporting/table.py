"""The table of a sweep: table.md and table.json."""

import json
import pathlib
from collections.abc import Mapping, Sequence

from darts_pt_jax import record
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.reporting import measures
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.records import RunRecords

Results = Mapping[str, Mapping[int, Mapping]]
"""What `result` says of each finished run, by selection or architecture, and seed."""


def result(workdir: pathlib.Path, config: Config) -> dict:
    """What the table says of a finished run: "values", its measures by name, and "genotype", its text."""
    records = RunRecords.read(workdir, config)
    genotype = (workdir / "genotype.txt").read_text().strip()
    return {"values": measures.measure(config, records), "genotype": genotype}


def write(workdir: pathlib.Path, results: Results, seeds: Sequence[int], selections: bool) -> str:
    """Writes both files; returns the text of table.md.

    Args:
      workdir: the directory of the sweep.
      results: of the runs.
      seeds: the columns.
      selections: whether the rows are selections, and not architectures.
    """
    record.write_text(workdir / "table.json", json.dumps(results, indent=1) + "\n")
    kind, prefix = ("selection", "by ") if selections else ("architecture", "")
    lines = table_head("", kind, *(f"seed {seed}" for seed in seeds), "mean", "standard deviation", "best")
    every = [found["values"] for by_seed in results.values() for found in by_seed.values()]
    for name in dict.fromkeys(name for values in every for name in values):
        for row, by_seed in results.items():
            known = {seed: found["values"][name] for seed, found in by_seed.items() if name in found["values"]}
            lines.append(table_row(name, prefix + row, *_cells(name, known, seeds)))
    for row, by_seed in results.items():
        for seed, found in by_seed.items():
            lines += ["", f"{prefix.capitalize()}{row}, seed {seed}:", "", "```", found["genotype"], "```"]
    text = "\n".join(lines) + "\n"
    record.write_text(workdir / "table.md", text)
    return text


def _cells(name: str, known: Mapping[int, float], seeds: Sequence[int]) -> list[str]:
    """A measure of each seed, and its mean, standard deviation and, of a percentage, best."""
    numbers = list(known.values())
    mean, deviation = measures.spread(numbers)
    return [
        *(measures.number(known[seed]) if seed in known else "missing" for seed in seeds),
        "" if mean is None else measures.number(mean),
        "" if deviation is None else measures.number(deviation),
        measures.number(max(numbers)) if numbers and name.endswith("%") else "",
    ]

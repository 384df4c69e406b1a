"""The stage `report`: makes report.md, report.html and the drawings from the records of the run alone."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import jax

from darts_pt_jax import draw, network, record
from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.config.settings import Settings
from darts_pt_jax.experiments.engine.scalars import TensorBoard
from darts_pt_jax.experiments.reporting import page, summary
from darts_pt_jax.experiments.reporting.lines import genotype_name
from darts_pt_jax.experiments.reporting.records import RunRecords
from darts_pt_jax.experiments.training.network import discrete_network

NUMBERS = "parameters", "multiply_adds", "milliseconds"
"""What is measured of a network: its size, and the time for one image."""


def write(settings: Settings) -> str | None:
    """Writes report.md, report.html and the drawings, unless they exist and are current.

    It also rewrites TensorBoard's files, which a kill may have cut short. It writes report.md last, so that everything is
    there if report.md is.

    Returns:
      The text for the screen, or None if nothing was written.
    """
    config, workdir = settings.config, settings.workdir
    records = RunRecords.read(workdir, config)
    networks = _networks(settings.config, records)
    if networks != records.networks:
        record.write_text(workdir / "networks.json", json.dumps(networks, indent=1) + "\n")
    records = dataclasses.replace(records, networks=networks)
    markdown, details = summary.build(config, records)
    texts = {workdir / "report.html": page.build(config, records), workdir / "report.md": f"{markdown}\n{details}"}
    if all(file.exists() and file.read_text() == text for file, text in texts.items()):
        return None
    _draw(workdir / "drawings", records)
    if config.tensorboard:
        TensorBoard(workdir / "tensorboard", records.metrics + records.decisions).close()
    for file, text in texts.items():
        record.write_text(file, text)
    return f"{markdown}\n## Time\n\n{summary.times(records)}\n"


def _networks(config: Config, records: RunRecords) -> list[dict]:
    """Size of the discrete network of each architecture, and the latency of those that the run has chosen.

    What was found before is read from networks.json: a latency is measured once for each network and device.
    """
    run = records.run
    if "classes" not in run:  # an earlier version began the run
        return []
    found = []
    for name, genotype in records.architectures(config).items():
        try:
            net = discrete_network(config, genotype, run["classes"])
        except ValueError as error:
            return [{"architecture": name, "error": str(error)}]
        timed = config.report.latency and genotype in records.genotypes
        what = {
            "architecture": name, "genotype": genotype.text(genotype.notation), "form": net.form, "cells": net.cells,
            "channels": net.channels, "image": run["image_shape"], "precision": jax.numpy.dtype(net.dtype).name,
        }  # fmt: skip
        if timed:
            what["device"] = jax.devices()[0].device_kind
        known = (entry for entry in records.networks if {k: v for k, v in entry.items() if k not in NUMBERS} == what)
        found.append(next(known, None) or {**what, **_numbers(net, run["image_shape"], timed)})
    return found


def _numbers(net: network.Network, image_shape: Sequence[int], timed: bool) -> dict:
    """The values of `NUMBERS`; the last only if it is to be `timed`."""
    found = dict(zip(NUMBERS, network.size(net, image_shape), strict=False))
    return found | ({NUMBERS[-1]: network.latency(net, image_shape)} if timed else {})


def _draw(directory: pathlib.Path, records: RunRecords):
    """Draws the cells of each order, and the supernet's accuracy over its decisions if that was measured."""
    directory.mkdir(exist_ok=True)
    for order, genotype in enumerate(records.genotypes):
        suffix = genotype_name(order).removeprefix("genotype")
        for kind in genotype.cells:
            draw.save(draw.cell(genotype, kind), directory / f"{kind}{suffix}")
        taken = [d for d in records.decisions if d["order"] == order + 1]
        tuning = [m for m in records.stage("select") if m["order"] == order + 1]
        if any(m["tuning_epoch"] for m in tuning) or any("baseline" in d or "passes" in d for d in taken):
            draw.save(draw.accuracy(taken, tuning), directory / f"accuracy{suffix}")

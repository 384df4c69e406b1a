"""The stage `report`: makes report.md, report.html and the drawings from the records of the run alone."""

import json
import pathlib

import jax

from darts_pt_jax import draw, network, record
from experiments.config.settings import Settings
from experiments.engine.scalars import Scalars
from experiments.reporting import page, summary
from experiments.reporting.lines import genotype_name
from experiments.reporting.markdown import table_head, table_row
from experiments.reporting.records import RunRecords
from experiments.training.network import discrete_network


def write(settings: Settings) -> str | None:
    """Writes report.md, report.html and the drawings, unless they exist and are current.

    It also rewrites TensorBoard's files, which a kill may have cut short. It writes report.md last, so that everything is
    there if report.md is.

    Returns:
      The text for the screen, or None if nothing was written.
    """
    config, workdir = settings.config, settings.workdir
    records = RunRecords.read(workdir, config)
    markdown, details = summary.build(config, records, _networks(settings, records))
    texts = {workdir / "report.html": page.build(config, records), workdir / "report.md": f"{markdown}\n{details}"}
    if all(file.exists() and file.read_text() == text for file, text in texts.items()):
        return None
    _draw(workdir / "drawings", records)
    if config.tensorboard:
        Scalars(workdir / "tensorboard", records.metrics + records.decisions).close()
    for file, text in texts.items():
        record.write_text(file, text)
    return f"{markdown}\n## Time\n\n{summary.times(records)}\n"


def _networks(settings: Settings, records: RunRecords) -> list[str]:
    """A section of report.md: the size of the discrete networks, and the latency of those that the run has chosen."""
    config, run, latency = settings.config, records.run, settings.config.report.latency
    if "classes" not in run:  # an earlier version began the run
        return []
    image = "x".join(map(str, run["image_shape"]))
    lines = ["## Discrete network", "", *table_head("architecture", "parameters", "multiply-adds", "ms an image")]
    for name, genotype in records.architectures(config).items():
        try:
            net = discrete_network(config, genotype, run["classes"])
        except ValueError as error:
            return ["## Discrete network", "", f"There is none: {error}.", ""]
        parameters, multiply_adds = network.size(net, run["image_shape"])
        timed = latency and genotype in records.genotypes
        milliseconds = f"{_latency(settings.workdir, net, run['image_shape'], image):.3g}" if timed else ""
        lines.append(table_row(name, f"{parameters:,}", f"{multiply_adds:,}", milliseconds))
    cells = f"{config.retrain.cells} cells" + " a stage" * (net.form == "nasbench201")
    note = f"{cells} of {config.retrain.channels} channels, images of {image}."
    if latency:
        note += f" The time is of one image at a time on {jax.devices()[0].device_kind}, of what the run has chosen."
    return [*lines, "", note, ""]


def _latency(workdir: pathlib.Path, net: network.Network, image_shape: list[int], image: str) -> float:
    """Milliseconds for one image, measured once for each run directory and device, then read from latency.json."""
    file = workdir / "latency.json"
    known = json.loads(file.read_text()) if file.exists() else []
    what = {
        "device": jax.devices()[0].device_kind,
        "precision": jax.numpy.dtype(net.dtype).name,
        "image": image,
        "form": net.form,
        "cells": net.cells,
        "channels": net.channels,
        "genotype": net.genotype.text(net.genotype.notation),
    }
    for entry in known:
        if {**entry, **what} == entry:
            return entry["milliseconds"]
    known.append({"milliseconds": network.latency(net, image_shape), **what})
    record.write_text(file, json.dumps(known, indent=1) + "\n")
    return known[-1]["milliseconds"]


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

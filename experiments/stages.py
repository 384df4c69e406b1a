"""What a run consists of."""

from ml_collections import ConfigDict

from experiments import search, select
from experiments.run import Unit


def pipeline(config: ConfigDict) -> dict[str, list[Unit]]:
    """The units of every stage, in order; the stage report has none."""
    return {"search": search.units(config), "select": select.units(config), "report": []}

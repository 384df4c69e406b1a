"""The units of work of a run."""

from darts_pt_jax.experiments.config.schema import Config
from darts_pt_jax.experiments.engine.units import Unit
from darts_pt_jax.experiments.stages import retrain, search, select


def pipeline(config: Config) -> dict[str, list[Unit]]:
    """The units of every stage, in order; search and select have none if the config names the architecture."""
    named = bool(config.genotype)
    return {
        "search": [] if named else search.units(config),
        "select": [] if named else select.units(config),
        "retrain": retrain.units(config),
        "report": [],
    }

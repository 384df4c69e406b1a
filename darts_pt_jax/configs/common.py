"""The defaults of every config file, and settings that several config files share.

A config file calls `get_config` and changes values. The defaults are DARTS-PT on CIFAR-10 as the reference code runs it.
docs/reference/keys.md says what every key means; darts_pt_jax/experiments/config/keys.py defines the keys.
"""

import dataclasses
from collections.abc import Iterable

from ml_collections import ConfigDict

from darts_pt_jax.experiments.config.schema import Config


def get_config() -> ConfigDict:
    """The defaults of all keys."""
    return ConfigDict(dataclasses.asdict(Config()))


RETRAIN_SMALL = {
    "retrain.cells": 5, "retrain.channels": 16, "retrain.epochs": 12, "retrain.batch_size": 64, "retrain.drop_path": 0.0,
    "retrain.auxiliary": 0.0, "retrain.cutout": 0, "retrain.test_every": 3,
}  # fmt: skip
"""Retraining that takes minutes on CPUs; it is too short to need regularisation against overfitting."""

RETRAIN_NASBENCH201 = {
    "retrain.cells": 5, "retrain.channels": 16, "retrain.epochs": 200, "retrain.batch_size": 256, "retrain.learning_rate": 0.1,
    "retrain.weight_decay": 5e-4, "retrain.drop_path": 0.0, "retrain.auxiliary": 0.0, "retrain.cutout": 0,
}  # fmt: skip
"""The benchmark's network and protocol, apart from Nesterov momentum and gradient clipping."""

PT, MAGNITUDE = {"select.method": "perturbation"}, {"select.method": "magnitude"}
SDARTS_RS, SDARTS_ADV = {"search.sampler": "sdarts_rs"}, {"search.sampler": "sdarts_adv"}
LATER = {
    "drnas": {"search.sampler": "drnas", "search.alpha_learning_rate": 6e-4},
    "snas": {"search.sampler": "snas", "search.temperature": 1.0},
    "gdas": {"search.sampler": "gdas"},
    "pc_darts": {"search.sampler": "pc_darts", "supernet.channel_share": 4, "search.alpha_learning_rate": 6e-4},
    "beta_darts": {"search.alpha_regulariser": "beta_decay", "search.alpha_regulariser_weight": 50.0},
    "fairdarts": {
        "search.sampler": "fairdarts", "search.alpha_init": "zero", "search.alpha_learning_rate": 3e-3,
        "search.alpha_regulariser": "zero_one", "search.alpha_regulariser_weight": 10.0,
    },
}  # fmt: skip
"""Later methods, as far as keys can say it: samplers, regularisers and the alphas' learning rates of their public code."""

SGAS = {"space": "darts_none", "search.epochs": 10, "search.schedule_epochs": 50, "search.sampling": "epoch"}
METHODS = {
    "darts": MAGNITUDE,
    "darts_second_order": {"search.unrolled": "exact", **MAGNITUDE},
    "darts_pt": PT,
    "darts_pt_mag": {"select.method": "magnitude_tuned"},
    "darts_pt_fixed": {"search.alpha": "fixed", **PT},
    "sdarts_rs": {**SDARTS_RS, **MAGNITUDE},
    "sdarts_rs_pt": {**SDARTS_RS, **PT},
    "sdarts_adv": {**SDARTS_ADV, **MAGNITUDE},
    "sdarts_adv_pt": {**SDARTS_ADV, **PT},
    "sgas": {**SGAS, "select.method": "sgas"},
    "sgas_pt": {**SGAS, "select.method": "sgas_perturbation"},
}
"""The settings of the paper's methods, on top of the defaults."""

COMPARED = ("darts", "darts_pt", "darts_pt_fixed")
"""The methods of Tables 3 and 4."""


def arguments(text: str, *allowed: Iterable[str]) -> list[str]:
    """Splits the argument of a config file, such as "s2,svhn,darts_pt".

    Raises:
      ValueError: its parts are not one name from each of `allowed`.
    """
    parts = text.split(",")
    if len(parts) != len(allowed) or any(part not in names for part, names in zip(parts, allowed, strict=True)):
        expected = ", then a comma and ".join(f"one of {' '.join(names)}" for names in allowed)
        raise ValueError(f"the argument after --config=FILE: is {text!r}, expected {expected}")
    return parts

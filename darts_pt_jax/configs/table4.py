"""The paper's Table 4: DARTS-PT with learned and with fixed alphas, as the reference code runs it on CIFAR-10.

    python -m experiments.main --config=configs/table4.py:nasbench201,darts_pt_fixed

The argument is a space (darts, nasbench201) and a method (darts, darts_pt, darts_pt_fixed). Made for an accelerator.
"""

from darts_pt_jax.configs import common, darts_c10

SPACES = {
    "darts": {},
    "nasbench201": {"supernet.cells": 5, "search.epochs": 100, **common.RETRAIN_NASBENCH201},
}


def get_config(argument=""):
    space, method = common.arguments(argument, SPACES, common.COMPARED)
    config = darts_c10.get_config()
    config.space = space
    config.update_from_flattened_dict({**SPACES[space], **common.METHODS[method]})
    return config

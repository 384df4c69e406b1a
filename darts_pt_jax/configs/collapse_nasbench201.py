"""A search on NAS-Bench-201 whose alphas drift to skip_connect, as in the paper: made for two CPU cores.

    python -m experiments.main --config=configs/collapse_nasbench201.py

The first 2,000 steps of a search of 10,000, with the reference code's 16 channels, 5 cells a stage and learning rates, on
CIFAR-10 averaged to 8x8. At the end skip_connect has the largest alpha on four to six of the six edges
(docs/results/collapse.md). It keeps supernets on the way, for the analyses (`python -m experiments.analysis`).
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.space = "nasbench201"
    config.data.size = 8
    config.data.examples = 12800
    config.supernet.cells = 5
    config.update_from_flattened_dict(common.RETRAIN_NASBENCH201)
    config.search.epochs = 20
    config.search.schedule_epochs = 100
    config.eval.images = 1024
    config.select.images = 5000
    config.select.interval = 1
    config.checkpoint.snapshots = (2, 5, 10, 15)
    return config

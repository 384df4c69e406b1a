"""DARTS-PT on CIFAR-10: the paper's Table 2 search, as the reference code runs it.

    python -m experiments.main --config=configs/darts_c10.py

50 epochs of bilevel training and 81 of tuning on 25,000 images: made for an accelerator.
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.data.mean = (0.49139968, 0.48215827, 0.44653124)
    config.data.std = (0.24703233, 0.24348505, 0.26158768)
    config.select.restrict_every = 2
    return config

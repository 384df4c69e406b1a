"""The paper's Table 3: the spaces S1 to S4 on three data sets, as the reference code runs them.

    python -m experiments.main --config=configs/table3.py:s2,svhn,darts_pt

The argument is a space (s1, s2, s3, s4), a data set (cifar10, cifar100, svhn) and a method (darts, darts_pt,
darts_pt_fixed). `python -m experiments.prepare cifar10` (cifar100, svhn_cropped) makes the data. Made for an accelerator.
"""

from darts_pt_jax.configs import common, darts_c10

DATA = {
    "cifar10": ("data/cifar10.npz", (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": ("data/cifar100.npz", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ("data/svhn_cropped.npz", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}


def get_config(argument=""):
    space, data, method = common.arguments(argument, ("s1", "s2", "s3", "s4"), DATA, common.COMPARED)
    config = darts_c10.get_config()
    config.space = space
    config.data.path, config.data.mean, config.data.std = DATA[data]
    if data != "cifar10":
        config.retrain.channels, config.retrain.cells = 16, 8
    config.update_from_flattened_dict(common.METHODS[method])
    return config

"""The methods of the paper side by side, on S3 and CIFAR-10 averaged to 16x16: made for two CPU cores.

    python -m experiments.main --config=configs/methods_s3_small.py:darts

The argument is one of darts, sdarts_rs, sgas, fixed, drnas, snas, gdas, pc_darts, beta_darts, fairdarts;
--config.select.method chooses the selection.
"""

from darts_pt_jax.configs import common

METHODS = ("darts", "sdarts_rs", "sgas", "fixed", *common.LATER)


def get_config(argument=""):
    (method,) = common.arguments(argument, METHODS)
    config = common.get_config()
    config.data.path = "data/cifar10.npz"  # python -m experiments.prepare cifar10
    config.space = "s3"
    config.data.size = 16
    config.data.examples = 5000
    config.supernet.cells = 5
    config.supernet.channels = 8
    config.update_from_flattened_dict(common.RETRAIN_SMALL)
    config.search.epochs = 14
    config.search.sampling = "epoch"
    config.select.interval = 1
    config.select.images = 1024
    config.eval.every = 2
    if method == "sdarts_rs":
        config.update_from_flattened_dict(common.SDARTS_RS)
    elif method == "sgas":
        config.search.schedule_epochs = 30
        config.select.method = "sgas"
        config.select.interval = 2
        config.sgas.batch_increase = 0
    elif method == "fixed":
        config.search.alpha = "fixed"
    elif method in common.LATER:
        config.update_from_flattened_dict(common.LATER[method])
    if method in ("drnas", "pc_darts"):
        config.search.alpha_start = 4  # DrNAS: 10 of each 25 epochs; PC-DARTS: 15 of 50
    return config

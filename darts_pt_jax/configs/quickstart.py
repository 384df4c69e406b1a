"""All of DARTS-PT on scikit-learn's handwritten digits, in minutes on a laptop's CPU.

python -m experiments.main --config=configs/quickstart.py
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.data.source = "digits"
    config.supernet.cells = 3
    config.supernet.channels = 4
    config.search.epochs = 10
    config.search.batch_size = 32
    config.search.sampling = "epoch"
    config.search.gradients = "shared"
    config.select.interval = 1
    config.retrain.cells = 3
    config.retrain.channels = 8
    config.retrain.epochs = 30
    config.retrain.batch_size = 32
    config.retrain.auxiliary = 0.0
    config.retrain.cutout = 2
    return config

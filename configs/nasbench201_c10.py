"""DARTS-PT on CIFAR-10 in NAS-Bench-201: a row of the paper's Table 4, as the reference code runs it.

    python -m experiments.main --config=configs/nasbench201_c10.py

100 epochs of bilevel training; add --config.search.alpha=fixed for the column "fix alpha".
"""

from configs import darts_c10


def get_config():
    config = darts_c10.get_config()
    config.space = "nasbench201"
    config.supernet.cells = 5
    config.search.epochs = 100
    return config

"""DARTS-PT on CIFAR-10 in the space S3: a row of the paper's Table 3, as the reference code runs it.

python -m experiments.main --config=configs/s3_c10.py
"""

from configs import darts_c10


def get_config():
    config = darts_c10.get_config()
    config.space = "s3"
    return config

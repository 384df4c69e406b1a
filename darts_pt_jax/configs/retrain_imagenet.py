"""Retrains an architecture on ImageNet as the paper does: 48 channels, 14 cells, 250 epochs, images of 224x224.

    python -m experiments.main --config=configs/retrain_imagenet.py --config.genotype=darts_pt_s5_0

It reads imagenet2012 as prepared by tensorflow-datasets in the format array_record or, with --config.data.source=folder
--config.data.path=DIR, the folders DIR/train/CLASS and DIR/val/CLASS. Made for an accelerator with many CPU cores.
"""

from darts_pt_jax.configs import common


def get_config():
    config = common.get_config()
    config.stages = "retrain,report"
    config.genotype = "darts_pt_s5_0"
    config.data.source = "imagenet2012"
    config.data.crop = 224
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    config.retrain.form = "imagenet"
    config.retrain.cells = 14
    config.retrain.channels = 48
    config.retrain.epochs = 250
    config.retrain.batch_size = 128
    config.retrain.learning_rate = 0.1
    config.retrain.schedule = "exponential"
    config.retrain.weight_decay = 3e-5
    config.retrain.drop_path = 0.0
    config.retrain.cutout = 0
    config.retrain.jitter = (0.4, 0.4, 0.4, 0.2)
    config.retrain.label_smoothing = 0.1
    return config

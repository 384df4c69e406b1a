"""The keys of every config and their defaults: DARTS-PT on CIFAR-10 as the reference code runs it.

A config file calls `get_config` and changes what it is about. `experiments/settings.py` checks the values.
"""

from collections.abc import Iterable

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Defaults of every key."""
    return ConfigDict({
        "precision": "float32",  # float32; bfloat16 computes in it, with float32 weights and statistics
        "matmul_precision": "default",  # of products of matrices on accelerators: default, high, highest
        "debug_nans": False,  # stops at the operation that first gives NaN; slow, and reuses no memory
        "remat": False,  # keeps less for the gradient, and computes it again: less memory, more time, equal to rounding
        "devices": 0,  # of each host, over which batches are split; 0: all
        "compilation_cache": True,  # keeps compiled programs in the user's cache folder
        "seed": 0,  # of every stage that has none of its own
        "stages": "search,select,report",  # any of search, select, retrain, report, in this order
        "genotype": "",  # architecture to retrain instead of searching: a published name, a file, or its text
        "init_from": "",  # run directory, or PyTorch checkpoint of the reference code, to take the searched supernet from
        "init_epoch": 0,  # which of its search epochs; 0: the last that it keeps
        "space": "darts",  # darts, darts_none, s1, s2, s3, s4, nasbench201
        "data": {
            "source": "npz",  # npz, digits, folder (with crop), or a name of tensorflow-datasets such as cifar10
            "path": "",  # the npz: train_images, train_labels, test_images, test_labels; or the folder of train, val
            "dir": "",  # where tensorflow-datasets keeps its data; "": its own default
            "download": False,  # lets tensorflow-datasets download what is not there
            "crop": 0,  # side that pictures of any size are cut to, read as they are needed (retraining only); 0: all
            # pictures are of one size, and kept in memory
            "size": 0,  # height and width to average or resize to; 0: as they are
            "examples": 0,  # the first so many training images; 0: all
            "train_fraction": 0.5,  # share that trains the weights; the rest trains the alphas and scores
            "pad": -1,  # zero padding before the random crop; -1: the data set's default
            "flip": "default",  # random horizontal flip: on, off, or the data set's default
            "mean": (),  # per channel, of pixels in [0, 1]; (): from the training half
            "std": (),
        },
        "supernet": {
            "cells": 8,  # nasbench201: cells of each of the three stages
            "channels": 16,
        },
        "search": {
            "seed": -1,  # of initialisation, batches and augmentation; -1: seed
            "epochs": 50,
            "batch_size": 64,
            "sampling": "independent",  # independent: every batch is drawn afresh (code); epoch: shuffled passes
            "alpha": "learned",  # learned, fixed
            "alpha_init": "noise",  # noise: 1e-3 N(0, 1) (code); zero (the paper's fixed alphas)
            "unrolled": "off",  # alphas' gradient after a step of the weights: exact, finite_difference (DARTS); off
            "perturb": "none",  # edge weights while weights are trained: none, uniform (SDARTS-RS, code), gaussian (paper),
            # adversarial (SDARTS-ADV)
            "epsilon": 0.3,  # how far, at the end of the search and while tuning; epsilon_first at the beginning
            "epsilon_first": 0.03,
            "learning_rate": 0.025,  # cosine, by epoch, down to learning_rate_min
            "learning_rate_min": 0.001,
            "schedule_epochs": 0,  # epochs over which learning rate and epsilon go their way; 0: epochs
            "gradients": "separate",  # separate: a program for alphas, one for weights; shared: one, half the compilation
            "scan": "auto",  # an epoch as one program: on, off, auto (on TPUs)
            "momentum": 0.9,
            "weight_decay": 3e-4,
            "clip": 5.0,
            "alpha_learning_rate": 3e-4,
            "alpha_weight_decay": 1e-3,
        },
        "select": {
            "seed": -1,  # of the order and of scoring's and tuning's batches; -1: seed
            "method": "perturbation",  # perturbation, magnitude_tuned (PT-Mag), magnitude, random, sgas, sgas_perturbation
            "orders": 1,  # selections from the one supernet; the n-th is that of select.seed + n - 1
            "criterion": "acc",  # acc, loss
            "order": "random",  # random, fixed, reference, or edges: "normal:4,0,5,2,3,1"
            "pairing": "both",  # both: one edge of every cell kind per interval (code); single: one edge (paper)
            "interval": 5,  # epochs of tuning between decisions; 0: none
            "tune_lr_factor": 0.1,  # tuning's constant learning rate, as a share of search.learning_rate
            "topology": "leave_one_out",  # leave_one_out (code), single_ranking (paper, Algorithm 2)
            "bn": "batch",  # statistics while scoring: batch (code), running
            "none_is_candidate": True,
            "images": 0,  # validation images to score on; 0: all
            "augment": True,  # score on augmented images (code)
            "restrict_every": 0,  # decision points after which the excluded candidates are left out; 0: never
            "mask_batch": 0,  # removals evaluated at once; 0: all of an edge
        },
        "sgas": {  # of the select.methods sgas and sgas_perturbation, which decide while they go on with the search; an
            # order, pairing, topology and tune_lr_factor are not theirs, and none is never chosen
            "criterion": 1,  # 1: importance and certainty; 2: stability too
            "batch_increase": 8,  # images that every decision point adds to a batch; each is another shape to compile
        },
        "curvature": {  # of the validation loss in the alphas: the Hessian's largest eigenvalue (RobustDARTS)
            "every": 0,  # epochs of the search between two looks; 0: never
            "images": 256,  # validation images that it is of
            "stop": 0.0,  # ends the search where it was less than this share of now (RobustDARTS: 0.75); 0: never
            "window": 5,  # looks whose mean is compared with that of as many before, to which the search then returns
        },
        "retrain": {  # of the chosen architecture from scratch, on the whole training set (DARTS, A.2)
            "seed": -1,  # -1: seed
            "form": "auto",  # cifar, imagenet, nasbench201; auto: by the genotype's cells
            "cells": 20,
            "channels": 36,
            "epochs": 600,
            "batch_size": 96,
            "learning_rate": 0.025,
            "schedule": "cosine",  # of the learning rate, by epoch: cosine to 0, exponential (0.97), linear to 0
            "momentum": 0.9,
            "weight_decay": 3e-4,
            "clip": 5.0,
            "drop_path": 0.2,  # probability at the end, from 0 at the beginning
            "auxiliary": 0.4,  # weight of the auxiliary head's loss; 0: no head
            "cutout": 16,  # side in pixels; 0: none
            "jitter": (),  # of colours: brightness, contrast, saturation, hue; (): none
            "label_smoothing": 0.0,
            "test_every": 1,  # epochs between tests; the last is always tested
        },
        "eval": {
            "every": 1,  # epochs between validations; the last epoch is always validated
            "images": 0,  # validation images; 0: all
        },
        "checkpoint": {
            "snapshots": (),  # search epochs kept for good, besides the last
            "minutes": 10.0,  # between checkpoints within an epoch or a scoring
            "keep": 2,  # newest checkpoints that stay; an older one stands in for a damaged one
        },
        "report": {
            "nasbench201": "",  # npz table of NAS-Bench-201 accuracies
            "latency": True,  # measures the discrete network's
        },
        "tensorboard": True,  # scalars in the run directory's tensorboard/
    })  # fmt: skip


RETRAIN_SMALL = {
    "retrain.cells": 5, "retrain.channels": 16, "retrain.epochs": 12, "retrain.batch_size": 64, "retrain.drop_path": 0.0,
    "retrain.auxiliary": 0.0, "retrain.cutout": 0, "retrain.test_every": 3,
}  # fmt: skip
"""Retraining of minutes on CPUs; too short for what keeps a network from fitting too well."""

RETRAIN_NASBENCH201 = {
    "retrain.cells": 5, "retrain.channels": 16, "retrain.epochs": 200, "retrain.batch_size": 256, "retrain.learning_rate": 0.1,
    "retrain.weight_decay": 5e-4, "retrain.drop_path": 0.0, "retrain.auxiliary": 0.0, "retrain.cutout": 0,
}  # fmt: skip
"""The benchmark's network and protocol, but for its Nesterov momentum and clipping."""

PT, MAGNITUDE = {"select.method": "perturbation"}, {"select.method": "magnitude"}
SDARTS_RS, SDARTS_ADV = {"search.perturb": "uniform"}, {"search.perturb": "adversarial"}
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
"""What the paper's methods set, on top of the defaults."""

COMPARED = ("darts", "darts_pt", "darts_pt_fixed")
"""Those of Tables 3 and 4."""


def arguments(text: str, *allowed: Iterable[str]) -> list[str]:
    """The parts of a config's argument, such as "s2,svhn,darts_pt".

    Raises:
      ValueError: they are not one of each of `allowed`.
    """
    parts = text.split(",")
    if len(parts) != len(allowed) or any(part not in names for part, names in zip(parts, allowed, strict=True)):
        expected = ", then a comma and ".join(f"one of {' '.join(names)}" for names in allowed)
        raise ValueError(f"the argument after --config=FILE: is {text!r}, expected {expected}")
    return parts

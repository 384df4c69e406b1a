"""Every key of a config: one entry each. The defaults are DARTS-PT on CIFAR-10 as the reference code runs it.

From an entry follow the default (configs/common.py), the check of its value, `--help`, docs/reference/keys.md, whether
a run directory accepts another value, and what comparisons leave out of account (schema.py). A new key is an entry here
and its use. The docstring of a section introduces it on the reference page.
"""

import dataclasses
import functools
from collections.abc import Mapping

from darts_pt_jax.experiments.config.key import (
    ANYTHING,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    SHARE,
    Rule,
    key,
    keys_of,
    number,
    numbers,
    one_of,
    table_named,
)  # fmt: skip

SEED, OWN_SEED = number(0, 2**32 - 1), number(-1, 2**32 - 1)
SOURCES = "darts_pt_jax.data.sources:SOURCES"
STAGES = ("search", "select", "retrain", "report")


def _sources() -> str:
    return f"{', '.join(table_named(SOURCES))}, or a tensorflow-datasets name"


def _are_stages(value: str) -> bool:
    asked = value.split(",")
    return asked == [stage for stage in STAGES if stage in asked]


def _is_jitter(values) -> bool:
    numbers = len(values) == 4 and all(type(x) in (int, float) and x >= 0 for x in values)
    return not values or (numbers and values[3] <= 0.5)


@dataclasses.dataclass(frozen=True)
class Data:
    """The images."""

    source: str = key(
        "npz", Rule(bool, _sources, tables=(SOURCES,)),
        "npz; digits; folder; or a name of tensorflow-datasets, such as cifar10.",
    )  # fmt: skip
    path: str = key(
        "", ANYTHING, "The npz with train_images, train_labels, test_images, test_labels; or the folder of pictures.",
        affects="nothing", free=True,
    )  # fmt: skip
    dir: str = key(
        "", ANYTHING, 'Where tensorflow-datasets keeps its data; "" is its own default.', affects="nothing", free=True
    )
    download: bool = key(
        False, ANYTHING, "Let tensorflow-datasets download data that are missing.", affects="nothing", free=True
    )
    crop: int = key(
        0, NOT_NEGATIVE,
        "Side to which pictures of any size are cropped, read when they are needed (retraining only); "
        "0: they are kept in memory, all in one size.",
    )  # fmt: skip
    size: int = key(0, NOT_NEGATIVE, "Height and width to resize to; 0: as they are.")
    examples: int = key(0, NOT_NEGATIVE, "Use only the first N training images; 0: all.")
    train_fraction: float = key(
        0.5, number(0, 1, open_low=True, open_high=True),
        "Share of the training set that trains the weights; the rest trains the alphas and scores.",
    )  # fmt: skip
    pad: int = key(-1, number(-1), "Zero padding before the random crop, in pixels; -1: the data set's default.")
    flip: str = key("default", one_of("on", "off", "default"), "Random horizontal flip; default: the data set's.")
    mean: tuple[float, ...] = key(
        (), numbers(number(0, 1)), "Mean of each channel, of pixels in [0, 1]; (): computed from the training half."
    )
    std: tuple[float, ...] = key(
        (), numbers(number(0, 1, open_low=True)), "Standard deviation of each channel; (): computed likewise."
    )


@dataclasses.dataclass(frozen=True)
class Supernet:
    """The size of the supernet."""

    cells: int = key(8, POSITIVE, "Cells; in nasbench201, cells of each of the three stages.")
    channels: int = key(16, POSITIVE, "Channels of the first cells.")
    channel_share: int = key(
        1, POSITIVE,
        "K: an edge mixes 1/K of the channels, and passes the others (PC-DARTS: 4); it must divide supernet.channels.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Search:
    """How the supernet is trained."""

    seed: int = key(-1, OWN_SEED, "Seed of initialisation, batches and augmentation; -1: seed.", affects="seed")
    epochs: int = key(50, POSITIVE, "Epochs of the search.")
    batch_size: int = key(64, number(2), "Images of a batch, of each half of the training set.")
    sampling: str = key(
        "independent", one_of("darts_pt_jax.data.batches:SAMPLING"),
        "independent: draw every batch afresh (reference code); epoch: shuffled passes over the images.",
    )  # fmt: skip
    alpha: str = key("learned", one_of("learned", "fixed"), "Train the alphas, or leave them as they begin.")
    alpha_init: str = key(
        "noise", one_of("noise", "zero"), "noise: 1e-3 N(0, 1) (reference code); zero: the paper's fixed alphas."
    )
    unrolled: str = key(
        "off", one_of("darts_pt_jax.unrolled:ALPHA_GRADIENTS"),
        "The alphas' gradient: off (first order); after one step of the weights, exact; or finite_difference, as DARTS does.",
    )  # fmt: skip
    sampler: str = key(
        "darts", one_of("darts_pt_jax.samplers:SAMPLERS"),
        "How alphas become the edge weights of a training step: darts (softmax); fixed; sdarts_rs (uniform noise on the "
        "softmax, as in both reference codes); sdarts_rs_gaussian (noise on the alphas, as in the paper); sdarts_adv; "
        "drnas; snas; gdas; pc_darts (edge normalisation); fairdarts (sigmoid).",
        former=("search.perturb", {"none": "darts", "uniform": "sdarts_rs", "gaussian": "sdarts_rs_gaussian",
                                   "adversarial": "sdarts_adv"}),
    )  # fmt: skip
    epsilon: float = key(0.3, number(0, 1), "Size of SDARTS' perturbation at the end of the search and in tuning.")
    epsilon_first: float = key(0.03, number(0, 1), "Size of SDARTS' perturbation at the beginning of the search.")
    temperature: float = key(0.1, RATE, "Temperature of snas and gdas at the end of the search and in tuning.")
    temperature_first: float = key(10.0, RATE, "Temperature of snas and gdas at the beginning of the search.")
    alpha_regulariser: str = key(
        "none", one_of("darts_pt_jax.samplers.regularisers:REGULARISERS"),
        "Penalty on the alphas besides weight decay: none; beta_decay (beta-DARTS; its weight grows linearly from 0); "
        "zero_one (FairDARTS).",
    )  # fmt: skip
    alpha_regulariser_weight: float = key(0.0, NOT_NEGATIVE, "Weight of that penalty in the alphas' loss.")
    alpha_start: int = key(0, NOT_NEGATIVE, "Epochs of the search that train the weights only.")
    learning_rate: float = key(
        0.025, RATE, "Learning rate of the weights in the first epoch; a cosine takes it to search.learning_rate_min."
    )
    learning_rate_min: float = key(0.001, NOT_NEGATIVE, "Learning rate of the weights at the end of the schedule.")
    schedule_epochs: int = key(
        0,
        NOT_NEGATIVE,
        "Epochs over which learning rate, epsilon, temperature and a growing regulariser run their course; 0: search.epochs.",
    )
    gradients: str = key(
        "separate", one_of("separate", "shared"),
        "separate: one program for alphas, one for weights; shared: one for both, which halves compilation.",
        affects="rounding",
    )  # fmt: skip
    scan: str = key(
        "auto", one_of("auto", "on", "off"), "Compile an epoch as one program; auto: on TPUs.", affects="rounding"
    )
    momentum: float = key(0.9, SHARE, "Momentum of the weights' SGD.")
    weight_decay: float = key(3e-4, NOT_NEGATIVE, "Weight decay of the weights.")
    clip: float = key(5.0, RATE, "Largest norm of the weights' gradient.")
    alpha_learning_rate: float = key(3e-4, RATE, "Learning rate of the alphas' Adam.")
    alpha_weight_decay: float = key(1e-3, NOT_NEGATIVE, "Weight decay of the alphas.")


_select = functools.partial(key, stage="select", programs=False)


@dataclasses.dataclass(frozen=True)
class Select:
    """How an architecture is selected from the supernet."""

    seed: int = _select(
        -1, OWN_SEED, "Seed of the order of edges and of the batches for scoring and tuning; -1: seed.", affects="seed"
    )
    method: str = _select(
        "perturbation",
        one_of("darts_pt_jax.selection.methods:METHODS"),
        "perturbation (DARTS-PT); magnitude_tuned (DARTS-PT-Mag); magnitude (DARTS); shapley; fisher; random; "
        "sgas; sgas_perturbation.",
    )  # fmt: skip
    orders: int = _select(
        1, POSITIVE, "Number of selections from the one supernet; the n-th has the seed select.seed + n - 1."
    )
    strategy: str = _select(
        "leave_one_out", one_of("darts_pt_jax.selection.strategies:STRATEGIES"),
        "How to decide on an edge's operation: leave_one_out (remove each candidate in turn); keep_one (leave each candidate "
        "alone in turn); first_order (|w dL/dw|, one backward pass; with select.criterion=loss).",
    )  # fmt: skip
    criterion: str = _select(
        "acc", one_of("darts_pt_jax.selection.criteria:CRITERIA"), "What a removal costs: acc (accuracy); loss; kl (divergence "
        "from the unmasked supernet's predictions, without labels); margin (of the right class's logit).",
        programs=True,
    )  # fmt: skip
    order: str = _select(
        "random",
        ANYTHING,
        'Order in which edges are decided: random, fixed, reference, or edges: "normal:4,0,5,2,3,1"; certain (all whose choice '
        "is clear at once, else the surest); important (the one whose removal hurts most).",
    )
    pairing: str = _select(
        "both", one_of("both", "single"),
        "both: decide one edge of every cell kind between two tunings (reference code); single: one edge (paper).",
    )  # fmt: skip
    interval: int = _select(5, NOT_NEGATIVE, "Epochs of tuning between decisions; 0: none.")
    tune_lr_factor: float = _select(0.1, RATE, "Constant learning rate of tuning, as a share of search.learning_rate.")
    topology: str = _select(
        "leave_one_out", one_of("darts_pt_jax.selection.strategies:TOPOLOGIES"),
        "How a node's inputs are chosen: leave_one_out (reference code); single_ranking (paper, Algorithm 2).",
    )  # fmt: skip
    ties: str = _select(
        "first", one_of("darts_pt_jax.selection.ties:TIES"),
        "What decides between removals that score alike: first (reference code: the first operation is kept, the last input "
        "is dropped); loss (its rise); multiply_adds (the operation with fewer).",
    )  # fmt: skip
    race: float = _select(
        0.0, SHARE, "Racing: removals leave a scoring early, and with this probability (such as 0.95) all choices of the run "
        "are those of full scoring; 0: off. For select.criterion=acc; see docs/guides/certainty.md.",
    )  # fmt: skip
    top: int = _select(
        1, POSITIVE, "Number of complete architectures to write: the choice, and those that differ from it in the decisions of "
        "least margin; see docs/guides/choose_selection.md.",
        affects="records",
    )  # fmt: skip
    max_parameters: int = _select(
        0, NOT_NEGATIVE, "Largest number of parameters of the discrete network that retrain.* describes; 0: no limit. See "
        "docs/guides/budgets.md.",
    )  # fmt: skip
    max_multiply_adds: int = _select(0, NOT_NEGATIVE, "Largest number of its multiply-adds for an image; 0: no limit.")
    bn: str = _select(
        "batch",
        one_of("batch", "running"),
        "BatchNorm statistics in scoring: batch (reference code); running, as fisher always takes.",
        programs=True,
    )
    none_is_candidate: bool = _select(True, ANYTHING, "Whether the operation none may be chosen.")
    images: int = _select(
        0, NOT_NEGATIVE, "Validation images to score on; 0: all. shapley takes a batch for each of select.permutations."
    )
    permutations: int = _select(10, POSITIVE, "Random orders of removal, on a batch each, of select.method=shapley.")
    augment: bool = _select(
        True, ANYTHING, "Score on augmented images (reference code); fisher never does.", programs=True
    )
    restrict_every: int = _select(
        0, NOT_NEGATIVE, "Drop the excluded candidates from the supernet after every N decision points; 0: never.",
        affects="rounding",
    )  # fmt: skip
    mask_batch: int = _select(
        0, NOT_NEGATIVE, "Removals evaluated at once; 0: all of an edge.", affects="rounding", programs=True
    )


@dataclasses.dataclass(frozen=True)
class Sgas:
    """The select.methods sgas and sgas_perturbation decide while the search continues.

    They ignore select.order, pairing, topology and tune_lr_factor, and never choose none.
    """

    criterion: int = _select(
        1, one_of("darts_pt_jax.selection.sgas:CRITERIA"), "1: importance and certainty of an edge; 2: stability too."
    )
    batch_increase: int = _select(
        8, NOT_NEGATIVE, "Images that every decision point adds to a batch; each new size compiles anew."
    )


@dataclasses.dataclass(frozen=True)
class Curvature:
    """The largest eigenvalue of the validation loss' Hessian in the alphas (RobustDARTS)."""

    every: int = key(0, NOT_NEGATIVE, "Compute it every N epochs of the search; 0: never.")
    images: int = key(256, POSITIVE, "Validation images to compute it on.")
    stop: float = key(
        0.0, SHARE,
        "End the search when an earlier eigenvalue was less than this share of the present one (RobustDARTS: 0.75); "
        "0: never.",
    )  # fmt: skip
    window: int = key(
        5,
        POSITIVE,
        "Compare the mean of the last N eigenvalues with that of the N before, to which the search returns.",
    )


_retrain = functools.partial(key, stage="retrain", programs=False)


@dataclasses.dataclass(frozen=True)
class Retrain:
    """Training of the chosen architecture from scratch, on the whole training set (DARTS, A.2)."""

    seed: int = _retrain(-1, OWN_SEED, "Seed of retraining; -1: seed.", affects="seed")
    form: str = _retrain(
        "auto", one_of("auto", "darts_pt_jax.network:FORMS"),
        "Form of the network: cifar, imagenet, nasbench201; auto: by the genotype's cells.",
    )  # fmt: skip
    cells: int = _retrain(20, POSITIVE, "Cells; in nasbench201, cells of each stage.")
    channels: int = _retrain(36, POSITIVE, "Channels of the first cells.")
    epochs: int = _retrain(600, POSITIVE, "Epochs of retraining.")
    batch_size: int = _retrain(96, number(2), "Images of a batch.")
    learning_rate: float = _retrain(0.025, RATE, "Learning rate in the first epoch.")
    schedule: str = _retrain(
        "cosine", one_of("darts_pt_jax.supervised:SCHEDULES"),
        "Course of the learning rate: cosine to 0; exponential (factor 0.97); linear to 0.",
    )  # fmt: skip
    momentum: float = _retrain(0.9, SHARE, "Momentum of SGD.")
    weight_decay: float = _retrain(3e-4, NOT_NEGATIVE, "Weight decay.")
    clip: float = _retrain(5.0, RATE, "Largest norm of the gradient.")
    drop_path: float = _retrain(0.2, SHARE, "Probability of dropping a path in the last epoch; it rises from 0.")
    auxiliary: float = _retrain(0.4, NOT_NEGATIVE, "Weight of the auxiliary head's loss; 0: no head.")
    cutout: int = _retrain(16, NOT_NEGATIVE, "Side of the blanked square, in pixels; 0: none.")
    jitter: tuple[float, ...] = _retrain(
        (), Rule(_is_jitter, lambda: "four numbers of at least 0, the last at most 0.5, or ()"),
        "Jitter of brightness, contrast, saturation and hue; (): none.",
    )  # fmt: skip
    label_smoothing: float = _retrain(0.0, SHARE, "Share of the label spread over all classes.")
    test_every: int = _retrain(
        1, POSITIVE, "Test after every N epochs; the last epoch is always tested.", affects="records"
    )


_eval = functools.partial(key, stage="run", affects="records")


@dataclasses.dataclass(frozen=True)
class Eval:
    """Validation of the supernet."""

    every: int = _eval(1, POSITIVE, "Validate after every N epochs; the last epoch is always validated.")
    images: int = _eval(0, NOT_NEGATIVE, "Validation images; 0: all.")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is kept of a run."""

    snapshots: tuple[int, ...] = key(
        (), Rule(lambda v: all(type(e) is int and e >= 1 for e in v), lambda: "whole numbers of at least 1"),
        "Search epochs whose supernets are kept for good, besides the last.",
        affects="records", stage="run", programs=False,
    )  # fmt: skip
    minutes: float = key(
        10.0, NOT_NEGATIVE, "Minutes between checkpoints within an epoch or a scoring.",
        affects="nothing", free=True, programs=False,
    )  # fmt: skip
    keep: int = key(
        2, POSITIVE, "Number of newest checkpoints to keep; an older one stands in for a damaged one.",
        affects="nothing", free=True, programs=False,
    )  # fmt: skip


_report = functools.partial(key, affects="records", free=True, programs=False)


@dataclasses.dataclass(frozen=True)
class Report:
    """The report."""

    nasbench201: str = _report("", ANYTHING, "File (npz) with the accuracies of NAS-Bench-201.")
    latency: bool = _report(True, ANYTHING, "Measure the latency of the discrete network.")


@dataclasses.dataclass(frozen=True)
class Config:
    """All values of a run, by section; hashable."""

    plugins: str = key(
        "", ANYTHING, "Python modules or files, comma-separated, imported before anything else: they register own spaces, "
        "operations, methods and so on.",
        affects="nothing", free=True,
    )  # fmt: skip
    precision: str = key(
        "float32", one_of("float32", "bfloat16"),
        "Precision of the computation; bfloat16 keeps weights and statistics in float32.",
    )  # fmt: skip
    matmul_precision: str = key(
        "default", one_of("default", "high", "highest"), "Precision of matrix products on accelerators.",
        affects="rounding", stage="run",
    )  # fmt: skip
    debug_nans: bool = key(
        False, ANYTHING, "Stop at the operation that first gives NaN; slow, and reuses no memory.",
        affects="nothing", free=True,
    )  # fmt: skip
    remat: bool = key(
        False, ANYTHING, "Compute again what the gradient needs instead of keeping it: less memory, more time.",
        affects="rounding", free=True,
    )  # fmt: skip
    devices: int = key(
        0, NOT_NEGATIVE, "Devices of each host to split batches over; 0: all.", affects="rounding", free=True
    )
    compilation_cache: bool = key(
        True, ANYTHING, "Keep compiled programs in the user's cache folder.", affects="nothing", free=True
    )
    seed: int = key(0, SEED, "Seed of every stage that has none of its own.", affects="seed")
    stages: str = key(
        "search,select,report", Rule(_are_stages, lambda: f"some of {','.join(STAGES)}, in this order"),
        "Stages to run: some of search,select,retrain,report, in this order.",
        affects="nothing", free=True, programs=False,
    )  # fmt: skip
    genotype: str = key(
        "",
        ANYTHING,
        "Architecture to retrain instead of searching: a published name, a file, FILE:NAME, or its text.",
        stage="run",
    )
    init_from: str = key(
        "", ANYTHING,
        "Run directory, or PyTorch checkpoint of the reference code, to take the searched supernet from.",
        affects="seed", stage="run", programs=False,
    )  # fmt: skip
    init_epoch: int = key(
        0, NOT_NEGATIVE, "Search epoch of init_from to take; 0: the last that it keeps.", stage="run", programs=False
    )
    space: str = key(
        "darts", one_of("darts_pt_jax.spaces:SPACES"),
        "Search space: darts, darts_none, s1, s2, s3, s4 or nasbench201.",
    )  # fmt: skip
    data: Data = Data()
    supernet: Supernet = Supernet()
    search: Search = Search()
    select: Select = Select()
    sgas: Sgas = Sgas()
    curvature: Curvature = Curvature()
    retrain: Retrain = Retrain()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()
    tensorboard: bool = key(
        True,
        ANYTHING,
        "Write scalars for TensorBoard into the run directory.",
        affects="records",
        free=True,
        programs=False,
    )
    wandb: bool = key(
        False, ANYTHING,
        "Send scalars to Weights & Biases too; WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE=offline are heeded.",
        affects="records", free=True, programs=False,
    )  # fmt: skip

    def changed(self, values: Mapping) -> "Config":
        """The config with other values, by dotted name such as "search.epochs".

        Raises:
          KeyError: there is no such key.
          TypeError: a value is of another type than the key's.
        """
        keys, sections = keys_of(type(self)), {}
        for name, value in values.items():
            section, _, last = name.rpartition(".")
            sections.setdefault(section, {})[last] = keys[name].cast(value)
        top = sections.pop("", {})
        inner = {name: dataclasses.replace(getattr(self, name), **changed) for name, changed in sections.items()}
        return dataclasses.replace(self, **top, **inner)

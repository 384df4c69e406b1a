"""Test accuracy after a swap of two edges in every cell, and of two layers in every stage of a VGG and a ResNet (Table 1).

An edge takes its operations and their weights along. The cells of a kind share their alphas, so one pair of edges is
drawn for each kind and swapped in all its cells; the two have the same stride and candidates.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from darts_pt_jax import bilevel, supervised
from darts_pt_jax.data import batches
from darts_pt_jax.experiments.analysis import figures, swaps
from darts_pt_jax.experiments.analysis.layered import LayeredNetwork
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError, RunError
from darts_pt_jax.experiments.reporting.markdown import table_head, table_row
from darts_pt_jax.experiments.reporting.measures import spread
from darts_pt_jax.experiments.training.checks import recipe
from darts_pt_jax.experiments.training.loops import summary
from darts_pt_jax.metrics import Metrics

OPTIONS = {
    "draws": {"type": int, "default": 5, "help": "random swaps (default: 5)"},
    "epochs": {"type": int, "default": 0, "help": "of the VGG and the ResNet (default: those of the search)"},
    "layers": {"type": int, "default": 4, "help": "of each of their three stages (default: 4)"},
}
PAPER = {"VGG": (92.69, 9.83, 0.33), "ResNet": (93.86, 83.20, 2.03), "supernet": (88.44, 81.09, 1.87)}
"""Table 1: test accuracy before, and mean and standard deviation after, in percent."""


def run(subject: Subject, options: Options) -> Result:
    """The accuracy of all three networks before the first swap and after each."""
    if fixed := swaps.fixed_operations(subject.space):
        raise ConfigError(
            f"--run {subject.directory}: edges of {subject.space.name} cannot change places, as {', '.join(fixed)} has "
            "statistics that the edges share: take s2, s3, s4 or nasbench201"
        )
    epochs = options.epochs or subject.config.search.epochs
    if options.draws < 1 or options.layers < 2 or epochs < 1:
        raise ConfigError("--draws and --epochs are at least 1, --layers at least 2")
    asked = {"draws": options.draws, "epochs": epochs, "layers": options.layers}
    measured = subject.measured(**asked)
    rows = []
    tests = {name: functools.partial(_plain, subject, name == "ResNet", options, epochs) for name in ("VGG", "ResNet")}
    for name, test in {**tests, "supernet": functools.partial(_supernet, subject, options.draws)}.items():
        found = measured(name, test)
        rows += [{"network": name, "swapped": swapped, "test_accuracy": value} for swapped, value in found]
    context = {**asked, "test_images": _steps(subject) * subject.config.search.batch_size, "paper": {}}
    numbers, lines = {}, []
    for name, of_paper in PAPER.items():
        before, *after = [row["test_accuracy"] for row in rows if row["network"] == name]
        mean, deviation = spread(after)
        found = {"before": before, "after": mean, "after_sd": deviation}
        numbers[name], context["paper"][name] = found, dict(zip(found, of_paper, strict=True))
        sd = "" if deviation is None else f" ± {deviation:.2f}"
        in_paper = of_paper[0], f"{of_paper[1]} ± {of_paper[2]}"
        lines.append(table_row(name, f"{before:.2f}", f"{mean:.2f}{sd}", *in_paper))
    head = table_head("", "test accuracy, %", f"after {options.draws} swaps", "paper, before", "paper, after")
    return Result(numbers, rows, "\n".join([*head, *lines]), context=context)


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """The accuracies of each network before and after, every swap of every run; of several runs also the mean and range."""
    epochs = runs[0].context["epochs"]
    figure, (axes,) = figures.panels(f"{title}; plain networks: {epochs} epochs", [("", "test accuracy, %")])
    for i, name in enumerate(PAPER):
        values = [[row["test_accuracy"] for row in run.rows if row["network"] == name] for run in runs]
        after = [value for one in values for value in one[1:]]
        labels = [None] * 3 if i else ["before", "after a swap", "after swaps, means of the seeds"]
        figures.point(axes, [(i - 0.1, one[0]) for one in values], color=figures.COLOURS[0], label=labels[0])
        axes.plot(
            [i + 0.1] * len(after), after, "x", color=figures.COLOURS[1], label=labels[1], alpha=0.6, markersize=4
        )
        if len(runs) > 1:
            means = [(i + 0.2, np.mean(one[1:])) for one in values]
            figures.point(axes, means, "s", color=figures.COLOURS[1], label=labels[2])
    axes.set_xticks(range(len(PAPER)), list(PAPER))
    axes.set_ylim(bottom=0)
    figures.legend(figure, axes)
    return {"shuffle": figure}


def _steps(subject: Subject) -> int:
    steps = len(subject.images.test_images) // subject.config.search.batch_size
    if not steps:
        raise ConfigError("data: there are fewer test images than search.batch_size, so that nothing can be tested")
    return steps


def _recipe(subject: Subject):
    """Normalisation and augmentation: those of the search, for all three."""
    return recipe(subject.config, subject.images, subject.training.train.size)


def _test(subject: Subject):
    """A function `test(evaluate)`: accuracy in percent over all full batches; `evaluate(images, labels)` looks at one."""
    images, size = subject.images, subject.config.search.batch_size
    data = batches.resident(images.test_images, images.test_labels, _recipe(subject), subject.training.devices)
    batch = jax.jit(lambda data, start: batches.batch(data, start + jnp.arange(size), None))

    def test(evaluate) -> float:
        total = Metrics.zero()
        for i in range(_steps(subject)):
            total += evaluate(*batch(data, i * size))
        return summary(total, "test")["test_accuracy"]

    return test


def _drawn(subject: Subject, purpose: int) -> np.random.RandomState:
    return np.random.RandomState([subject.config.seed, purpose])


def _supernet(subject: Subject, draws: int) -> list:
    """The pairs swapped, and the test accuracy: for the supernet as it is, and after each draw."""
    training, state, rng = subject.training, subject.state, _drawn(subject, 1)
    weights = training.sampler.weights(subject.space, state.alphas, state.decisions)
    forward = jax.jit(lambda v, w, x, y: bilevel.forward(training.net, v, w, x, y, subject.key(3), False)[0])
    test, found = _test(subject), []
    possible = {kind: of for kind, graph in subject.space.cells.items() if (of := swaps.pairs(graph))}
    for draw in range(draws + 1):
        swapped = {kind: of[rng.randint(len(of))] for kind, of in possible.items()} if draw else {}
        moved = swaps.swap_edges(training.net, state.variables, weights, swapped)
        found.append([{k: list(pair) for k, pair in swapped.items()}, test(lambda x, y, m=moved: forward(*m, x, y))])
    return found


def _plain(subject: Subject, residual: bool, options: Options, epochs: int) -> list:
    """The same for a plain network, trained on the whole training set with the search's schedule of the weights."""
    config, images = subject.config, subject.images
    search, rng = config.search, _drawn(subject, 2 + residual)
    net = LayeredNetwork(config.supernet.channels, options.layers, residual, images.classes)
    optimizer = bilevel.weight_optimizer(search.momentum, search.weight_decay, search.clip)
    key = jax.random.fold_in(subject.key(4), residual)
    state = supervised.init_state(net, key, images.image_shape, optimizer)
    data = batches.resident(images.train_images, images.train_labels, _recipe(subject), subject.training.devices)
    gradient, update = supervised.make_gradient(net, 0.0, 0.0), bilevel.make_weight_update(optimizer)

    @jax.jit
    def step(state, data, indices, key, rate):
        augment_key, step_key = jax.random.split(key)
        gradients, metrics, stats = gradient(state, *batches.batch(data, indices, augment_key), step_key, 0.0)
        return update(state, gradients, stats, rate), metrics

    cosine = optax.cosine_decay_schedule(search.learning_rate, epochs, search.learning_rate_min / search.learning_rate)
    for epoch in range(epochs):
        epoch_key = jax.random.fold_in(key, epoch)
        order = batches.epoch_indices(epoch_key, data.size, data.size // search.batch_size, search.batch_size)
        for i, indices in enumerate(order):
            state, metrics = step(state, data, indices, jax.random.fold_in(epoch_key, i), float(cosine(epoch)))
        if not np.isfinite(metrics.loss):
            name = "ResNet" if residual else "VGG"
            raise RunError(f"{name}, epoch {epoch + 1}: the loss is not finite: lower --layers, or look at the data")
    evaluate = jax.jit(supervised.make_evaluate(net))
    test, found = _test(subject), []
    for draw in range(options.draws + 1):
        swapped = [sorted(rng.choice(options.layers, 2, replace=False).tolist()) for _ in range(3)] if draw else []
        variables = swaps.swap_layers(state.variables, swapped)
        found.append([swapped, test(lambda x, y, v=variables: evaluate(v, x, y, True, key))])
    return found

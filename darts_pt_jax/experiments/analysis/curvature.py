"""The largest eigenvalue of the Hessian of the validation loss in the alphas, over the search.

See RobustDARTS, section 4, and the paper, section 2.
"""

import functools
from collections.abc import Sequence

from matplotlib.figure import Figure

from darts_pt_jax.experiments.analysis import figures
from darts_pt_jax.experiments.analysis.result import Result
from darts_pt_jax.experiments.analysis.subject import Options, Subject
from darts_pt_jax.experiments.errors import ConfigError
from darts_pt_jax.experiments.reporting.measures import correlation

OPTIONS = {
    "images": {"type": int, "default": 0, "help": "validation images for each supernet (default: curvature.images)"}
}


def run(subject: Subject, options: Options) -> Result:
    """At the epochs that the run recorded (curvature.every); else, or on other images, for all supernets kept."""
    lines = {m["epoch"]: m for m in subject.searched}
    images = options.images or subject.config.curvature.images
    found = {} if options.images else {epoch: m["curvature"] for epoch, m in lines.items() if "curvature" in m}
    if not found:
        subject.require_alphas()
        size, batch_size = subject.training.valid.size, subject.config.search.batch_size
        if not batch_size <= images <= size:
            raise ConfigError(
                f"--images is {images}, expected {batch_size} (search.batch_size) to {size}, the validation images"
            )
        images = images // batch_size * batch_size
        measured = subject.measured(images=images)
        for epoch in subject.kept:
            found[epoch] = measured(epoch, functools.partial(_of_snapshot, subject, epoch, images))
    rows = [
        {"epoch": epoch, "eigenvalue": value, "valid_accuracy": lines[epoch].get("valid_accuracy")}
        for epoch, value in sorted(found.items())
    ]
    known = [(row["epoch"], row["eigenvalue"]) for row in rows if row["eigenvalue"] is not None]
    if not known:
        raise ConfigError(f"--run {subject.directory}: Lanczos' method converged at no epoch: raise curvature.images")
    numbers = {"first": known[0][1], "last": known[-1][1], "not_converged": len(rows) - len(known)}
    numbers |= {"with_epoch": correlation(*map(list, zip(*known, strict=True)))}
    one = "; a search with curvature.every, or with checkpoint.snapshots, has more" * (len(known) == 1)
    says = f"{known[0][1]:.4g} after epoch {known[0][0]}, {known[-1][1]:.4g} after epoch {known[-1][0]}{one}"
    return Result(numbers, rows, says, context={"images": images})


def draw(title: str, runs: Sequence[Result]) -> dict[str, Figure]:
    """The eigenvalue over the epochs at which Lanczos' method converged."""
    figure, (axes,) = figures.panels(title, [("epoch", "largest eigenvalue of the Hessian in the alphas")])
    known = [[(row["epoch"], row["eigenvalue"]) for row in run.rows if row["eigenvalue"] is not None] for run in runs]
    figures.curve(axes, known, color=figures.COLOURS[0])
    figures.whole_numbers(axes)
    return {"curvature": figure}


def _of_snapshot(subject: Subject, epoch: int, images: int) -> float | None:
    state = subject.supernet(epoch).state(subject.training.abstract_state())
    return subject.training.curvature(state, subject.key(0), images)

"""Plants faults in copies of the core, one at a time, and asks the first tier of the tests to find them.

    python -m tests.faults [NUMBER ...]

For every fault the test modules that look at its module run first; the whole tier follows only if these pass. It prints a
line for each fault, and exits with 1 if fewer than nine tenths were found.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Fault(NamedTuple):
    """A fault: `wrong` in place of `right` in a file of the core, and the topics of the tests that should see it."""

    file: str
    right: str
    wrong: str
    topics: str


FAULTS = (
    Fault("selection/strategies.py", "masks[o, edge, o] = 0", "masks[o, edge] = 0", "perturbation"),
    Fault("selection/strategies.py", "return list(eligible)[int(harm.argmax())]", "return list(eligible)[int(harm.argmin())]", "perturbation"),
    Fault("selection/strategies.py", "int(harm[::-1].argmin())", "int(harm.argmin())", "perturbation"),
    Fault("selection/criteria.py", "return values if self.rises else -values", "return -values if self.rises else values", "perturbation"),
    Fault("selection/scoring.py", "values[:, None].astype(np.float64) - values", "values[:, None].astype(np.float64) + values", "perturbation"),
    Fault("selection/certainty.py", "(scale * difference) ** 2 / n", "(scale * difference) ** 2", "records page"),
    Fault("selection/racing.py", "max(running.shape[-1] - 1, 1) / error", "1 / error", "racing"),
    Fault("selection/schedule.py", "numbers.remove(order[kind][-1])", "numbers.pop(0)", "schedule"),
    Fault("selection/sgas.py", "certainty = 1 - entropy", "certainty = entropy", "sgas"),
    Fault("bilevel.py", "p - learning_rate * u", "p + learning_rate * u", "bilevel"),
    Fault("bilevel.py", "alpha_optimizer=optimizer_state, batch_stats=stats", "alpha_optimizer=optimizer_state", "bilevel"),
    Fault("bilevel.py", "augment_key if augment else None", "augment_key", "bilevel training"),
    Fault("unrolled.py", "d - learning_rate * i", "d + learning_rate * i", "unrolled"),
    Fault("unrolled.py", "(momentum * buffer + g + weight_decay * w)", "(momentum * buffer + g)", "unrolled"),
    Fault("architecture.py", "jnp.where(graph.candidate_mask, alphas[kind], -jnp.inf), -1)", "jnp.where(graph.candidate_mask, alphas[kind], -jnp.inf), 0)", "supernet"),
    Fault("samplers/gumbel.py", "stop_gradient(one_hot - row) + row", "stop_gradient(one_hot)", "samplers"),
    Fault("supernet.py", "after_reduction = graph.reduction", "after_reduction = False", "supernet spaces"),
    Fault("network.py", "kept, x / keep, 0", "kept, x, 0", "retrain"),
    Fault("data/batches.py", "2 * pad + 1", "2 * pad", "data"),
    Fault("data/batches.py", "jax.random.fold_in(key, 2)", "flip_key", "data"),
    Fault("devices.py", "batch_size // jax.process_count()", "batch_size", "streams"),
    Fault("curvature.py", 'which="LA"', 'which="LM"', "curvature"),
    Fault("selection/perturbation.py", "if name not in barred]", "]", "perturbation"),
)  # fmt: skip


def planted(fault: Fault, folder: pathlib.Path) -> pathlib.Path:
    """Copies the repository into a folder, with the fault; returns the copy.

    Raises:
      SystemExit: the file does not have the right text just once.
    """
    copy = folder / "repository"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "site", "__pycache__", ".*cache")
    )
    file = copy / "darts_pt_jax" / fault.file
    text = file.read_text()
    if text.count(fault.right) != 1:
        raise SystemExit(f"{fault.file} has {fault.right!r} {text.count(fault.right)} times, expected once")
    file.write_text(text.replace(fault.right, fault.wrong))
    return copy


def finder(copy: pathlib.Path, topics: str) -> str:
    """The test that finds the fault in a copy, or ""."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    for files in ([f"tests/test_{topic}.py" for topic in topics.split()], ["tests"]):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *files]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        if found := re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE):
            return found[1]
        if done.returncode:
            raise SystemExit(f"pytest fails without a failing test: {(done.stdout + done.stderr)[-500:]}")
    return ""


def main(numbers: list[str]) -> int:
    """Plants the faults, or those of some numbers; returns the exit code."""
    chosen = [int(number) for number in numbers] or range(1, len(FAULTS) + 1)
    found = 0
    for number in chosen:
        fault = FAULTS[number - 1]
        with tempfile.TemporaryDirectory() as folder:
            test = finder(planted(fault, pathlib.Path(folder)), fault.topics)
        found += bool(test)
        print(f"{number} {fault.file}: {fault.wrong}: {f'found by {test}' if test else 'NOT FOUND'}", flush=True)
    print(f"{found} of {len(chosen)} found")
    return int(found < 0.9 * len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

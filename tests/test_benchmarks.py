"""The benchmark commands at tiny sizes, where only their output, files and refusals matter."""

import json
import shlex
import sys

import pytest

from benchmarks import cost, measure
from benchmarks.measure import Row
from darts_pt_jax.experiments.config import settings
from darts_pt_jax.experiments.engine import execute as runs
from darts_pt_jax.experiments.stages import search, select
from darts_pt_jax.experiments.training.supernet import Training
from tests.command import TINY, arguments, lines, run

SIZES = ["--channels=2", "--cells=1", "--size=8", "--batch=4", "--runs=1"]


def answers(**values):
    """The command line of a peer that prints another line, then `values`."""
    return [sys.executable, "-c", f"print('hello'); print({json.dumps(json.dumps(values))})"]


def test_a_row_compares_medians_and_shows_the_spread_of_the_pairs():
    row = Row.compared("step", "small", [2.0, 9.0, 3.0], [4.0, 6.0, 10.0], goal=0.4, limit=0.8)
    assert (row.ours, row.peer, row.ratio, row.spread) == (3.0, 6.0, 0.5, (0.3, 1.5))
    assert row.cells() == ["step", "small", "3 s", "6 s", "0.50 (0.30 to 1.50)", "0.4", "0.8"]
    alone = Row.compared("step", "small", [2.0, 9.0, 3.0], None)
    assert (alone.ours, alone.ratio) == (3.0, None) and alone.cells()[3:] == ["-", "-", "-", "-"]


def test_processes_alternate_and_the_last_line_counts(tmp_path):
    log = tmp_path / "log"
    say = f"open({str(log)!r}, 'a').write({{0!r}}); print('{{{{\"parameters\": 1, \"s\": 0.5}}}}')"
    commands = {name: [sys.executable, "-c", say.format(name)] for name in "ab"}
    assert measure.column(measure.alternate(commands, 3)["b"], "s") == [0.5] * 3
    assert log.read_text() == "ababab"


def test_a_peer_that_fails_or_is_another_network_is_an_error_of_one_line():
    for command, message in (
        (["no-such-program"], "no-such-program: No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('no torch here')"], "exits with 1: no torch here"),
        ([sys.executable, "-c", "print(3)"], "prints no JSON object in its last line"),
        ([sys.executable, "-c", ""], "prints no JSON object in its last line"),
    ):
        with pytest.raises(measure.Failure, match=message):
            measure.ask(command)
    with pytest.raises(measure.Failure, match="differ in their parameters"):
        measure.alternate({"ours": answers(parameters=1), "peer": answers(parameters=2)}, 1)
    with pytest.raises(measure.Failure, match="expected seconds under 'score_s'"):
        measure.column([measure.ask(answers(score_s=None))], "score_s")


@pytest.mark.slow
def test_a_command_prints_a_table_and_writes_the_same_rows(tmp_path, capsys, monkeypatch):
    """`benchmarks.steps` with our own program as the peer."""
    from benchmarks import steps

    file, peer = tmp_path / "steps.json", shlex.join([sys.executable, "-m", "benchmarks.ours", "--what=step"])
    only = ["--only=nasbench201", "--alternations=1", f"--json={file}", f"--peer={peer}"]
    monkeypatch.setattr(sys, "argv", ["steps", *SIZES, *only])
    steps.main()
    *_, printed = capsys.readouterr().out.splitlines()
    content = json.loads(file.read_text())
    (row,) = content["rows"]
    assert {"processor", "cores", "memory_gb"} <= set(content["machine"]) and content["versions"]["jax"]
    assert row["size"] == "2 channels, 1 cells a stage, 8x8, batch 4"
    assert row["ratio"] == pytest.approx(row["ours"] / row["peer"]) and (row["goal"], row["limit"]) == (0.6, 0.9)
    assert printed.startswith("| step, nasbench201 | 2 channels, 1 cells a stage, 8x8, batch 4 |")


def test_a_command_that_cannot_measure_ends_with_one_line(tmp_path, monkeypatch):
    from benchmarks import scoring

    for options, message in (
        (["--only=dart"], "error: --only names dart, the rows are darts"),
        ([f"--json={tmp_path}/none/file"], "No such file or directory"),
    ):
        monkeypatch.setattr(sys, "argv", ["scoring", *SIZES, *options])
        with pytest.raises(SystemExit) as failure:
            scoring.main()
        assert message in failure.value.code


@pytest.mark.slow
def test_the_cost_model_predicts_every_phase(tmp_path, capsys, monkeypatch):
    keys = ("space=tiny", "supernet.cells=1", "data.examples=130", "search.epochs=1", "search.batch_size=32",
            "select.restrict_every=8")  # fmt: skip
    file, overrides = tmp_path / "cost.json", [f"--config.{key}" for key in keys]
    options = ["--config=configs/quickstart.py", "--runs=1", f"--json={file}"]
    monkeypatch.setattr(sys, "argv", ["cost", *options, "--", *overrides])
    cost.main()
    rows = {row["phase"]: row for row in json.loads(file.read_text())["rows"]}
    parts = [rows[phase]["predicted_s"] for phase in ("search", "tuning", "scoring")]
    assert min(parts) > 0 and rows["all of these"]["predicted_s"] == pytest.approx(sum(parts))
    assert rows["checkpoints"]["predicted_s"] > 0 and "| scoring |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("space=tny", "tny"),
        ("select.race=0.9", "leave these out"),
        ("select.order=certain", "leave these out"),
        ("select.method=fisher", "leave out its method"),
    ],
)
def test_a_cost_that_is_not_known_is_refused(key, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cost", "--config=configs/quickstart.py", "--", f"--config.{key}"])
    with pytest.raises(SystemExit, match=message):
        cost.main()


CASES = [{"eval.every": 2, "select.interval": 1}, {"select.mask_batch": 2, "select.orders": 2}]


@pytest.mark.slow
@pytest.mark.parametrize("keys", CASES, ids=str)
def test_the_cost_model_counts_the_images_that_a_run_sees(tmp_path, keys):
    keys = {**TINY, "select.restrict_every": 8, **keys}
    assert run(tmp_path / "run", keys) == 0
    config = settings.parse(arguments(tmp_path / "run", **keys)).config
    training = Training(config, runs.load_images(config))
    numbers = cost.calls(config, training, [*search.units(config), *select.units(config)])
    batch = config.search.batch_size
    images = {"validation": batch, "step": 2 * batch} | {k: training.masks(k) * batch for k in training.space.cells}
    seen = dict.fromkeys(cost.PHASES.values(), 0)
    for line in lines(tmp_path / "run", "timings.jsonl"):
        if line["type"] in cost.PHASES:
            seen[cost.PHASES[line["type"]]] += line["images"]
    assert {p: sum(n * images[name] for (name, _), n in calls.items()) for p, calls in numbers.items()} == {
        phase: count for phase, count in seen.items() if count
    }
    shares = {share for counts in numbers.values() for _, share in counts}
    assert 0.0 in shares and len(shares) > 1 and max(shares) < 1
    assert set(cost.taken(tmp_path / "run")) == set(numbers)
    with pytest.raises(measure.Failure, match="name a run directory"):
        cost.taken(tmp_path)

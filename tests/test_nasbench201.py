import bz2
import collections
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax.experiments import nasbench201
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.nasbench201 import Table, TableError
from darts_pt_jax.network import Network, multiply_adds, parameters


@pytest.fixture(scope="module")
def table():
    if "DARTS_PT_NB201" not in os.environ:
        pytest.skip("DARTS_PT_NB201 names no NAS-Bench-201 table")
    return Table(os.environ["DARTS_PT_NB201"])


def test_known_accuracies(table):
    assert table.column("c10_test").max() == pytest.approx(94.37, abs=0.005)
    skip = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    assert table.accuracies(skip)["c10_test"] == pytest.approx(54.30, abs=0.005)
    assert np.median(table.column("c10_test")) == pytest.approx(90.75, abs=0.005)


def test_rank_counts_the_strictly_better(table):
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    accuracy = table.accuracies(best)["c10_test"]
    assert table.rank(best) == 1 + np.count_nonzero(table.column("c10_test") > accuracy)
    with pytest.raises(TableError, match="is not in the NAS-Bench-201 table"):
        table.accuracies("|nor_conv_3x3~0|")


def test_two_spellings_of_an_architecture_find_one_row(table, capsys):
    arch = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    row = table.row(arch)
    assert table.arch(row) == arch
    swapped = "|avg_pool_3x3~0| + |none~1|skip_connect~0| + |avg_pool_3x3~1|nor_conv_1x1~2|nor_conv_1x1~0|"
    for text in (swapped, "(4, 0, 3, 1, 4, 3)", f"Structure(4 nodes with {arch})"):
        assert table.row(text) == row
        assert nasbench201.main(["query", text, "--table", os.environ["DARTS_PT_NB201"]]) == 0
        assert arch in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("|nor_conv_5x5~0| +\n|none~0|", "is not in .*: nor_conv_5x5 is none of its operations, none, skip_connect, "),
        ("|none~0|+|none~0|none~0|+|none~0|none~1|none~2|", "three nodes, with one input from every earlier state"),
        ("none~0", "no architecture of NAS-Bench-201: genotype.*: got 'none~0', expected "),
        ("DARTS_V2", "cells: got 'normal, reduce', expected one normal cell"),
    ],
)
def test_the_table_says_why_an_architecture_is_not_in_it(arch, message, tmp_path):
    names, metrics = np.array(["c10_test"]), np.ones((1, 1), np.float32)
    np.savez(tmp_path / "table.npz", arch=np.array([b"|none~0|"]), metric_names=names, metrics=metrics)
    with pytest.raises(TableError, match=message):
        Table(tmp_path / "table.npz").row(arch)


def test_an_index_stands_for_its_architecture(table):
    arch = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert table.row(arch) == 0 and table.arch(0) == arch and table.accuracies("0") == table.accuracies(arch)
    with pytest.raises(TableError, match="index 15625 is not in the NAS-Bench-201 table, expected 0 to 15624"):
        table.row("15625")


def test_the_expected_best_of_random_draws_is_exact(table, rng):
    values = table.column("c10_test").astype(float)
    assert table.expected_best(1) == pytest.approx(values.mean())
    assert table.expected_best(len(values)) == pytest.approx(values.max())
    draws = rng.choice(values, (4000, 10)).max(1)
    assert table.expected_best(10) == pytest.approx(draws.mean(), abs=4 * draws.std() / 4000**0.5)


def test_the_discrete_network_has_the_benchmark_s_parameters_and_flops(table):
    with np.load(os.environ["DARTS_PT_NB201"]) as file:
        counts, flops = file["params"], file["flops"]
    for row in (0, 1, 81, 4444, 15624):
        net = Network(Genotype.from_text(table.arch(row)), "nasbench201", 5, 16, 10)
        params = jax.eval_shape(lambda net=net: net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), False))["params"]
        assert parameters(params) == counts[row], table.arch(row)
        assert multiply_adds(net, (32, 32, 3)) == flops[row], table.arch(row)


def test_the_commands(table, tmp_path, capsys):
    def said(*argv):
        assert nasbench201.main([*argv, "--table", os.environ["DARTS_PT_NB201"]]) == 0
        return capsys.readouterr().out

    best = said("query", str(int(table.column("c10_test").argmax())))
    assert "94.37" in best and "1 of 15,625" in best
    assert int(said("rank", "0")) == 1 + np.count_nonzero(table.column("c10_test") > table.accuracies(0)["c10_test"])
    ranks, accuracies, indices, archs = zip(*map(str.split, said("rank", "--top", "3").splitlines()), strict=True)
    assert ranks[0] == "1" and accuracies[0] == "94.37" and len(ranks) == 3
    assert [table.arch(int(index)) for index in indices] == list(archs)
    assert [said("rank", index).strip() for index in indices] == list(ranks)
    rows = {line[:22].strip(): line[22:].split() for line in said("random").splitlines()}
    assert rows["median"][0] == "90.75" and rows["best of all"][0] == "94.37" and rows["mean"][0] == "87.06"
    assert nasbench201.main(["query", "abc", "--table", os.environ["DARTS_PT_NB201"]]) == 2
    assert "expected an index, a file, or an arch string |...|+|...|+|...|" in capsys.readouterr().err
    file = tmp_path / "genotype.json"
    file.write_text(Genotype.from_text(table.arch(4444)).to_json())
    assert said("query", str(file)) == said("query", "4444") == said("query", table.arch(4444))


def test_a_look_up_takes_milliseconds_and_little_memory(table):
    program = """
import resource, sys, time
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = memory()
from darts_pt_jax.nasbench201 import Table
table, seconds = Table(sys.argv[1]), []
for row in range(0, 15625, 100):
    start = time.perf_counter()
    table.accuracies(table.arch(row)), table.rank(row)
    seconds.append(time.perf_counter() - start)
print(memory() - before, sorted(seconds)[len(seconds) // 2])
"""
    command = [sys.executable, "-c", program, os.environ["DARTS_PT_NB201"]]
    megabytes, seconds = map(float, subprocess.check_output(command, text=True).split())
    assert megabytes < 100 and seconds < 0.01


def official(value):
    """An entry of the official files for one architecture, with accuracies around a value."""

    def trial(data, seed, names):
        accuracies = {f"{name}@199": value + seed - 888 for name in names}
        return (data, seed), collections.OrderedDict(name="a", eval_acc1es=accuracies, params=np.float64(0.1))

    trials = [
        trial("cifar10-valid", 777, ["x-valid", "ori-test"]), trial("cifar10", 777, ["ori-test"]),
        trial("cifar10", 888, ["ori-test"]), trial("cifar10", 999, ["ori-test"]),
        trial("cifar100", 888, ["x-valid", "x-test", "ori-test"]), trial("ImageNet16-120", 888, ["x-valid", "x-test"]),
    ]  # fmt: skip
    return {"200": collections.OrderedDict(arch_index=0, all_results=collections.OrderedDict(trials))}


def written(folder, archs, entry):
    folder.mkdir()
    with bz2.open(folder / "meta.pickle.pbz2", "wb") as file:
        pickle.dump({"meta_archs": archs, "total_archs": len(archs)}, file)
    for i in range(len(archs)):
        with bz2.open(folder / f"{i:06d}.pickle.pbz2", "wb") as file:
            pickle.dump(entry(i), file)
    return folder


def test_the_official_folder_becomes_a_table(tmp_path, capsys):
    archs = [
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    ]
    folder = written(tmp_path / "NATS-tss", archs, lambda i: official(500 + i))
    assert nasbench201.main(["import", str(folder), "--table", str(tmp_path / "data" / "table.npz")]) == 0
    table = Table(tmp_path / "data" / "table.npz")
    assert len(table) == 2 and table.arch(1) == archs[1]
    means = {"c10_test": 501, "c100_test": 501, "in16_test": 501, "c10_valid_nb201": 390}
    assert {name: table.accuracies(1)[name] for name in means} == means, "means over the seeds 777, 888 and 999"


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_other_files_are_refused_and_never_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = ["--table", str(tmp_path / "table.npz")]
    for folder in (
        written(tmp_path / "harm", ["a"], lambda i: Harm()),
        written(tmp_path / "empty", ["a"], lambda i: {}),
    ):
        assert nasbench201.main(["import", str(folder), *target]) == 2
    assert nasbench201.main(["import", str(tmp_path), *target]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 3 and all("not an official file" in line for line in error) and "system" in error[0]
    assert not (tmp_path / "harmed").exists() and not (tmp_path / "table.npz").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["rank", "--top", "3", "--table", "nothing.npz"],
            "no such file: python -m experiments.nasbench201 import makes",
        ),
        (["query", "0", "--table", "nothing.npz"], "no such file: python -m experiments.nasbench201 import makes one"),
        (["rank", "0", "--table", "README.md"], "README.md: not a table of NAS-Bench-201"),
    ],
)
def test_a_wrong_table_is_one_line(argv, message, capsys):
    assert nasbench201.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1

"""Damage to a checkpoint or record is detected: the run returns to a sound checkpoint, or ends and changes nothing."""

import os
import re
import shutil

import jax.numpy as jnp
import pytest

from darts_pt_jax.checkpoints import Checkpoints, DamagedError
from darts_pt_jax.selection import perturbation
from tests.command import CELL, SOAK, digests, run, same_results, stopping_at

pytestmark = pytest.mark.usefixtures("one_training")


def truncated(file):
    os.truncate(file, file.stat().st_size // 2)


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def deleted(file):
    file.unlink()


DAMAGES = (truncated, flipped, deleted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert run(workdir, CELL) == 0
    return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was told to stop after its third decision."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perturbation, "decide_operation", stopping_at(3, perturbation.decide_operation))
        assert run(workdir, CELL) == 143
    return workdir


def files(checkpoints, number):
    folder = checkpoints.directory / str(number)
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.mark.xdist_group("damage")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_of_a_checkpoint_is_detected(damage, stopped, tmp_path):
    checkpoints = Checkpoints(stopped / "checkpoints", read_only=True)
    earlier, newest = checkpoints.numbers()
    names = files(checkpoints, newest)
    assert len(names) > 8 and "manifest.json" in names
    for i, name in enumerate(names):
        shutil.copytree(checkpoints.directory, tmp_path / str(i))
        copy = Checkpoints(tmp_path / str(i), read_only=True)
        damage(copy.directory / str(newest) / name)
        sound, wrong = copy.newest_sound()
        assert sound == earlier and list(wrong) == [newest]
        assert name in wrong[newest]
        for read in (copy.position, copy.arrays):
            with pytest.raises(DamagedError, match=re.escape(f"/{newest} is damaged: {wrong[newest]}")):
                read(newest)


def test_every_bit_of_a_manifest_counts(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"a": jnp.ones(3)}, {})
    manifest = tmp_path / "c" / "1" / "manifest.json"
    content = manifest.read_bytes()
    for bit in range(0, 8 * len(content), 1 if SOAK else 17):
        other = bytearray(content)
        other[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(other)
        assert checkpoints.damage(1)
    manifest.write_bytes(content)
    assert not checkpoints.damage(1)


SOME = [("manifest.json", deleted), ("commit_success.txt", deleted), ("position/metadata", flipped)]
SOME += [("_CHECKPOINT_METADATA", truncated), ("state/manifest.ocdbt", truncated)]


@pytest.mark.xdist_group("damage")
@pytest.mark.parametrize(("name", "damage"), [("every file", d) for d in DAMAGES] if SOAK else SOME)
def test_the_run_returns_to_the_checkpoint_before_and_ends_the_same(name, damage, stopped, whole, tmp_path, capsys):
    checkpoints = Checkpoints(stopped / "checkpoints", read_only=True)
    earlier, newest = checkpoints.numbers()
    for one in files(checkpoints, newest) if name == "every file" else [name]:
        workdir = tmp_path / one.replace("/", "-") / "run"
        shutil.copytree(stopped, workdir)
        damage(workdir / "checkpoints" / str(newest) / one)
        left = sorted(p.name for p in (workdir / "checkpoints" / str(newest)).iterdir())
        assert run(workdir, CELL) == 0
        said = capsys.readouterr().out
        assert f"warning: checkpoint {newest} is damaged (" in said and f"returning to checkpoint {earlier}" in said
        aside = workdir / "checkpoints-damaged" / str(newest)
        assert str(aside) in said and sorted(p.name for p in aside.iterdir()) == left
        same_results(whole, workdir)


@pytest.mark.xdist_group("damage")
def test_without_a_sound_checkpoint_it_ends_and_touches_nothing(stopped, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(stopped, workdir)
    numbers = Checkpoints(workdir / "checkpoints", read_only=True).numbers()
    for number, damage in zip(numbers, DAMAGES, strict=False):
        damage(workdir / "checkpoints" / str(number) / "position" / "metadata")
    before = digests(workdir)
    assert run(workdir, CELL) == 1
    said = capsys.readouterr().err
    assert "every checkpoint is damaged" in said and all(f"{n}: position/metadata" in said for n in numbers)
    assert said.count("\n") == 1 and digests(workdir) == before


@pytest.mark.xdist_group("damage")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("finished", "name"),
    [(finished, name) for finished in (False, True) for name in ("metrics.jsonl", "decisions.jsonl", "run.json")]
    + [(True, "genotype.json")],
)
def test_damaged_records_are_named(finished, name, damage, stopped, whole, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(whole if finished else stopped, workdir)
    damage(workdir / name)
    before = digests(workdir)
    assert run(workdir, CELL) == 1
    said = capsys.readouterr().err
    assert str(workdir / name) in said and said.count("\n") == 1
    assert digests(workdir) == before


def test_a_damaged_snapshot_is_named_by_the_run_that_needs_it(whole, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(whole, source)
    flipped(source / "snapshots" / "2" / "layout" / "metadata")
    keys = {**CELL, "stages": "select", "init_from": source}
    assert run(tmp_path / "run", keys) == 1
    assert "snapshots/2 is damaged: layout/metadata" in capsys.readouterr().err
    assert not (tmp_path / "run" / "decisions.jsonl").exists()

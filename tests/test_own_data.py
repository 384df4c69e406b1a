"""Pictures of one's own: folders in memory, the config that looks at them, and the way to a trained network."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from darts_pt_jax.data import folders, pictures, sources
from darts_pt_jax.data.images import DataError
from darts_pt_jax.experiments import export, main, predict, sweep
from darts_pt_jax.experiments.config import settings
from tests.test_data import medmnist


def pictures_in(path, splits=("",), counts=(6, 9), size=(12, 12), channels=1) -> pathlib.Path:
    """Writes PNGs, no two of them alike, in folders "a" and "b" of each split; returns the path."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name, count in zip("ab", counts, strict=True):
            (path / split / name).mkdir(parents=True)
            for n in range(count):
                pixels = rng.integers(0, 256, (*size, channels)).astype(np.uint8)
                Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path / split / name / f"{n}.png")
    return path


def shown(path, *parts) -> dict[str, bytes]:
    """The pixels of the pictures in a folder, by class."""
    files = sorted(path.joinpath(*parts).glob("*.png"))
    return {pictures.decoded(file, 1).tobytes() for file in files}


def test_a_folder_without_splits_holds_out_a_fifth_of_each_class(tmp_path):
    path = pictures_in(tmp_path, counts=(6, 9))
    images = sources.load("folder", str(path))
    assert np.bincount(images.test_labels).tolist() == [1, 2] and np.bincount(images.train_labels).tolist() == [5, 7]
    assert images.image_shape == (12, 12, 1) and images.class_names == ("a", "b") and images.border == 0
    assert (images.pad, images.fit) == (2, "bilinear")
    for label, name in enumerate("ab"):
        parts = [
            {one.tobytes() for one in some[labels == label]}
            for some, labels in ((images.train_images, images.train_labels), (images.test_images, images.test_labels))
        ]
        assert parts[0] | parts[1] == shown(path, name) and not parts[0] & parts[1]
    assert images.notes == (
        f"{path}: there is no folder train: 3 of 15 pictures, a fifth of each class, are for testing",
    )
    assert images.fingerprint() == sources.load("folder", str(path)).fingerprint()


def test_every_part_of_the_training_images_has_its_share_of_each_class(tmp_path):
    images = sources.load("folder", str(pictures_in(tmp_path, counts=(25, 50), size=(4, 4))))
    assert images.train_labels.tolist() != sorted(images.train_labels)
    for count in (15, 30, 45):
        assert abs(np.mean(images.train_labels[:count] == 0) - 1 / 3) < 0.05


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_a_folder_with_splits_keeps_them(tmp_path, held_out):
    path = pictures_in(tmp_path, ("train", held_out))
    images = sources.load("folder", str(path))
    assert {one.tobytes() for one in images.test_images} == shown(path, held_out, "a") | shown(path, held_out, "b")
    assert images.sizes == (15, 15) and images.border == 0 and not images.notes


def test_a_validation_split_beside_a_test_split_scores(tmp_path):
    path = pictures_in(tmp_path, ("train", "val", "test"))
    images = sources.load("folder", str(path))
    assert images.border == 15 and images.sizes == (30, 15)
    scoring = {one.tobytes() for one in images.train_images[15:]}
    assert scoring == shown(path, "val", "a") | shown(path, "val", "b")


def test_pictures_of_several_sizes_and_colours_become_one(tmp_path):
    path = pictures_in(tmp_path, counts=(6, 9), size=(12, 12))
    Image.new("RGB", (40, 20), (200, 30, 30)).save(path / "a" / "wide.png")
    with pytest.raises(DataError, match=r"several sizes \(.*set data.size"):
        sources.load("folder", str(path))
    images = sources.load("folder", str(path), 8)
    assert images.image_shape == (8, 8, 3) and images.pad == 1
    whole = np.concatenate([images.train_images, images.test_images])
    assert (whole == np.array([200, 30, 30], np.uint8)).all((1, 2, 3)).sum() == 1


def test_files_that_are_left_out_are_named(tmp_path):
    path = pictures_in(tmp_path)
    (path / "a" / "notes.txt").write_text("")
    Image.new("L", (12, 12)).save(path / "loose.png")
    notes = sources.load("folder", str(path)).notes
    assert any(f"by their names they are no pictures: 1, such as {path}/a/notes.txt" in note for note in notes)
    assert any(f"they are in no class's folder: 1, such as {path}/loose.png" in note for note in notes)


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path, monkeypatch):
    def refused(match, path):
        with pytest.raises(DataError, match=match) as error:
            sources.load("folder", str(path))
        assert "\n" not in str(error.value)

    refused("expected a folder that holds CLASS", tmp_path / "nowhere")
    refused("1/a: it has 1 picture, expected at least 2", pictures_in(tmp_path / "1", counts=(1, 5)))
    refused("2/test: no such folder", pictures_in(tmp_path / "2", ("train",)))
    refused("3/train: no such folder", pictures_in(tmp_path / "3", ("val",)))
    broken = pictures_in(tmp_path / "4") / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    refused("4/b/3.png: not a picture that can be used", tmp_path / "4")
    monkeypatch.setattr(folders, "LARGEST", 15 * 144 - 1)
    refused("15 images of 12x12x1 need 2,160 bytes, at most 2,159 are kept", pictures_in(tmp_path / "5"))
    fewer = sources.load("folder", str(tmp_path / "5"), examples=10)  # the others are not read
    monkeypatch.undo()
    whole = sources.load("folder", str(tmp_path / "5"))
    np.testing.assert_array_equal(fewer.train_images, whole.train_images[:10])
    np.testing.assert_array_equal(fewer.test_images, whole.test_images)


@pytest.mark.parametrize(
    "splits, refused, name",
    [
        (("train", "validation"), "validation", "val"),
        (("train", "valid", "test"), "valid", "val"),
        (("Train", "Test"), "Test", "test"),
        (("training", "val"), "training", "train"),
    ],
)
def test_a_split_by_another_name_is_neither_left_out_nor_a_class(tmp_path, splits, refused, name):
    path = pictures_in(tmp_path, splits)
    for read in (folders.found, lambda path: folders.folder(path, 12)):
        with pytest.raises(DataError, match=f"{path / refused}: a split .* rename it to {name}, or move it away"):
            read(str(path))


def test_classes_may_have_the_name_of_a_split(tmp_path):
    path = pictures_in(tmp_path)
    (path / "a").rename(path / "valid")
    assert folders.found(str(path)).classes == ["b", "valid"]


def test_folders_beside_the_splits_are_named(tmp_path):
    path = pictures_in(tmp_path, ("train", "test"))
    (path / "__MACOSX").mkdir()
    note = f"{path}: folders left out, since they are none of train, val, test: 1, such as {path / '__MACOSX'}"
    assert folders.found(str(path)).notes == folders.folder(str(path), 12).notes == (note,)


@pytest.mark.parametrize("trained, tested", [("caf\u00e9", "cafe\u0301"), ("dog", "Dog")])
def test_a_class_in_another_case_or_unicode_form_is_refused_with_the_name_to_give_it(tmp_path, trained, tested):
    path = pictures_in(tmp_path, ("train", "test"))
    (path / "train" / "a").rename(path / "train" / trained)
    (path / "test" / "a").rename(path / "test" / tested)
    with pytest.raises(DataError, match=f"rename it to {trained}, whose letters have another case or Unicode form"):
        folders.found(str(path))


def config_of(path, *more):
    return settings.parse(["main", f"--config=configs/own_data.py:{path}", *more])


def test_the_config_sets_what_depends_on_a_folder(tmp_path, capsys):
    path = pictures_in(tmp_path / "pics", size=(24, 20), channels=3)
    asked = config_of(path)
    config = asked.config
    assert str(asked.workdir) == "runs/own_data-pics-seed0"
    assert (config.data.source, config.data.path, config.data.size, config.data.flip) == ("folder", str(path), 16, "on")
    assert (config.search.batch_size, config.retrain.batch_size, config.data.examples) == (2, 2, 0)
    assert (config.retrain.auxiliary, config.retrain.cutout, config.data.mean) == (0, 0, ())
    said = capsys.readouterr().out
    assert "12 training, 3 test images of 2 classes, 24x20 pixels, colour\npreset cpu (at most about" in said
    assert "data.size=16: " in said and "search.batch_size=2: " in said
    config = config_of(f"{path},accelerator", "--config.search.epochs=3").config
    assert (config.data.size, config.retrain.auxiliary, config.retrain.cutout) == (0, 0, 10)
    assert (config.search.epochs, config.supernet.cells, config.retrain.epochs) == (3, 8, 600)


def test_a_sweep_looks_at_the_data_once(tmp_path, capsys):
    path = pictures_in(tmp_path / "pics", size=(24, 20))
    asked = sweep.parse([f"--config=configs/own_data.py:{path}", "--seeds=0-1"])
    assert len(asked.queue) == 6 and capsys.readouterr().out.count("preset cpu") == 1


def test_the_config_lets_the_validation_split_of_an_npz_score(tmp_path):
    np.savez(tmp_path / "med.npz", **medmnist(np.random.default_rng(0), 4000, 1000))
    asked = config_of(tmp_path / "med.npz")
    data, select = asked.config.data, asked.config.select
    assert (data.source, data.size, data.flip, data.examples, data.train_fraction) == ("npz", 0, "off", 2000, 0.8)
    assert (select.images, asked.config.search.batch_size) == (0, 32)
    assert str(asked.workdir) == "runs/own_data-med-seed0"
    whole = config_of(f"{tmp_path / 'med.npz'},accelerator").config
    assert (whole.data.examples, whole.data.train_fraction, whole.search.batch_size) == (0, 0.8, 64)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            ":nowhere",
            "is 'nowhere' (there is no such file or folder), expected a folder of pictures or an npz, then perhaps a comma",
        ),
        ("", "is '', expected a folder of pictures or an npz"),
        (":README.md", "README.md: not a readable npz file"),
        (":docs,cpu", ": no pictures in it, expected files that end in .jpg"),
    ],
)
def test_a_wrong_path_is_one_clear_line(argument, message, capsys):
    assert main.main(["main", f"--config=configs/own_data.py{argument}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Error:" not in error


@pytest.mark.slow
def test_from_a_folder_of_pictures_to_a_network_that_names_classes(tmp_path, capsys):
    digits = sources.digits()
    for split, images, labels in (("train", digits.train_images, digits.train_labels),
                                  ("test", digits.test_images, digits.test_labels)):  # fmt: skip
        for n in range(130):
            file = tmp_path / "digits" / split / f"digit {labels[n]}" / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[n, :, :, 0]).save(file)
    run, keys = tmp_path / "run", {
        "space": "cell", "search.alpha": "fixed", "supernet.cells": 1, "search.epochs": 1, "search.batch_size": 32,
        "select.images": 32, "eval.images": 0, "select.interval": 0, "retrain.cells": 1, "retrain.channels": 4,
        "retrain.epochs": 2, "report.latency": False, "tensorboard": False,
    }  # fmt: skip
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    command = ["main", f"--config=configs/own_data.py:{tmp_path / 'digits'}", f"--workdir={run}", *overrides]
    assert main.main(command) == 0
    assert json.loads((run / "run.json").read_text())["class_names"] == [f"digit {n}" for n in range(10)]
    assert export.main([str(run)]) == 0
    capsys.readouterr()
    files = sorted((tmp_path / "digits" / "test").glob("*/*.png"))
    assert predict.main([str(run), *map(str, files)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["name"] for line in said} <= {f"digit {n}" for n in range(10)}
    right = np.mean([line["name"] == file.parent.name for line, file in zip(said, files, strict=True)])
    assert 100 * right == pytest.approx(json.loads((run / "retrained.json").read_text())["test_accuracy"])
    assert predict.main([str(run / "network.stablehlo"), str(files[0])]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == said[0]["name"]

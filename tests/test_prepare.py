import hashlib
import io
import os
import pickle
import re
import tarfile

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from darts_pt_jax.data import official, sources
from darts_pt_jax.experiments import prepare
from tests import test_tfds


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def rows(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def batches(images, labels, count=1):
    """The arrays in so many batches of unequal length."""
    border = np.arange(1, count) * len(images) // count - 1
    return list(zip(np.split(images, border), np.split(labels, border), strict=True))


def cifar_binary(file, folder, train, test, coarse=b""):
    def write(directory, arrays):
        members = {}
        for names, split in ((train, "train"), (test, "test")):
            for name, part in zip(names, batches(*arrays[split], len(names)), strict=True):
                content = b"".join(coarse + bytes([y]) + bytes(x) for x, y in zip(rows(part[0]), part[1], strict=True))
                members[f"{folder}/{name}.bin"] = content
        archive(directory / file, dict(sorted(members.items(), reverse=True)))

    return write


def cifar_python(file, folder, train, test, labels):
    def write(directory, arrays):
        members = {}
        for names, split in ((train, "train"), (test, "test")):
            for name, (x, y) in zip(names, batches(*arrays[split], len(names)), strict=True):
                members[f"{folder}/{name}"] = pickle.dumps({b"data": rows(x), labels: y.tolist()}, protocol=2)
        archive(directory / file, members)

    return write


def svhn(directory, arrays):
    for split, (images, labels) in arrays.items():
        y = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        scipy.io.savemat(directory / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": y})


def imagenet16(directory, arrays):
    files = {"train": [f"train_data_batch_{i}" for i in range(1, 11)], "test": ["val_data"]}
    for split, (images, labels) in arrays.items():
        for file, (x, y) in zip(files[split], batches(images, labels, len(files[split])), strict=True):
            x, y = np.insert(x, [0, 1], 7, axis=0), np.insert(y + 1, [0, 1], (121, 1000))
            (directory / file).write_bytes(pickle.dumps({"data": rows(x), "labels": y.tolist()}, protocol=2))


FIVE = tuple(f"data_batch_{i}" for i in range(1, 6))
OFFICIAL = {
    "cifar-10-binary": (
        *("cifar10", 10, 32),
        cifar_binary("cifar-10-binary.tar.gz", "cifar-10-batches-bin", FIVE, ["test_batch"]),
    ),
    "cifar-10-python": (
        *("cifar10", 10, 32),
        cifar_python("cifar-10-python.tar.gz", "cifar-10-batches-py", FIVE, ["test_batch"], b"labels"),
    ),
    "cifar-100-binary": (
        *("cifar100", 100, 32),
        cifar_binary("cifar-100-binary.tar.gz", "cifar-100-binary", ["train"], ["test"], coarse=b"\x13"),
    ),
    "cifar-100-python": (
        *("cifar100", 100, 32),
        cifar_python("cifar-100-python.tar.gz", "cifar-100-python", ["train"], ["test"], b"fine_labels"),
    ),
    "svhn": ("svhn_cropped", 10, 32, svhn),
    "imagenet16": ("imagenet16-120", 120, 16, imagenet16),
}


def random_arrays(classes, size):
    rng = np.random.default_rng(classes)
    return {
        split: (rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8), rng.permutation(np.arange(n) % classes))
        for split, n in (("train", 2 * classes), ("test", classes // 2))
    }


def checksums(directory):
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in directory.iterdir()]
    (directory / "sums").write_text("".join(lines))
    return f"--checksums={directory / 'sums'}"


def run(directory, name, *options):
    return prepare.main(["prepare", name, f"--dir={directory}", f"--output={directory / 'a.npz'}", *options])


@pytest.mark.parametrize("release", OFFICIAL)
def test_official_files_become_an_npz(tmp_path, capsys, release):
    name, classes, size, write = OFFICIAL[release]
    arrays = random_arrays(classes, size)
    write(tmp_path, arrays)
    trusted = checksums(tmp_path)
    files = set(tmp_path.iterdir())
    assert run(tmp_path, name, trusted) == 0
    images = sources.load("npz", str(tmp_path / "a.npz"))
    for split, (pixels, labels) in arrays.items():
        np.testing.assert_array_equal(getattr(images, f"{split}_images"), pixels)
        np.testing.assert_array_equal(getattr(images, f"{split}_labels"), labels)
    output = capsys.readouterr().out
    assert f"{2 * classes} training and {classes // 2} test images, {size} x {size} x 3, {classes} classes" in output
    assert images.fingerprint() in output and f"--config.data.path={tmp_path / 'a.npz'}" in output
    assert run(tmp_path, name, trusted) == 0
    assert "a.npz: already there, the same as from" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == files | {tmp_path / "a.npz"}


@pytest.fixture
def cifar(tmp_path):
    """A directory with a CIFAR-10 archive and its checksum."""
    OFFICIAL["cifar-10-python"][-1](tmp_path, random_arrays(10, 32))
    checksums(tmp_path)
    return tmp_path


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def with_member(directory, content):
    members = {f"cifar-10-batches-py/{name}": content for name in (*FIVE, "test_batch")}
    archive(directory / "cifar-10-python.tar.gz", members)
    checksums(directory)


def halved(directory):
    path = directory / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checksums(directory)


REFUSED = {
    "python.tar.gz: md5 is .*, expected c58f30108f718f92721af3b95e74349a: get": lambda d: (d / "sums").write_text(""),
    "sha256 is .*, expected 0{64}": lambda d: (d / "sums").write_text(f"{'0' * 64} *b/cifar-10-python.tar.gz\n"),
    "sums, line 1: '012 x', expected 'HEX NAME'": lambda d: (d / "sums").write_text("012 x"),
    "sums: not readable": lambda d: (d / "sums").unlink(),
    r"lacks cifar-10-binary.tar.gz \(from https://www.cs.* or cifar-10-python.tar.gz .*put them there and give the command again": lambda d: (
        (d / "cifar-10-python.tar.gz").unlink()
    ),
    r"python.tar.gz: the pickle asks for \w+.system, expected arrays only": lambda d: with_member(
        d, pickle.dumps({b"data": Command(d / "run")})
    ),
    r"python.tar.gz: the pickle asks for builtins.eval": lambda d: with_member(d, pickle.dumps({b"data": eval})),
    "python.tar.gz: a batch lacks data and labels; it has fine": lambda d: with_member(d, pickle.dumps({"fine": 1})),
    "python.tar.gz: Ran out of input": lambda d: with_member(d, b"\x80\x02}"),
    "the archive lacks cifar-10-batches-py/data_batch_1, cifar": lambda d: (
        archive(d / "cifar-10-python.tar.gz", {}) or checksums(d)
    ),
    "python.tar.gz: Compressed file ended": halved,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_the_official_file_is_refused_in_one_line(cifar, capsys, message):
    REFUSED[message](cifar)
    files = set(cifar.iterdir())
    assert run(cifar, "cifar10", f"--checksums={cifar / 'sums'}") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"error: .*{message}.*\n", error), error
    assert set(cifar.iterdir()) == files


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "svhn_cropped": r"lacks test_32x32.mat \(from http://ufldl.stanford.edu/housenumbers/\): put",
        "imagenet16-120": r"lacks train_data_batch_1, .*val_data \(from https://image-net.org/download-images",
        "mnist": r"mnist is not prepared in .* \(--download does it\)",
        "cifar1O": "no data set 'cifar1O'; from official files there are cifar10, .*: did you mean cifar10",
    }.items(),
)
def test_what_is_missing_is_named(tmp_path, capsys, name, message):
    (tmp_path / "train_32x32.mat").touch()
    assert run(tmp_path, name) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(f"error: .*{message}.*\n", error), error


@pytest.mark.parametrize(("stop", "code"), [(OSError("disk full"), 1), (KeyboardInterrupt(), 130)])
def test_an_interrupted_write_leaves_nothing(cifar, monkeypatch, stop, code):
    def half(stream, **arrays):
        stream.write(b"PK")
        raise stop

    monkeypatch.setattr(np, "savez", half)
    files = set(cifar.iterdir())
    assert run(cifar, "cifar10", f"--checksums={cifar / 'sums'}") == code
    assert set(cifar.iterdir()) == files


@pytest.mark.parametrize("other", ["an npz", "something else"])
def test_another_file_is_not_overwritten(cifar, capsys, other):
    path = cifar / "a.npz"
    if other == "an npz":
        prepare.write(sources.digits(), path)
    else:
        path.write_text(other)
    before = path.read_bytes()
    assert run(cifar, "cifar10", f"--checksums={cifar / 'sums'}") == 2
    assert "a.npz is there and holds something else: name another file with --output" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_tensorflow_datasets_become_an_npz(tmp_path, capsys):
    assert run(tmp_path, "tiny_images") == 2
    assert run(tmp_path, "tiny_images", "--download") == 0
    assert run(tmp_path, "tiny_images") == 0
    assert "already there, the same as from tensorflow-datasets" in capsys.readouterr().out
    assert test_tfds.in_order(sources.load("npz", str(tmp_path / "a.npz")))
    assert run(tmp_path, "tiny_unnamed", "--download", f"--output={tmp_path / 'b.npz'}") == 0
    assert "no feature id" in capsys.readouterr().out


def test_the_checksums_are_those_of_tensorflow_datasets():
    published = {}
    for name in ("cifar10", "cifar100", "svhn_cropped"):
        published |= {url.rsplit("/")[-1]: info.checksum for url, info in tfds.builder_cls(name).url_infos.items()}
    ours = {f: c for releases in official.RELEASES.values() for r in releases for f, c in r.checksums.items()}
    assert {file: published[file] for file in ours if file in published} == {
        f: c for f, c in ours.items() if len(c) == 64
    }


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as done:
        prepare.main(["prepare", "cifar10", "--outptu=x"])
    assert done.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --outptu=x; --help shows what there is\n"

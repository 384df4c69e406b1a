"""Checkpoints by orbax: the rolling ones that a run continues from, and the snapshots that it keeps for good."""

import contextlib
import errno
import itertools
import math
import os
import pathlib
import shutil
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from darts_pt_jax import hosts, record

MANIFEST = "manifest.json"


class DamagedError(record.RecordError):
    """A checkpoint is not as it was written; the message is one line."""


class Checkpoints:
    """Numbered checkpoints of (state, position) in one directory.

    A state is a pytree of arrays, a position a JSON value. A supernet has thousands of small arrays, and orbax takes a
    millisecond for each. They are therefore stored as one flat array for each dtype, with a JSON layout that gives the
    shape and place of every array.

    A checkpoint appears whole or not at all, with a manifest of the length and SHA-256 of each of its files. Every
    method that reads a checkpoint checks it against its manifest first.
    """

    def __init__(self, directory: pathlib.Path, keep: int | None = None, read_only: bool = False):
        """Opens `directory`, in which only the newest `keep` checkpoints stay (None: all).

        Unless `read_only`, it is created, and what an interrupted save or deletion left is removed.
        """
        self.directory, self._keep = directory.absolute(), keep
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(),
            layout=ocp.JsonCheckpointHandler(),
            position=ocp.JsonCheckpointHandler(),
        )
        self._checkpointer = ocp.Checkpointer(handler)
        if not read_only and hosts.first():
            self.directory.mkdir(parents=True, exist_ok=True)
            for leftover in self.directory.glob("*.tmp*"):
                _remove(leftover)

    def numbers(self) -> list[int]:
        """Numbers of all checkpoints, ascending."""
        found = self.directory.iterdir() if self.directory.exists() else ()
        return sorted(int(folder.name) for folder in found if folder.name.isdigit())

    def latest(self) -> int | None:
        """Number of the newest checkpoint."""
        return max(self.numbers(), default=None)

    def newest_sound(self) -> tuple[int | None, dict[int, str]]:
        """The newest undamaged checkpoint, and the damage of the newer ones by number."""
        damaged: dict[int, str] = {}
        for number in reversed(self.numbers()):
            if not (wrong := self.damage(number)):
                return number, damaged
            damaged[number] = wrong
        return None, damaged

    def damage(self, number: int) -> str | None:
        """What differs in a checkpoint's files from what was written; None if nothing does."""
        folder = self.directory / str(number)
        try:
            files = record.unsealed((folder / MANIFEST).read_bytes())["files"]
        except FileNotFoundError:
            return f"{MANIFEST} is missing, which later versions write"
        except (OSError, ValueError) as error:
            return f"{MANIFEST}: {error}"
        for name, written in files.items():
            try:
                found = record.digest(folder / name)
            except OSError as error:
                return f"{name}: {error.strerror}"
            if found != written:
                return f"{name}: its length or SHA-256 is not that of {MANIFEST}"
        return None

    def save(self, number: int, state, position):
        """Writes a checkpoint.

        Raises:
          ValueError: `number` is not larger than that of the newest checkpoint.
          record.WriteError: the disk is full, or similar; earlier checkpoints stay.
        """
        if (latest := self.latest()) is not None and latest >= number:
            raise ValueError(f"checkpoint {number} is not newer than {latest} in {self.directory}")
        packed, folder = _pack(state), self._temporary(number)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_shared(packed)),
            layout=ocp.args.JsonSave(_layout(state)),
            position=ocp.args.JsonSave(position),
        )
        try:
            if hosts.first():
                _remove(folder)  # what a late write may have left
            self._checkpointer.save(folder, args=args)
            if hosts.first():
                self._finish(folder, number)
        except (OSError, ValueError) as error:  # the latter is tensorstore's
            if not isinstance(error, OSError) and "os_error_code" not in str(error):
                raise
            for leftover in self.directory.glob(f"{folder.name}*"):
                with contextlib.suppress(OSError):
                    _remove(leftover)
            raise record.WriteError(self.directory / str(number), error, size_of(packed)) from error
        if hosts.first() and self._keep:
            for old in self.numbers()[: -self._keep]:
                self._delete(old)
        hosts.meet(f"checkpoint {number}")

    def _finish(self, folder: pathlib.Path, number: int):
        """Writes the manifest, then gives the checkpoint its name."""
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        manifest = {p.relative_to(folder).as_posix(): record.digest(p) for p in files}
        record.write_text(folder / MANIFEST, record.sealed({"files": manifest}))
        for path in (*files, *(p for p in folder.rglob("*") if p.is_dir()), folder):
            _flush(path)
        folder.rename(self.directory / str(number))
        _flush(self.directory)

    def clear(self):
        """Deletes all checkpoints."""
        for number in self.numbers() if hosts.first() else ():
            self._delete(number)

    def _delete(self, number: int):
        folder = self._temporary(number)
        (self.directory / str(number)).rename(folder)
        shutil.rmtree(folder)

    def set_aside(self, number: int) -> pathlib.Path:
        """Moves a checkpoint into the folder "DIRECTORY-damaged"; returns its new path."""
        place = self.directory.with_name(f"{self.directory.name}-damaged")
        place.mkdir(exist_ok=True)
        names = itertools.chain([f"{number}"], (f"{number}-{i}" for i in itertools.count(2)))
        target = next(place / name for name in names if not (place / name).exists())
        if hosts.first():
            (self.directory / str(number)).rename(target)
        return target

    def _temporary(self, number: int) -> pathlib.Path:
        return self.directory / f"{number}.tmp"

    def _check(self, number: int):
        if wrong := self.damage(number):
            raise DamagedError(f"{self.directory / str(number)} is damaged: {wrong}")

    def _item(self, number: int, name: str, how: ocp.args.CheckpointArgs):
        args = ocp.args.Composite(**{name: how})
        return self._checkpointer.restore(self.directory / str(number), args=args)[name]

    def position(self, number: int):
        """The position of a checkpoint.

        Raises:
          DamagedError: the checkpoint is damaged.
        """
        self._check(number)
        return self._item(number, "position", ocp.args.JsonRestore())

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint's state by name, in the order of its leaves.

        Raises:
          DamagedError: the checkpoint is damaged.
        """
        self._check(number)
        layout = self._item(number, "layout", ocp.args.JsonRestore())
        stored = self._checkpointer.metadata(self.directory / str(number)).item_metadata["state"].tree
        flat = {dtype: np.empty(of.shape, dtype) for dtype, of in stored.items()}
        flat = self._item(number, "state", ocp.args.StandardRestore(flat))
        arrays = {}
        for name, entry in layout.items():
            end = entry["offset"] + math.prod(entry["shape"])
            arrays[name] = flat[entry["dtype"]][entry["offset"] : end].reshape(entry["shape"])
        return arrays

    def restore(self, number: int, like):
        """The state of a checkpoint.

        Args:
          number: the checkpoint's number.
          like: a pytree of arrays or `jax.ShapeDtypeStruct` with the structure, shapes and placement of the state.

        Raises:
          ValueError: the arrays of the checkpoint are not those of `like`.
          DamagedError: the checkpoint is damaged.
        """
        theirs = self.arrays(number)
        described = {name: (list(a.shape), a.dtype.name) for name, a in theirs.items()}
        layout = {name: (entry["shape"], entry["dtype"]) for name, entry in _layout(like).items()}
        if other := [name for name in layout.keys() | described.keys() if layout.get(name) != described.get(name)]:
            raise ValueError(
                f"checkpoint {number} in {self.directory} does not fit this supernet: {len(other)} arrays "
                f"differ, {min(other)} among them"
            )
        places = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(like))
        leaves = [jax.device_put(theirs[name], place) for name, place in zip(layout, places, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _remove(folder: pathlib.Path, patience: float = 10.0):
    """Deletes a folder. Orbax does not wait for the writes of a failed save: they may still end in it meanwhile."""
    until = time.monotonic() + patience
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT) or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _flush(path: pathlib.Path):
    """Flushes a file or folder to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def size_of(tree) -> int:
    """Bytes of a tree's arrays or `jax.ShapeDtypeStruct`s: about the most that its checkpoint takes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))


def _layout(state) -> dict[str, dict]:
    """Dtype, shape, and offset in the flat array of that dtype, by name, in the order of the leaves."""
    layout: dict[str, dict] = {}
    ends: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        dtype = np.dtype(leaf.dtype).name
        offset = ends.get(dtype, 0)
        ends[dtype] = offset + math.prod(leaf.shape)
        layout[jax.tree_util.keystr(path)] = {"dtype": dtype, "shape": list(leaf.shape), "offset": offset}
    return layout


def _pack(state) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for leaf in jax.device_get(jax.tree.leaves(state)):
        parts.setdefault(np.asarray(leaf).dtype.name, []).append(np.ravel(leaf))
    return {dtype: np.concatenate(leaves) for dtype, leaves in parts.items()}


def _shared(packed: dict[str, np.ndarray]) -> dict:
    """The flat arrays, split so that each host writes a part of equal size, filled up with zeros."""
    if not hosts.several():
        return packed
    devices = [jax.local_devices(process_index=i)[0] for i in range(jax.process_count())]
    parts = NamedSharding(Mesh(devices, ("hosts",)), PartitionSpec("hosts"))

    def part(flat):
        filled = np.pad(flat, (0, -len(flat) % len(devices)))
        return jax.make_array_from_callback(filled.shape, parts, lambda at: filled[at])

    return {dtype: part(flat) for dtype, flat in packed.items()}

"""Checkpoints by orbax: the rolling ones that a run continues from, and the snapshots that are kept for good."""

import math
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """Numbered checkpoints of (state, position) in one directory.

    A state is a pytree of arrays, a position a JSON value. A checkpoint appears whole or not at all. A supernet has
    thousands of small arrays, each of which would cost orbax a millisecond: they are stored as one flat array for
    each dtype, with a JSON layout that names every array's shape and place.
    """

    def __init__(self, directory: pathlib.Path, keep: int | None = None, read_only: bool = False):
        """Opens `directory`; only the newest `keep` checkpoints stay (None: all).

        It is created, and cleared of checkpoints whose writing was broken off, unless `read_only`.
        """
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "layout": ocp.JsonCheckpointHandler(),
            "position": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """Number of the newest checkpoint."""
        return self._manager.latest_step()

    def numbers(self) -> list[int]:
        """Numbers of all checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, number: int, state, position):
        """Writes a checkpoint.

        Raises:
          ValueError: `number` does not exceed that of every earlier checkpoint.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_pack(state)),
            layout=ocp.args.JsonSave(_layout(state)),
            position=ocp.args.JsonSave(position),
        )
        if not self._manager.save(number, args=args):
            raise ValueError(f"checkpoint {number} is not newer than {self.latest()} in {self._manager.directory}")

    def clear(self):
        """Deletes all checkpoints."""
        for number in self.numbers():
            self._manager.delete(number)

    def position(self, number: int):
        """The position of a checkpoint."""
        return self._manager.restore(number, args=ocp.args.Composite(position=ocp.args.JsonRestore()))["position"]

    def arrays(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint's state by name, in the order of its leaves."""
        layout = self._manager.restore(number, args=ocp.args.Composite(layout=ocp.args.JsonRestore()))["layout"]
        flat = {dtype: np.empty(size, dtype) for dtype, size in _sizes(layout).items()}
        flat = self._manager.restore(number, args=ocp.args.Composite(state=ocp.args.StandardRestore(flat)))["state"]
        arrays = {}
        for name, entry in layout.items():
            end = entry["offset"] + math.prod(entry["shape"])
            arrays[name] = flat[entry["dtype"]][entry["offset"] : end].reshape(entry["shape"])
        return arrays

    def restore(self, number: int, like):
        """The state of a checkpoint.

        Args:
          number: which one.
          like: a pytree of the state's structure, arrays or `jax.ShapeDtypeStruct`.

        Raises:
          ValueError: the checkpoint holds other arrays than `like`.
        """
        theirs = self.arrays(number)
        described = {name: (list(a.shape), a.dtype.name) for name, a in theirs.items()}
        layout = {name: (entry["shape"], entry["dtype"]) for name, entry in _layout(like).items()}
        if other := [name for name in layout.keys() | described.keys() if layout.get(name) != described.get(name)]:
            raise ValueError(
                f"checkpoint {number} in {self._manager.directory} does not fit this supernet: {len(other)} arrays "
                f"differ, {min(other)} among them"
            )
        return jax.tree.unflatten(jax.tree.structure(like), [jax.device_put(theirs[name]) for name in layout])


def _layout(state) -> dict[str, dict]:
    """Name -> dtype, shape, and offset within the flat array of that dtype, in the order of the leaves."""
    layout, ends = {}, {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        dtype = np.dtype(leaf.dtype).name
        offset = ends.get(dtype, 0)
        ends[dtype] = offset + math.prod(leaf.shape)
        layout[jax.tree_util.keystr(path)] = {"dtype": dtype, "shape": list(leaf.shape), "offset": offset}
    return layout


def _sizes(layout: dict) -> dict[str, int]:
    sizes = {}
    for entry in layout.values():
        sizes[entry["dtype"]] = entry["offset"] + math.prod(entry["shape"])
    return sizes


def _pack(state) -> dict[str, np.ndarray]:
    parts = {}
    for leaf in jax.device_get(jax.tree.leaves(state)):
        parts.setdefault(np.asarray(leaf).dtype.name, []).append(np.ravel(leaf))
    return {dtype: np.concatenate(leaves) for dtype, leaves in parts.items()}

"""A trained network as files: safetensors weights with a JSON description, and StableHLO that runs with jax alone."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from darts_pt_jax import network, ops, record
from darts_pt_jax.data import pictures
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")

_LARGEST = 1_000_000
"""The largest number of cells, channels, classes or pixels along an axis that a description may give."""


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights and the form of its images.

    Attributes:
      net: the network, without auxiliary head.
      variables: "params" and "batch_stats".
      image_shape: (H, W, C).
      mean, std: float [C], of pixels scaled to [0, 1].
      fit: how images of another size are brought to this one, a key of `pictures.FITS`.
      epoch: the number of epochs of training; None if unknown.
      plugins: files or modules that register the network's operations. Import them before `load`.
      class_names: the name of each class; () if they are not known.
    """

    net: Network
    variables: dict
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "resized"
    epoch: int | None = None
    plugins: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def logits(self, images: jax.Array) -> jax.Array:
        """float32 logits [B, classes] of uint8 images [B, H, W, C].

        Uses running statistics. The noise operation draws the same noise in every call.
        """
        pixels = (images.astype(jnp.float32) / 255 - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        genotype = self.net.genotype
        draws = any(ops.draws(name) for kind in genotype.cells for name in genotype.operations(kind))
        rngs = {"noise": jax.random.key(0)} if draws else {}
        return self.net.apply(self.variables, pixels, False, rngs=rngs)[0]

    def save(self, directory: pathlib.Path):
        """Writes network.safetensors and network.json, and removes a network.stablehlo of earlier weights."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "network.stablehlo").unlink(missing_ok=True)
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(self.variables))
        arrays = {_name(path): np.ascontiguousarray(leaf) for path, leaf in leaves}
        metadata = None if self.epoch is None else {"epoch": str(self.epoch)}
        record.write_bytes(directory / "network.safetensors", safetensors.numpy.save(arrays, metadata))
        net = self.net
        description = {
            "genotype": json.loads(net.genotype.to_json()), "form": net.form, "cells": net.cells, "channels": net.channels,
            "classes": net.classes, "image_shape": self.image_shape, "mean": self.mean, "std": self.std,
            "fit": self.fit, "dtype": jnp.dtype(net.dtype).name, "plugins": self.plugins, "class_names": self.class_names,
        }  # fmt: skip
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in description.items())
        record.write_text(directory / "network.json", f"{{\n{lines}\n}}\n")

    @classmethod
    def load(cls, directory: pathlib.Path) -> "TrainedNetwork":
        """Reads the files that `save` writes, as retraining does after every epoch.

        Raises:
          ValueError: a file is missing or damaged, the two do not belong together, or a number is not finite.
        """
        with _described(directory) as description:
            net = _network(description)
            shape, mean, std = (tuple(description[name]) for name in ("image_shape", "mean", "std"))
            if not np.isfinite([*mean, *std]).all() or not all(std):
                raise ValueError(f"mean is {mean!r:.80} and std {std!r:.80}, expected finite numbers, and no std of 0")
            fit, names, plugins = _fit(description), _class_names(description), _names(description, "plugins")
            arrays, epoch = _weights(directory / "network.safetensors")
            if net.cells > len(arrays):
                raise ValueError(f"cells is {net.cells}, but there are {len(arrays)} arrays")
        variables = _variables(arrays, network.abstract_variables(net, shape), directory)
        return cls(net, variables, shape, mean, std, fit, epoch, plugins, names)

    def stablehlo(self) -> bytes:
        """`logits` of any number of images, weights included, for `PLATFORMS`; `jax.export.deserialize` reads it."""
        batch = jax.export.symbolic_shape("batch")
        images = jax.ShapeDtypeStruct((*batch, *self.image_shape), jnp.uint8)
        exported = jax.export.export(jax.jit(self.logits), platforms=PLATFORMS)(images)
        return bytes(exported.serialize())


def plugins_of(directory: pathlib.Path) -> tuple[str, ...]:
    """The plugins of the network that `TrainedNetwork.save` wrote, which need not be imported yet.

    Raises:
      ValueError: network.json is missing or damaged.
    """
    with _described(directory) as description:
        return _names(description, "plugins")


def use_of(directory: pathlib.Path) -> tuple[str, tuple[str, ...]]:
    """`fit` and `class_names` of the network that `TrainedNetwork.save` wrote.

    Raises:
      ValueError: network.json is missing or damaged.
    """
    with _described(directory) as description:
        return _fit(description), _class_names(description)


@contextlib.contextmanager
def _described(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Gives network.json to its context, and turns errors that arise there into a ValueError that names the files."""
    if not directory.is_dir():
        raise ValueError(f"{directory}: there is no such directory")
    if not (directory / "network.json").exists():
        raise ValueError(
            f"{directory}: it has no network.json, so no network is retrained there: python -m experiments.main "
            f"--workdir={directory} --config.stages=retrain,report does it"
        )
    try:
        yield json.loads((directory / "network.json").read_text())
    except KeyError as error:
        raise ValueError(f"{directory}/network.json: it lacks {error}") from error
    except (OSError, TypeError, ValueError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise ValueError(f"{directory}: no readable network.json and network.safetensors ({error})") from error


def _network(description: dict[str, Any]) -> Network:
    genotype, dtype = Genotype.from_json(json.dumps(description["genotype"])), jnp.dtype(description["dtype"])
    network.check(genotype, description["form"])
    for name in ("cells", "channels", "classes", "image_shape"):
        value = description[name]
        for size in value if name == "image_shape" else [value]:
            if type(size) is not int or not 1 <= size <= _LARGEST:
                raise ValueError(f"{name} is {value!r:.80}, expected whole numbers from 1 to {_LARGEST}")
    cells, channels, classes = (description[name] for name in ("cells", "channels", "classes"))
    return Network(genotype, description["form"], cells, channels, classes, dtype=dtype)


def _names(description: dict[str, Any], key: str) -> tuple[str, ...]:
    names = description.get(key, [])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{key} is {names!r:.80}, expected a list of names")
    return tuple(names)


def _class_names(description: dict[str, Any]) -> tuple[str, ...]:
    names, classes = _names(description, "class_names"), description["classes"]
    if names and len(names) != classes:
        raise ValueError(f"class_names has {len(names)} names for {classes} classes")
    return names


def _fit(description: dict[str, Any]) -> str:
    if "fit" not in description:  # as version 0.2.0 wrote it
        return "middle" if description["crop"] else "resized"
    if (fit := description["fit"]) not in pictures.FITS:
        raise ValueError(f"fit is {fit!r:.80}, expected one of {', '.join(pictures.FITS)}")
    return str(fit)


def _weights(file: pathlib.Path) -> tuple[dict[str, np.ndarray], int | None]:
    """The arrays by name, and the epoch; None if unknown."""
    arrays = safetensors.numpy.load_file(file)
    with safetensors.safe_open(file, "numpy") as opened:
        epoch = (opened.metadata() or {}).get("epoch")
    return arrays, epoch and int(epoch)


def _variables(arrays: dict[str, np.ndarray], like: Any, directory: pathlib.Path) -> Any:
    """Arranges the arrays as in `like`, a tree of shapes."""

    def pick(path, leaf):
        name = _name(path)
        got = arrays[name].shape if name in arrays else "nothing"
        if got != leaf.shape:
            raise ValueError(f"{directory}/network.safetensors: {name}: got {got}, expected {leaf.shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"{directory}/network.safetensors: {name} has numbers that are not finite (NaN or infinite)"
            )
        return arrays[name]

    return jax.tree_util.tree_map_with_path(pick, like)


def _name(path) -> str:
    return "/".join(entry.key for entry in path)

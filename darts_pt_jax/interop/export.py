"""A trained network as files: weights as safetensors with a JSON description, and StableHLO that runs with jax alone."""

import dataclasses
import json
import pathlib

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from darts_pt_jax import network, ops, record
from darts_pt_jax.genotype import Genotype
from darts_pt_jax.network import Network

PLATFORMS = ("cpu", "cuda", "tpu")

_LARGEST = 1_000_000
"""Of the numbers that say how large a network and its images are."""


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights, and what its images have to be.

    Attributes:
      net: the network, without auxiliary head.
      variables: "params" and "batch_stats".
      image_shape: (H, W, C).
      mean, std: float [C], of pixels scaled to [0, 1].
      crop: whether its test images are the `pictures.middle` of pictures, not whole ones.
      epoch: how many epochs it has been trained; None where that is not known.
      plugins: modules and files that define its operations, comma-separated (the config's `plugins`).
    """

    net: Network
    variables: dict
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: bool = False
    epoch: int | None = None
    plugins: str = ""

    def logits(self, images: jax.Array) -> jax.Array:
        """float32 [B, classes] of uint8 images [B, H, W, C], by running statistics; the noise operation draws the same always."""
        pixels = (images.astype(jnp.float32) / 255 - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        noise = any(ops.draws(name) for kind in self.net.genotype.cells for name in self.net.genotype.operations(kind))
        rngs = {"noise": jax.random.key(0)} if noise else {}
        return self.net.apply(self.variables, pixels, False, rngs=rngs)[0]

    def save(self, directory: pathlib.Path):
        """Writes network.safetensors and network.json; a network.stablehlo of earlier weights goes."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "network.stablehlo").unlink(missing_ok=True)
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(self.variables))
        arrays = {"/".join(entry.key for entry in path): np.ascontiguousarray(leaf) for path, leaf in leaves}
        metadata = None if self.epoch is None else {"epoch": str(self.epoch)}
        record.write_bytes(directory / "network.safetensors", safetensors.numpy.save(arrays, metadata))
        net = self.net
        description = {
            "genotype": json.loads(net.genotype.to_json()), "form": net.form, "cells": net.cells, "channels": net.channels,
            "classes": net.classes, "image_shape": self.image_shape, "mean": self.mean, "std": self.std,
            "crop": self.crop, "dtype": jnp.dtype(net.dtype).name, "plugins": self.plugins,
        }  # fmt: skip
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in description.items())
        record.write_text(directory / "network.json", f"{{\n{lines}\n}}\n")

    @classmethod
    def load(cls, directory: pathlib.Path) -> "TrainedNetwork":
        """Reads what `save` wrote. Retraining does so after every epoch.

        Raises:
          ValueError: a file is missing, or the two do not belong together.
        """
        if not (directory / "network.json").exists():
            raise ValueError(f"{directory}: it has no network.json, which retraining writes after its first epoch")
        try:
            of = json.loads((directory / "network.json").read_text())
            genotype, dtype = Genotype.from_json(json.dumps(of["genotype"])), jnp.dtype(of["dtype"])
            network.check(genotype, of["form"])
            for name in ("cells", "channels", "classes", "image_shape"):
                sizes = of[name] if name == "image_shape" else [of[name]]
                if not all(type(size) is int and 1 <= size <= _LARGEST for size in sizes):
                    raise ValueError(f"{name} is {of[name]!r:.80}, expected whole numbers from 1 to {_LARGEST}")
            net = Network(genotype, of["form"], of["cells"], of["channels"], of["classes"], dtype=dtype)
            shape, mean, std, crop = (*(tuple(of[name]) for name in ("image_shape", "mean", "std")), of["crop"])
            arrays = safetensors.numpy.load_file(directory / "network.safetensors")
            with safetensors.safe_open(directory / "network.safetensors", "numpy") as file:
                epoch = (file.metadata() or {}).get("epoch")
            if of["cells"] > len(arrays):
                raise ValueError(f"cells is {of['cells']}, but there are {len(arrays)} arrays")
        except KeyError as error:
            raise ValueError(f"{directory}/network.json: it lacks {error}") from error
        except (OSError, TypeError, ValueError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
            raise ValueError(f"{directory}: no readable network.json and network.safetensors ({error})") from error
        like = network.abstract_variables(net, shape)

        def pick(path, leaf):
            name = "/".join(entry.key for entry in path)
            if name not in arrays or arrays[name].shape != leaf.shape:
                got = arrays[name].shape if name in arrays else "nothing"
                raise ValueError(f"{directory}/network.safetensors: {name}: got {got}, expected {leaf.shape}")
            return arrays[name]

        variables = jax.tree_util.tree_map_with_path(pick, like)
        return cls(net, variables, shape, mean, std, crop, epoch and int(epoch), of.get("plugins", ""))

    def stablehlo(self) -> bytes:
        """The function `logits` for any number of images, weights included, as `jax.export.deserialize` reads it."""
        batch = jax.export.symbolic_shape("batch")
        images = jax.ShapeDtypeStruct((*batch, *self.image_shape), jnp.uint8)
        exported = jax.export.export(jax.jit(self.logits), platforms=PLATFORMS)(images)
        return bytes(exported.serialize())


def plugins_of(directory: pathlib.Path) -> str:
    """The plugins of a network that `TrainedNetwork.save` wrote; "" where none can be read, which `load` explains."""
    try:
        plugins = json.loads((directory / "network.json").read_text()).get("plugins", "")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return plugins if isinstance(plugins, str) else ""

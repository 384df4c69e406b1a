"""The accelerators that programs are compiled for, without having them."""

import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import topologies

GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  memory_bandwidth: {bandwidth:.0f}
  device_memory_size: {memory:.0f}
  cuda_compute_capability {{ major: 9 }}
  driver_version: "12.8.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""
"""What XLA wants to know of a GPU with Hopper's chip (H100 SXM, H200), in the text format of its GpuTargetConfigProto."""


@dataclasses.dataclass(frozen=True)
class Target:
    """An accelerator, or several that work together.

    Attributes:
      name: as the maker or jax calls the device.
      platform: "cuda" or "tpu".
      topology: jax' name of their arrangement.
      memory: bytes of a device's memory.
      bandwidth: bytes a second between a device and its memory.
      matrix_flops: operations a second of the units for matrix products, by type of the numbers.
      other_flops: operations a second of the other units.
      kernel, captured: the shortest time of a kernel in seconds, launched by itself and in a command buffer.
      launch: seconds of the host for a launch.
      bounds: chips of a host, where jax' name does not tell them.
    """

    name: str
    platform: str
    topology: str
    memory: float
    bandwidth: float
    matrix_flops: Mapping[str, float]
    other_flops: float
    kernel: float = 2e-6
    captured: float = 0.6e-6
    launch: float = 5e-6
    bounds: Sequence[int] | None = None

    def devices(self) -> list[jax.Device]:
        """The devices, as far as the compiler is concerned; nothing can run on them."""
        if self.platform == "cuda":
            text = GPU.format(name=self.name, memory=self.memory, bandwidth=self.bandwidth)
            described = topologies.get_topology_desc(platform="cuda", target_config=text, topology=self.topology)
        else:
            bounds = {"chips_per_host_bounds": self.bounds} if self.bounds else {}
            described = topologies.get_topology_desc(platform="tpu", topology_name=self.topology, **bounds)
        return list(described.devices)

    def missing(self) -> str | None:
        """What to install before programs can be compiled for it; None if nothing is missing."""
        modules = {"cuda": {"jax_cuda12_plugin": "jax-cuda12-plugin", "jax_plugins.xla_cuda12": "jax-cuda12-pjrt"},
                   "tpu": {"libtpu": "libtpu"}}[self.platform]  # fmt: skip
        absent = [package for module, package in modules.items() if not _found(module)]
        if not absent:
            return None
        version = importlib.metadata.version("jaxlib")
        exact = [f"{package}=={version}" if self.platform == "cuda" else package for package in modules.values()]
        return (
            f"{' and '.join(absent)} not installed, which compiles for this target without the hardware: "
            f"pip install --no-deps {' '.join(exact)} --constraint requirements.lock"
        )


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _hopper(name: str, memory: float, bandwidth: float) -> Target:
    products = {"float32": 495e12, "bfloat16": 989e12}  # float32 as TF32, jax' default
    return Target(name, "cuda", "1x1x1", memory, bandwidth, products, 67e12)


def _tpu(name: str, topology: str, memory: float, bandwidth: float, products: float, bounds=None) -> Target:
    """A TPU. float32 is multiplied as bfloat16, jax' default; its programs are launched once and run by themselves."""
    rates = {"float32": products, "bfloat16": products}
    return Target(name, "tpu", topology, memory, bandwidth, rates, products / 32, kernel=0.6e-6, bounds=bounds)


TARGETS = {
    "h100": _hopper("NVIDIA H100 80GB HBM3", 84_929_347_584, 3.35232e12),
    "h200": _hopper("NVIDIA H200", 150_754_820_096, 4.8e12),
    "v5e": _tpu("TPU v5 lite", "v5e:1x1", 17.2e9, 0.819e12, 197e12, (1, 1, 1)),
    "v6e": _tpu("TPU v6 lite", "v6e:1x1", 34.4e9, 1.64e12, 918e12, (1, 1, 1)),
    "v5e:2x4": _tpu("TPU v5 lite", "v5e:2x4", 17.2e9, 0.819e12, 197e12),
}
"""By name. Figures of the makers, without sparsity; that of a TPU's other units is a guess, 1/32 of its matrix units."""

"""Reads checkpoints of the reference implementation, as `torch.save` writes them, into NumPy arrays."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a file, as NumPy arrays.

    Attributes:
      tensors: the state dict, in its order; any PyTorch float becomes float32.
      alphas: architecture parameters [E, O] in the order of the space's cell kinds; empty if there are none.
      epoch: the epochs that it was trained for, or None.
      weight_optimizer, alpha_optimizer: state dicts of the optimisers, or None.
    """

    tensors: dict[str, np.ndarray]
    alphas: list[np.ndarray]
    epoch: int | None = None
    weight_optimizer: dict | None = None
    alpha_optimizer: dict | None = None


STATE_DICTS = "state_dict", "model", "model_state_dict", "net"
"""Under which names programs save a state dict beside other values."""


def load(path: str | os.PathLike) -> Checkpoint:
    """Reads a file that `torch.save` wrote; needs torch. Runs no code from the file.

    Args:
      path: of a state dict, or of a dict that has it under one of `STATE_DICTS` and may have "alpha" (a tensor, or one for
        each cell kind), "epoch", "optimizer" and "arch_optimizer". Without "alpha", tensors of the state dict whose names
        are those of architecture parameters are taken.

    Raises:
      ValueError: torch is missing, the file is something else, or a tensor has numbers that are not finite; one line names
        it and says what to do.
    """
    content = _content(path)
    whole = content if isinstance(content, dict) else {}
    tensors = next((whole[key] for key in STATE_DICTS if isinstance(whole.get(key), dict)), whole)
    if not tensors or not all(isinstance(value, np.ndarray) for value in tensors.values()):
        kind = "tensor" if isinstance(content, np.ndarray) else type(content).__name__
        got = f"a dict with {', '.join(map(str, list(content)[:5]))}" if whole else f"a {kind}"
        names = " or ".join(map(repr, STATE_DICTS))
        raise ValueError(f"{path}: got {got}, expected a state dict, or a dict with it as {names}")
    if "proj_weights" in whole:
        raise ValueError(f"{path}: left amid a selection (it has 'proj_weights'): take the checkpoint after the search")
    alphas = whole.get("alpha")
    if alphas is None:
        alphas = [value for name, value in tensors.items() if is_alpha(name)]
    alphas = [alphas] if isinstance(alphas, np.ndarray) else alphas
    if not isinstance(alphas, list) or not all(isinstance(value, np.ndarray) for value in alphas):
        raise ValueError(f"{path}: got a {type(alphas).__name__} as 'alpha', expected a tensor or a list of tensors")
    epoch = whole.get("epoch")
    optimizers = {key: whole[key] for key in ("optimizer", "arch_optimizer") if isinstance(whole.get(key), dict)}
    for name, array in _tensors_in({**tensors, "alpha": alphas, **optimizers}):
        if not np.isfinite(array).all():
            bad = array.size - np.count_nonzero(np.isfinite(array))
            raise ValueError(f"{path}: {name} has {bad} of {array.size} numbers that are not finite (NaN or infinite)")
    states = optimizers.get("optimizer"), optimizers.get("arch_optimizer")
    return Checkpoint(tensors, alphas, epoch if isinstance(epoch, int) else None, *states)


def _tensors_in(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in containers of any depth, with the keys that lead to them."""
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors_in(entry, f"{name}/{key}" if name else str(key))


def _content(path: str | os.PathLike) -> Any:
    """The object in a file, its tensors as arrays."""
    try:
        import torch
    except ImportError:
        raise ValueError(f"{path}: reading PyTorch checkpoints needs torch: pip install torch") from None
    try:
        with _numpy_allowed(torch):
            return _arrays(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # zip and pickle raise errors of many types for other files
        if refused := re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", str(error)):
            raise ValueError(
                f"{path}: it holds a {refused[1] or refused[2]}, and only tensors, numbers and containers are read: load it "
                "with the program that wrote it, and save model.state_dict() instead, or a dict with it as 'state_dict' and "
                "the alphas as 'alpha'"
            ) from error
        raise ValueError(
            f"{path}: not a whole PyTorch checkpoint ({type(error).__name__}), expected what torch.save writes"
        ) from error


def _numpy_allowed(torch: Any) -> contextlib.AbstractContextManager:
    """Lets `torch.load` read NumPy's numbers, which are often saved beside the weights; torch before 2.6 reads none."""
    if torch.__version__ < (2, 6):
        return contextlib.nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    dtypes = {type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]}
    return torch.serialization.safe_globals([*names, np.dtype, *dtypes])


def _arrays(value: Any) -> Any:
    """Turns tensors into arrays, and NumPy's numbers into Python's, in containers of any depth."""
    if isinstance(value, Mapping):
        return {key: _arrays(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(entry) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value.detach().float().numpy() if hasattr(value, "detach") else value


def is_alpha(name: str) -> bool:
    """Whether a tensor of this name holds architecture parameters."""
    return bool(re.search("alpha|arch_param", name))


def optimizer_values(state: Mapping | None, name: str) -> list[np.ndarray | None]:
    """One value of a PyTorch optimiser's state dict for every parameter, in their order; None for those without it.

    A state that is None or no such dict gives [].

    Args:
      state: the state dict, or None.
      name: "momentum_buffer", "exp_avg", "exp_avg_sq" or "step".
    """
    if state is None:
        return []
    try:
        order = [number for group in state["param_groups"] for number in group["params"]]
        return [state["state"].get(number, {}).get(name) for number in order]
    except (TypeError, KeyError, AttributeError):
        return []

"""Compares the logits of our supernets and of a PyTorch program with the same weights, in batch-statistics mode.

    python -m benchmarks.parity --peer PEER.py --python TORCH_ENVIRONMENT/bin/python

The peer defines `DartsSupernet`, `BenchSupernet` and the operation lists `DARTS`, `S2`, `NB201`. It runs in its own process,
in an environment that has torch. npz files carry its state dict, images and edge weights; `from_torch` reads the weights.
The command prints a Markdown table.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np

from darts_pt_jax.interop import from_torch
from darts_pt_jax.spaces import SPACES
from darts_pt_jax.supernet import Supernet

CASES = {"darts": ("DARTS", 8), "s2": ("S2", 8), "nasbench201": ("NB201", 5)}
CHANNELS, CLASSES, BATCH, SIZE = 16, 10, 16, 32

PEER = f"""
import importlib.util, sys
import numpy as np, torch
spec = importlib.util.spec_from_file_location("peer", sys.argv[1])
peer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(peer)
space, names, cells, inputs, outputs = sys.argv[2], getattr(peer, sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]
torch.manual_seed(0)
make = peer.BenchSupernet if space == "nasbench201" else peer.DartsSupernet
net = make(names, {CHANNELS}, cells, {CLASSES}).train()
for p in net.parameters():
    if p.ndim == 1:
        torch.nn.init.normal_(p, 1.0, 0.1)
file = np.load(inputs)
weights = {{k[2:]: torch.from_numpy(file[k]) for k in file.files if k.startswith("w_")}}
tensors = {{k: v.numpy().copy() for k, v in net.state_dict().items()}}  # the forward pass changes running statistics
with torch.no_grad():
    logits = net(torch.from_numpy(file["images"].transpose(0, 3, 1, 2).copy()), weights)
np.savez(outputs, logits=logits.numpy(), **tensors)
"""


def compare(space: str, peer: pathlib.Path, python: str) -> tuple[float, float, int]:
    """Largest absolute and relative difference of the logits, and the number of parameters."""
    operations, cells = CASES[space]
    table = SPACES[space]
    net = Supernet(table, cells, CHANNELS, CLASSES)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, SIZE, SIZE, 3)).astype(np.float32)
    weights = {k: rng.dirichlet(np.ones(g.width), len(g.edges)).astype(np.float32) for k, g in table.cells.items()}
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = f"{folder}/in.npz", f"{folder}/out.npz"
        np.savez(inputs, images=images, **{f"w_{k}": v for k, v in weights.items()})
        command = [python, "-c", PEER, str(peer), space, operations, str(cells), inputs, outputs]
        subprocess.run(command, check=True)
        theirs = dict(np.load(outputs))
    logits = theirs.pop("logits")
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), images, weights, True))
    variables = from_torch.variables(theirs, net, variables)
    ours, _ = jax.jit(lambda v, w: net.apply(v, images, w, True, mutable=["batch_stats"]))(variables, weights)
    difference = np.abs(np.asarray(ours) - logits).max()
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    return float(difference), float(difference / np.abs(logits).max()), count


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=pathlib.Path, required=True, help="the PyTorch program")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with torch")
    parser.add_argument("--limit", type=float, default=1e-4, help="largest relative difference that passes")
    args = parser.parse_args()
    print("| space | parameters | largest absolute difference | relative to the largest logit |\n|---|---|---|---|")
    worst = 0.0
    for space in CASES:
        absolute, relative, count = compare(space, args.peer, args.python)
        print(f"| {space} | {count:,} | {absolute:.2e} | {relative:.2e} |", flush=True)
        worst = max(worst, relative)
    if not worst <= args.limit:
        sys.exit(f"error: the largest relative difference is {worst:.2e}, expected at most {args.limit:.0e}")


if __name__ == "__main__":
    main()

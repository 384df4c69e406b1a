"""Logits of our supernets against a PyTorch program's under the same weights, in batch-statistics mode.

    python -m benchmarks.parity --peer ../shared/peer/torch_supernet.py --python TORCH_ENVIRONMENT/bin/python

The peer defines `DartsSupernet`, `BenchSupernet` and the operation lists `DARTS`, `S2`, `NB201`. It runs as a process of
its own, in an environment that has torch; weights, images and edge weights travel as npz. Prints a Markdown table.
"""

import argparse
import itertools
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np

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
with torch.no_grad():
    logits = net(torch.from_numpy(file["images"].transpose(0, 3, 1, 2).copy()), weights)
np.savez(outputs, logits=logits.numpy(), **{{k: v.detach().numpy() for k, v in net.named_parameters()}})
"""


def torch_names(net: Supernet, params: dict, space: str) -> dict[tuple[str, ...], list[str]]:
    """Maps every parameter of ours, by path, to the peer's name, or to those of its rows."""
    layout = net.space.layout(net.cells)
    names = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        keys = tuple(p.key for p in path)
        names[keys] = [_torch_name(keys, space, layout, edge) for edge in net.edges_of(keys) or (None,)]
    return names


def _torch_name(keys, space, layout, edge) -> str:
    affine = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    if keys[0] == "stem_conv":
        return "stem.0.weight"
    if keys[0] == "stem_norm":
        return f"stem.1.{affine[keys[-1]]}"
    if keys[0] == "final_norm":
        return f"norm.{affine[keys[-1]]}"
    if keys[0] == "head":
        return f"head.{affine[keys[-1]]}"
    index = int(keys[0].removeprefix("cells_"))
    prefix = f"{'body' if space == 'nasbench201' else 'cells'}.{index}"
    if layout[index] == "residual_block":
        if keys[1] == "shortcut":
            return f"{prefix}.short.1.weight"
        first = {"conv_a": 0, "conv_b": 3}[keys[1]]
        return f"{prefix}.body.{first + (1 if keys[2] == 'conv' else 2)}.{affine[keys[-1]]}"
    if keys[1].startswith("preprocess_"):
        return f"{prefix}.pre{keys[1][-1]}.{keys[2] + '.' if keys[2] in ('even', 'odd') else '1.'}weight"
    graph = SPACES[space].cells[layout[index]]
    (name,) = (group.operation for group in graph.groups if group.label == keys[1])
    # the peer's list of modules leaves out what is no module: NAS-Bench-201's none
    modules = [candidate for candidate in graph.edges[edge].candidates if candidate != "none"]
    prefix = f"{prefix}.edges.{edge}.modules_.{modules.index(name)}"
    if name == "skip_connect":
        return f"{prefix}.{keys[3]}.weight"
    if name.startswith("nor_conv"):
        return f"{prefix}.1.weight"
    first = {"conv": 0, "conv_a": 0, "conv_b": 4}[keys[2]]
    return f"{prefix}.{first + {'depthwise': 1, 'pointwise': 2}[keys[3]]}.weight"


def compare(space: str, peer: pathlib.Path, python: str) -> tuple[float, float, int]:
    """Largest absolute and relative difference of the logits, and the number of parameters compared."""
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
    names = torch_names(net, variables["params"], space)
    if sorted(itertools.chain(*names.values())) != sorted(theirs):
        differing = set(itertools.chain(*names.values())) ^ set(theirs)
        raise ValueError(f"{space}: the peer has other parameters: {sorted(differing)[:5]}")

    def copied(path, leaf):
        keys = tuple(p.key for p in path)
        rows = [theirs[name] for name in names[keys]]
        rows = [row.transpose(2, 3, 1, 0) if row.ndim == 4 else row.T for row in rows]
        value = np.stack(rows) if net.edges_of(keys) else rows[0]
        if value.shape != leaf.shape:
            raise ValueError(f"{space}: {path} is {leaf.shape}, the peer's is {value.shape}")
        return value

    params = jax.tree_util.tree_map_with_path(copied, variables["params"])
    stats = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables["batch_stats"])
    ours, _ = jax.jit(lambda v, w: net.apply(v, images, w, True, mutable=["batch_stats"]))(
        {"params": params, "batch_stats": stats}, weights
    )
    difference = np.abs(np.asarray(ours) - logits).max()
    return float(difference), float(difference / np.abs(logits).max()), sum(x.size for x in jax.tree.leaves(params))


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

"""An operation, a search space, and a selection method of one's own, as a config file that the command takes.

    python -m experiments.main --config=examples/own_space.py

Every table is a plain dict: what is put in before the config is returned is there by its name. The run names this file, so
that later commands find it. Another selection from the same supernet:

    python -m experiments.main --config.init_from=runs/own_space-seed0 --config.select.method=perturbation
"""

import flax.linen as nn
import numpy as np

from darts_pt_jax.configs import quickstart
from darts_pt_jax.ops import OPERATIONS, Conv, Norm, Operation
from darts_pt_jax.selection.direct import Choice
from darts_pt_jax.selection.methods import METHODS, Method
from darts_pt_jax.spaces import SPACES, darts_like


class GatedConv(Operation):
    """1x1 convolution and BatchNorm, each channel scaled by what the image holds on average (squeeze and excitation)."""

    @nn.compact
    def __call__(self, x, batch_statistics):
        """The output [B, H, W, channels] of images [B, H, W, channels]."""
        x = Conv(self.channels, 1, self.stride, name="conv")(nn.relu(x))
        gate = nn.sigmoid(nn.Dense(self.channels, name="gate")(x.mean((1, 2), keepdims=True)))
        return Norm(self.affine, name="norm")(x * gate, batch_statistics)


def sampled(space, weights, rng):
    """Operations drawn with the probabilities that the edge weights are, inputs drawn evenly."""
    operations, kept = {}, {}
    for kind, graph in space.cells.items():
        allowed = np.where(graph.candidate_mask, weights[kind], 0)
        operations[kind] = np.array([rng.choice(graph.width, p=row / row.sum()) for row in allowed.astype(float)])
        kept[kind] = np.ones(len(graph.edges), bool)
        for node in space.choosable_nodes(kind):
            edges = graph.incoming(node)
            kept[kind][rng.choice(edges, len(edges) - space.inputs_per_node, replace=False)] = False
    return Choice(operations, kept)


OPERATIONS["gated_conv_1x1"] = GatedConv
SPACES["gated"] = darts_like("gated", ("skip_connect", "avg_pool_3x3", "gated_conv_1x1"))
METHODS["sampled"] = Method("sampled", "operations drawn by their edge weights", selector=sampled)


def get_config():
    """The quickstart in the space above."""
    config = quickstart.get_config()
    config.space = "gated"
    config.select.method = "sampled"
    return config

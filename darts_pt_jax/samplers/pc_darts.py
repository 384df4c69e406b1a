"""PC-DARTS' edge normalisation: a learned weight for each edge of a node (Xu et al., ICLR 2020, section 3.3).

The other half of PC-DARTS, mixing a part of the channels, is the key `supernet.channel_share`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from darts_pt_jax import architecture
from darts_pt_jax.architecture import Alphas
from darts_pt_jax.samplers.base import Sampler
from darts_pt_jax.spaces import SearchSpace


def init(space: SearchSpace, key: jax.Array, scale: float) -> Alphas:
    """Alphas [E, O + 1] by cell kind, from N(0, scale^2): the last column has the parameters of the edges (beta)."""
    return architecture.init_alphas(space, key, scale, more=1)


def operations(space: SearchSpace, alphas: Alphas) -> dict[str, jax.Array]:
    """The softmax over every edge's candidates, [E, O] by cell kind."""
    return architecture.mixtures(space, {kind: row[:, :-1] for kind, row in alphas.items()})


def edges(space: SearchSpace, alphas: Alphas) -> dict[str, jax.Array]:
    """The softmax of beta over the incoming edges of every node, [E] by cell kind (equation 4)."""
    shares = {}
    for kind, graph in space.cells.items():
        beta = alphas[kind][:, -1]
        nodes = [np.array(graph.incoming(state)) for state in graph.node_states]
        shares[kind] = jnp.concatenate([jax.nn.softmax(beta[of_node]) for of_node in nodes])
    return shares


def pc_darts() -> Sampler:
    """An edge's weights are its softmax times its share of the node; a decided edge keeps its share."""
    return Sampler(mean=operations, edges=edges, init=init, sums_to_one=False)

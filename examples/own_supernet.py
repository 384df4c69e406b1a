"""Perturbation-based selection on a supernet and a loss of one's own, without flags and files.

    python -m examples.own_supernet

The supernet below is a plain function without Flax: a fully connected network on handwritten digits whose hidden
states are joined by edges of three candidates each. All that the selection asks of a supernet is a function of
(variables, edge weights, batch) that gives logits and labels; a criterion says what a removal costs.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from darts_pt_jax import architecture
from darts_pt_jax.data import sources
from darts_pt_jax.selection import perturbation, schedule
from darts_pt_jax.selection.criteria import CRITERIA
from darts_pt_jax.spaces import SearchSpace, dag

OPERATIONS = ("noise", "skip", "dense")
WIDTH = 32

# One cell with one input and three nodes, so six edges; a node keeps two inputs.
SPACE = SearchSpace(
    name="mlp",
    cells={"cell": dag(1, 3, OPERATIONS, outputs=(3,))},
    layout=lambda cells: ("cell",) * cells,
    inputs_per_node=2,
    notation="json",
)
GRAPH = SPACE.cells["cell"]


def init(key):
    """The supernet's parameters."""
    keys = jax.random.split(key, 3)
    return {
        "stem": jax.random.normal(keys[0], (64, WIDTH)) / 8,
        "dense": jax.random.normal(keys[1], (len(GRAPH.edges), WIDTH, WIDTH)) / WIDTH**0.5,
        "head": jax.random.normal(keys[2], (WIDTH, 10)) / WIDTH**0.5,
    }


def normalise(x):
    """Features of zero mean and unit variance over the batch."""
    return (x - x.mean(0)) / (x.std(0) + 1e-3)


def evaluate(parameters, edge_weights, batch):
    """The supernet on a batch (images, labels, key): logits [B, 10] and labels [B]."""
    images, labels, key = batch
    states = [normalise(images @ parameters["stem"])]
    for node in GRAPH.node_states:
        total = 0.0
        for e in GRAPH.incoming(node):
            x = states[GRAPH.edges[e].source]
            noise = jax.random.normal(jax.random.fold_in(key, e), x.shape)
            dense = normalise(jax.nn.relu(x) @ parameters["dense"][e])
            total += jnp.tensordot(edge_weights["cell"][e], jnp.stack([noise, x, dense]), 1)
        states.append(total)
    return normalise(states[-1]) @ parameters["head"], labels


def smoothed(logits, labels, unmasked=None):
    """The loss [B] of each image: cross-entropy with smoothed labels."""
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.1))


# What a removal costs is measured by that loss.
SMOOTHED = dataclasses.replace(CRITERIA["loss"], name="smoothed", record="smoothed", measure=smoothed)

optimizer = optax.adam(1e-2)


@jax.jit
def train(parameters, edge_weights, images, labels, key):
    """200 steps of Adam on random batches, at fixed edge weights."""

    def step(i, carry):
        parameters, state = carry
        index_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.choice(index_key, len(images), (128,), replace=False)
        batch = images[rows], labels[rows], noise_key
        gradient = jax.grad(lambda p: smoothed(*evaluate(p, edge_weights, batch)).sum())(parameters)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, updates), state

    return jax.lax.fori_loop(0, 200, step, (parameters, optimizer.init(parameters)))[0]


def main(seed: int = 0):
    """Trains the supernet, selects, prints; returns the genotype and the accuracies before and after."""
    data = sources.digits()
    images = jnp.asarray(data.train_images.reshape(-1, 64) / 255.0, jnp.float32)
    labels = jnp.asarray(data.train_labels)
    training, validation = (images[:700], labels[:700]), (images[700:], labels[700:], jax.random.key(1))
    alphas = {"cell": jnp.zeros(GRAPH.candidate_mask.shape)}  # every candidate weighs the same

    def tune(parameters, alphas, decisions):
        return train(parameters, architecture.edge_weights(SPACE, alphas, decisions), *training, key), alphas

    def accuracy(parameters, decisions):
        logits, labels = evaluate(parameters, architecture.edge_weights(SPACE, alphas, decisions), validation)
        return float(100 * (logits.argmax(-1) == labels).mean())

    key, undecided = jax.random.key(seed), architecture.undecided(SPACE)
    parameters, _ = tune(init(key), alphas, undecided)
    before = accuracy(parameters, undecided)

    points = schedule.decision_points(SPACE, "random", "both", np.random.RandomState(seed))
    decisions, records, parameters = perturbation.select(
        SPACE, points, evaluate, parameters, alphas, [validation], tune, SMOOTHED
    )
    for record in records:
        what = f"edge {record['edge']}" if record["type"] == "operation" else f"node {record['node']} keeps edges"
        print(f"{what}: {record['choice']}, ahead by {record['margin']:.4f} in loss")
    genotype, after = decisions.genotype(SPACE), accuracy(parameters, decisions)
    print(genotype.to_json())
    print(f"validation accuracy: supernet {before:.1f} %, selected architecture {after:.1f} %")
    return genotype, before, after


if __name__ == "__main__":
    main()

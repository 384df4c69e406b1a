"""A tiny supernet, trained for a few steps, and an architecture selected from it by perturbation.

python -m examples.in_python
"""

import jax
import numpy as np

import darts_pt_jax as dpt

# 64 random images of two classes: those of class 1 are brighter.
rng = np.random.RandomState(0)
labels = np.arange(64, dtype=np.int32) % 2
pixels = (rng.randint(0, 156, (64, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
half = np.full(3, 0.5, np.float32)
dataset = dpt.Dataset(pixels, labels, mean=half, std=half, pad=0, flip=False)
images = np.float32(pixels / 127.5 - 1)

cell = dpt.dag(inputs=1, nodes=2, candidates=("skip_connect", "avg_pool_3x3", "nor_conv_1x1"))
space = dpt.SearchSpace("small", {"normal": cell}, layout=lambda cells: ("normal",) * cells, stem_multiplier=1)
net, key = dpt.Supernet(space, cells=1, channels=4, classes=2), jax.random.key(0)
weight_optimizer, alpha_optimizer = dpt.weight_optimizer(), dpt.alpha_optimizer()
state = dpt.init_state(net, key, (8, 8, 3), weight_optimizer, alpha_optimizer)
gradient = jax.jit(dpt.make_gradient(net, ("params", "alphas")))
weight_step, alpha_step = (
    jax.jit(dpt.make_weight_update(weight_optimizer)),
    jax.jit(dpt.make_alpha_update(alpha_optimizer)),
)

for _ in range(20):  # weights learn from the first half of the images, alphas from the second
    gradients, _, stats = gradient(state, dpt.Batch(images[32:], labels[32:], key))
    state = alpha_step(state, gradients, stats)
    gradients, metrics, stats = gradient(state, dpt.Batch(images[:32], labels[:32], key))
    state = weight_step(state, gradients, stats, 0.025)
print(f"training loss {metrics.loss / metrics.images:.3f}")

points = dpt.decision_points(space, order="random", pairing="both", rng=rng)
evaluate = dpt.make_evaluate(net, batch_statistics=True, augment=False)
batches = [(dataset, np.arange(32, 64), key)]  # the images on which every removal is scored
decisions, records, _ = dpt.select(
    space, points, evaluate, state.variables, state.alphas, batches, criterion=dpt.CRITERIA["loss"]
)
print(decisions.genotype(space).to_json())

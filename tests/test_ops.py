import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import network, ops
from darts_pt_jax.genotype import example
from darts_pt_jax.network import Network
from darts_pt_jax.ops import Operation
from darts_pt_jax.spaces import SearchSpace, dag, darts_like
from darts_pt_jax.supernet import Supernet
from tests import tiny


def run(module, x, key, batch_statistics=True):
    variables = module.init({"params": key, "noise": key}, x, batch_statistics)
    return module.apply(variables, x, batch_statistics, rngs={"noise": key}, mutable=["batch_stats"])[0]


@pytest.mark.parametrize("name", ops.OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7])
def test_every_operation_keeps_the_channels_and_divides_the_size_by_its_stride(name, stride, size, key):
    x = jax.random.normal(key, (2, size, size, 4))
    assert run(ops.OPERATIONS[name](4, stride), x, key).shape == (2, -(-size // stride), -(-size // stride), 4)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (3, 1, 2), (5, 2, 2)])
def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one(kernel, stride, dilation, key):
    x = jax.random.normal(key, (2, 9, 9, 6))
    module = ops.SeparableConv(5, kernel, stride, dilation)
    variables = module.init(key, x)
    depthwise, pointwise = variables["params"]["depthwise"], variables["params"]["pointwise"]
    pad, names = dilation * (kernel // 2), ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, depthwise, (stride,) * 2, [(pad, pad)] * 2, rhs_dilation=(dilation,) * 2,
                                     dimension_numbers=names, feature_group_count=6)  # fmt: skip
    y = jax.lax.conv_general_dilated(y, pointwise, (1, 1), "VALID", dimension_numbers=names)
    np.testing.assert_allclose(module.apply(variables, x), y, rtol=1e-5, atol=1e-5)


def test_batch_norm_uses_the_biased_batch_variance_and_momentum_a_tenth(key):
    x = 100 + jax.random.normal(key, (4, 3, 3, 2))
    module = ops.Norm()
    variables = module.init(key, x, True)
    y, updated = module.apply(variables, x, True, mutable=["batch_stats"])
    flat = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-4)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0), rtol=1e-4)
    np.testing.assert_allclose(module.apply(variables, x, False), x / np.sqrt(1 + 1e-5), rtol=1e-6)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [4, 5])
def test_pooling_ignores_padding(average, stride, size, key):
    x = -1 - jax.random.uniform(key, (2, size, size, 3))
    y = run(ops.Pool(3, stride, pool_norm=False, average=average), x, key)
    for i in range(0, size, stride):
        for j in range(0, size, stride):
            window = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            expected = window.mean((1, 2)) if average else window.max((1, 2))
            np.testing.assert_allclose(y[:, i // stride, j // stride], expected, rtol=1e-6)


def test_factorized_reduce_reads_even_and_odd_pixels(key):
    x = jnp.zeros((1, 4, 4, 2)).at[0, 1, 3, 0].set(5.0)
    module = ops.FactorizedReduce(2)
    variables = module.init(key, x, True)
    odd = variables["params"]["odd"]["kernel"][0, 0, 0, 0]
    y = module.apply(variables, x, False)
    np.testing.assert_allclose(y[0, 0, 1, 1], 5 * odd / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert np.count_nonzero(y) == 1


def test_operations_without_parameters_are_known():
    free = [name for name in ops.OPERATIONS if not ops.has_parameters(name)]
    assert free == ["none", "noise", "skip_connect", "max_pool_3x3", "avg_pool_3x3"]


def test_operations_that_draw_are_known():
    assert [name for name in ops.OPERATIONS if ops.draws(name)] == ["noise"]


def test_convolutions_are_known_by_their_class_unless_they_declare_it(monkeypatch):
    assert [name for name in ops.OPERATIONS if ops.is_convolution(name) != ("conv" in name)] == []

    class Gate(Operation):
        @nn.compact
        def __call__(self, x, batch_statistics):
            return x * nn.sigmoid(nn.Dense(self.channels)(x))

    class NoConvolution(Gate):
        convolution = False

    for name, operation, expected in (("a", Gate, True), ("unconventional", NoConvolution, False)):
        monkeypatch.setitem(ops.OPERATIONS, name, operation)
        assert ops.is_convolution(name) is expected


def test_an_operation_that_is_registered_again_replaces_the_old_one(monkeypatch, key):
    """The caches depend on the registered value, not on its name."""

    def registered(size):
        class Mine(Operation):
            @nn.compact
            def __call__(self, x, batch_statistics):
                return ops.Conv(self.channels, size, self.stride)(x)

        class Drawing(ops.Noise):
            pass

        monkeypatch.setitem(ops.OPERATIONS, "mine", Mine if size else Drawing)
        graph = dag(1, 1, ("skip_connect", "mine"))
        net = Supernet(SearchSpace("mine", {"normal": graph}, lambda cells: ("normal",), stem_multiplier=1), 1, 4, 3)
        state = tiny.state(net, key)
        rngs = {"noise": key}
        logits = net.apply(state.variables, jnp.zeros((2, 8, 8, 2)), tiny.weights(net, state), False, rngs=rngs)
        assert logits.shape == (2, 3)
        return ops.draws("mine"), [leaf.shape for leaf in jax.tree.leaves(state.params.get("cells_0", {}))]

    assert registered(1) == (False, [(1, 1, 1, 4, 4)])
    assert registered(3) == (False, [(1, 3, 3, 4, 4)])
    assert registered(0) == (True, [])


@pytest.mark.parametrize("form", ["Conv", "DenseGeneral", "ConvTranspose", "einsum", "scan"])
def test_multiply_adds_of_a_custom_operation_count(form, monkeypatch):
    class Product(Operation):
        @nn.compact
        def __call__(self, x, batch_statistics):
            x = x[:, :: self.stride, :: self.stride]
            if form == "Conv":
                return nn.Conv(self.channels, (1, 1), use_bias=False)(x)
            if form == "DenseGeneral":
                return nn.DenseGeneral(self.channels, use_bias=False)(x)
            if form == "ConvTranspose":
                return nn.ConvTranspose(self.channels, (1, 1), use_bias=False)(x)
            kernel = self.param("kernel", nn.initializers.orthogonal(), (x.shape[-1], self.channels))
            if form == "einsum":
                return jnp.einsum("bhwc,cd->bhwd", x, kernel)
            return jnp.moveaxis(jax.lax.map(lambda row: row @ kernel, jnp.moveaxis(x, 1, 0)), 0, 1)

    class Known(Operation):
        @nn.compact
        def __call__(self, x, batch_statistics):
            return ops.Conv(self.channels, 1, self.stride)(x)

    class Silent(Product):
        def multiply_adds(self, x, y):
            return 0

    def size(operation):
        monkeypatch.setitem(ops.OPERATIONS, "mine", operation)
        genotype = example(darts_like("mine", ("mine",)))
        return network.size(Network(genotype, "cifar", 3, 4, 3), (8, 8, 3))

    assert size(Product) == size(Known)
    assert size(Silent)[1] < size(Known)[1] - 10_000


def test_a_space_with_an_unknown_operation_makes_no_supernet():
    with pytest.raises(
        ValueError, match=r"^space bad has the candidate 'swish', which is no operation of ops\.OPERATIONS, none"
    ):
        Supernet(darts_like("bad", ("skip_connect", "swish")), 3, 4, 10)
    with pytest.raises(ValueError, match="'skip_conect', which is no operation: did you mean skip_connect"):
        Supernet(darts_like("bad", ("skip_conect",)), 3, 4, 10)


def test_noise_depends_only_on_the_key(key):
    x = jnp.zeros((2, 4, 4, 3))
    module = ops.Noise(3)
    draw = [module.apply({}, x + add, True, rngs={"noise": jax.random.key(k)}) for add, k in ((0, 0), (1, 0), (0, 1))]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


def test_convolutions_start_as_in_pytorch(key):
    kernel = ops.Conv(64, 3).init(key, jnp.zeros((1, 8, 8, 16)))["params"]["kernel"]
    bound = 1 / np.sqrt(9 * 16)
    assert abs(kernel).max() <= bound and abs(kernel).max() > 0.99 * bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.02)
    depthwise = ops.SeparableConv(64, 3).init(key, jnp.zeros((1, 8, 8, 64)))["params"]["depthwise"]
    assert 0.99 / 3 < abs(depthwise).max() <= 1 / 3

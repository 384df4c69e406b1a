"""The fast forms of kernels for CPUs and GPUs against their plain forms: values, gradients, second derivatives."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from darts_pt_jax import devices, kernels

SIZES = [8, 7]
DEPTHWISE = [  # kernel, stride, dilation, size
    (3, 1, 1, 8), (3, 2, 1, 7), (5, 1, 1, 7), (5, 2, 1, 8), (3, 1, 2, 7), (3, 2, 2, 8), (5, 1, 2, 8), (5, 2, 2, 7),
]  # fmt: skip


@pytest.fixture(params=["cpu", "gpu"])
def platform(request, monkeypatch):
    """The platform whose forms a test takes. All run on a CPU."""
    jax.clear_caches()  # jax does not know that a program depends on what is patched
    monkeypatch.setattr(devices, "platform", lambda: request.param)
    yield request.param
    jax.clear_caches()


takes_all_forms = pytest.mark.usefixtures("platform")


def normals(seed, *shapes):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


def described(function, args, twice=True):
    """Outputs, the gradient under random cotangents, and, if `twice`, its derivative in a random direction."""

    def gradient(*args):
        def weighed(args):
            outputs = function(*args)
            (weights,) = normals(7, first(outputs).shape)
            return (weights * jnp.sin(first(outputs))).sum(), outputs

        return jax.grad(weighed, has_aux=True)(args)

    return jax.jvp(gradient, args, normals(8, *(x.shape for x in args))) if twice else gradient(*args)


def same(one, two, tolerance=2e-5):
    """Compares up to rounding, relative to the largest number of each array."""
    one, two = (jax.tree.leaves(jax.device_get(tree)) for tree in (one, two))
    for a, b in zip(one, two, strict=True):
        assert a.shape == b.shape and np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, abs(b).max()))


def same_forms(fast, plain, *args, twice=True):
    one, two = (jax.jit(functools.partial(described, f, twice=twice))(args) for f in (fast, plain))
    same(one, two)
    for array in jax.tree.leaves(two):
        assert array.any(), "the plain form is not zero"


@takes_all_forms
@pytest.mark.parametrize(("kernel", "stride", "dilation", "size"), DEPTHWISE)
def test_a_depthwise_convolution_is_a_sum_of_shifted_images(kernel, stride, dilation, size):
    fast, plain = (lambda x, k, f=f: f(x, k, stride, dilation) for f in FORMS["depthwise"])
    same_forms(fast, plain, *normals(0, (2, size, size, 3), (kernel, kernel, 3)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pooling_is_a_maximum_of_shifted_images(stride, size, ties):
    (x,) = normals(0, (2, size, size, 3))
    if ties:  # three values, so that most windows contain their maximum several times, where the gradient jumps
        x = jnp.clip(jnp.round(x), -1, 1)
    fast, plain = (lambda x, f=f: f(x, stride) for f in FORMS["max_pool"])
    same_forms(fast, plain, x, twice=not ties)


@takes_all_forms
@pytest.mark.parametrize("size", SIZES)
def test_normalisation_has_the_gradient_of_its_formula(size):
    (x,) = normals(0, (4, size, size, 3))
    fast, plain = (lambda x, f=f: f(3 * x + 2, 1e-5) for f in FORMS["normalise"])
    same_forms(fast, plain, x)


@takes_all_forms
@pytest.mark.parametrize("case", ["offset", "outlier", "constant"])
def test_the_moments_of_a_normalisation_are_exact_to_rounding(case):
    (x,) = normals(0, (8, 8, 8, 2))
    x = {"offset": x + 1000, "outlier": x.at[0, 0, 0].set(100), "constant": 0 * x + 3}[case]
    wide = np.asarray(x, np.float64)
    _, mean, variance = jax.jit(kernels.normalise, static_argnums=1)(x, 1e-5)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var((0, 1, 2)), rtol=2e-5)


def test_mean_and_variance_of_a_normalisation_pass_no_gradient():
    (x,) = normals(0, (4, 5, 5, 3))
    assert not jax.grad(lambda x: sum(part.sum() for part in kernels.normalise(x, 1e-5)[1:]))(x).any()


FORMS = {
    "depthwise": (kernels.depthwise, kernels.depthwise_plain),
    "max_pool": (kernels.max_pool, kernels.max_pool_plain),
    "normalise": (kernels.normalise, kernels.normalise_plain),
}
STACKED = {  # arguments by name, shapes of the arguments, which of them are stacked
    "depthwise, one image": ("depthwise", (2, 1), [(2, 7, 7, 3), (4, 3, 3, 3)], (None, 0)),
    "depthwise, dilated": ("depthwise", (1, 2), [(4, 2, 7, 7, 3), (4, 3, 3, 3)], (0, 0)),
    "depthwise, one kernel": ("depthwise", (1, 1), [(4, 2, 7, 7, 3), (3, 3, 3)], (0, None)),
    "max_pool": ("max_pool", (2,), [(4, 2, 7, 7, 3)], (0,)),
    "normalise": ("normalise", (1e-5,), [(4, 2, 7, 7, 3)], (0,)),
}


@takes_all_forms
@pytest.mark.parametrize("name", STACKED)
def test_stacked_under_vmap_the_forms_are_the_same(name):
    form, static, shapes, axes = STACKED[name]
    fast, plain = (jax.vmap(lambda *args, f=f: f(*args, *static), axes) for f in FORMS[form])
    same_forms(fast, plain, *normals(0, *shapes))


@pytest.mark.parametrize("name", ["depthwise", "normalise"])
def test_the_gradient_is_the_numerical_one(name):
    shapes, static = {"depthwise": ([(2, 7, 7, 3), (5, 5, 3)], (2, 1)), "normalise": ([(2, 7, 7, 3)], (1e-5,))}[name]
    args, directions = normals(0, *shapes), normals(1, *shapes)
    size = first(FORMS[name][0](*args, *static)).size

    @jax.jit
    def value(step):
        moved = (x + step * d for x, d in zip(args, directions, strict=True))
        (factor,) = normals(2, (size,))
        return (factor * jnp.sin(first(FORMS[name][0](*moved, *static))).ravel()).sum()

    slope = jax.grad(value)(0.0)
    assert abs(slope) > 1
    np.testing.assert_allclose(slope, (value(1e-2) - value(-1e-2)) / 2e-2, rtol=2e-2)


@pytest.mark.parametrize("form", [kernels.depthwise, kernels.depthwise_plain])
def test_bfloat16_stays_bfloat16_to_its_rounding(form):
    wide = normals(0, (2, 7, 7, 3), (3, 3, 3), (2, 7, 7, 3))
    x, kernel, g = (array.astype(jnp.bfloat16) for array in wide)
    out, pull = jax.vjp(form, x, kernel)
    wide_out, wide_pull = jax.vjp(kernels.depthwise_plain, *wide[:2])
    results = (out, *pull(g))
    assert {array.dtype for array in results} == {jnp.dtype(jnp.bfloat16)}
    for array, expected in zip(results, (wide_out, *wide_pull(wide[2])), strict=True):
        np.testing.assert_allclose(array.astype(jnp.float32), expected, atol=0.03 * abs(expected).max())


@takes_all_forms
def test_bfloat16_pools_and_the_sums_of_its_gradients_are_float32():
    x = jnp.ones((64, 8, 8, 2), jnp.bfloat16)
    assert kernels.max_pool(x).dtype == jax.grad(lambda x: kernels.max_pool(x).sum())(x).dtype == jnp.bfloat16
    kernel = jnp.zeros((3, 3, 2), jnp.bfloat16)
    gradient = jax.grad(lambda k: kernels.depthwise(x, k).sum().astype(jnp.float32))(kernel)
    assert gradient[1, 1].tolist() == [4096, 4096], "in bfloat16, 256 + 1 is 256"
    assert gradient[0, 0].tolist() == [3136, 3136]


@pytest.mark.parametrize("many", [lambda f: f, jax.vmap])
def test_on_cpus_kernels_are_compiled_apart_from_what_uses_them(many):
    x, kernel = normals(0, (4, 2, 7, 7, 3), (4, 3, 3, 3))
    if many is not jax.vmap:
        x, kernel = x[0], kernel[0]
    gradient = jax.grad(lambda x, kernel: jnp.square(many(kernels.depthwise)(x, kernel)).sum(), (0, 1))
    compiled = jax.jit(gradient).lower(x, kernel).compile().as_text()
    assert compiled.count(" call(") >= 3, "the convolution, its gradient in the image, and in the kernel"


def gradient(x, kernel):
    """The gradient through all kernels that have a special form on CPUs."""

    def loss(x, kernel):
        pooled = kernels.max_pool(kernels.depthwise(kernels.meeting_point(x), kernel, 1, 2))
        return jnp.square(kernels.mixture(kernel[0, 0, :1], (kernels.normalise(pooled, 1e-5)[0],))).sum()

    return jax.grad(loss, (0, 1))(x, kernel)


def scanned(x, kernel):
    return jax.lax.scan(lambda carry, x: (carry, gradient(x, carry)), kernel, x)


SHAPES = (4, 2, 6, 6, 3), (4, 3, 3, 3)
TRANSFORMED = {
    "gradient": (gradient, [shape[1:] for shape in SHAPES]),
    "vmap": (jax.vmap(gradient), SHAPES),
    "jvp": (lambda *args: jax.jvp(gradient, args, args), [shape[1:] for shape in SHAPES]),
    "scan": (scanned, [SHAPES[0], SHAPES[1][1:]]),
}


def forms(function, shapes, *platforms):
    """Counts, in a program for the platforms, grouped convolutions and functions that XLA compiles separately."""
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.export.export(jax.jit(function), platforms=platforms)(*args).mlir_module()
    groups = [int(count) for count in re.findall(r"(?:feature|batch)_group_count = (\d+)", text)]
    return len([count for count in groups if count > 1]), text.count("inlineable")


@pytest.mark.parametrize("name", TRANSFORMED)
def test_the_form_is_that_of_the_platform_a_program_is_lowered_for(name):
    grouped, apart = forms(*TRANSFORMED[name], "cpu")
    assert grouped == 0 and apart >= 7
    assert forms(*TRANSFORMED[name], "cuda") == (0, 0)
    grouped_elsewhere, apart_elsewhere = forms(*TRANSFORMED[name], "tpu")
    assert grouped_elsewhere >= 3 and apart_elsewhere == 0, "forward, and in image and kernel"
    grouped_in_both, apart_in_both = forms(*TRANSFORMED[name], "cpu", "tpu")
    assert grouped_in_both >= grouped_elsewhere and apart_in_both == apart, "one beside the other"


def test_a_program_for_devices_has_the_form_of_their_platform():
    here = devices.Devices.here(1)
    assert here.platform == jax.default_backend()
    args = [jax.ShapeDtypeStruct(shape[1:], jnp.float32) for shape in SHAPES]
    text = here.jit(gradient).trace(*args).lower().as_text()
    assert ("inlineable" in text) == (here.platform == "cpu") and "stablehlo.case" not in text


@takes_all_forms
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("many", [lambda f: f, jax.vmap])
def test_a_mixture_has_the_gradient_of_its_formula(count, many):
    stack = () if many is not jax.vmap else (3,)
    weights, *images = normals(0, (*stack, count), *count * [(*stack, 2, 5, 5, 3)])
    fast, plain = (
        many(lambda weights, *images, f=f: f(weights, images)) for f in (kernels.mixture, kernels.mixture_plain)
    )
    same_forms(fast, plain, weights, *images)


def test_relu_passes_no_gradient_at_zero_and_hides_nothing():
    x = jnp.array([-1.0, 0.0, 2.0, jnp.nan])
    np.testing.assert_array_equal(kernels.relu(x), [0, 0, 2, jnp.nan])
    np.testing.assert_array_equal(jax.grad(lambda x: kernels.relu(x).sum())(x)[:3], [0, 0, 1])


@pytest.mark.parametrize("count", [1, 3])
def test_sharing_is_broadcasting(count):
    (x,) = normals(0, (2, 3, 3, 2))
    share = functools.partial(kernels.share, count=count)
    same_forms(lambda x: kernels.share(x, count), lambda x: jnp.broadcast_to(x, (count, *x.shape)), x)
    assert share(x).shape == (count, 2, 3, 3, 2)
    (many,) = normals(0, (4, 2, 3, 3, 2))
    same_forms(
        jax.vmap(lambda x: kernels.share(x, count)), jax.vmap(lambda x: jnp.broadcast_to(x, (count, *x.shape))), many
    )


def test_a_meeting_point_changes_nothing():
    (x,) = normals(0, (2, 3, 3, 2))
    for many in (lambda f: f, jax.vmap):
        same_forms(many(lambda x: kernels.meeting_point(2 * x) * x), many(lambda x: 2 * x * x), x)

"""A stand-in until `darts_pt_jax.ops` has it."""


def is_convolution(operation: str) -> bool:
    """Whether an operation is a convolution."""
    return "conv" in operation

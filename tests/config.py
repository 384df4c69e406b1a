"""The quickstart's config, with the tests' spaces in the table."""

from darts_pt_jax.configs.quickstart import get_config
from tests import tiny

tiny.register()

__all__ = ["get_config"]

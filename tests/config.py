"""The quickstart's config, with the tests' spaces in the table."""

from configs.quickstart import get_config
from tests import tiny

tiny.register()

__all__ = ["get_config"]

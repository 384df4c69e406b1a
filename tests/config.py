"""The quickstart's config, which makes the tests' spaces known."""

from configs.quickstart import get_config
from tests import tiny

tiny.register()

__all__ = ["get_config"]

"""The command in a process of its own, which knows the tests' spaces."""

import sys

from experiments import main
from tests import tiny

if __name__ == "__main__":
    tiny.register()
    sys.exit(main.main(sys.argv))

"""Memory in large pages."""

import os
import platform
import sys

_LARGE_PAGES = "glibc.malloc.hugetlb=1"


def use_large_pages():
    """Restarts the program with an allocator that asks for large pages, if the allocator is glibc's.

    A step on a CPU allocates and frees gigabytes. In pages of 4 kB that costs a quarter to a third of its time
    (docs/performance.md). glibc reads the setting when a program starts. A GLIBC_TUNABLES of the user takes precedence.
    """
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": _LARGE_PAGES})

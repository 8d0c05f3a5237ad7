"""Keeps freed memory in the process, so that the next image needs no new pages from the operating system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to hand no freed memory back. True if it does; elsewhere than on Linux with glibc, False.

    By default glibc returns every large block on release and asks for it again a moment later; the kernel then clears
    its pages once more. A network on the CPU allocates the same large tensors in every step, and pays for that with
    10 to 20 % of its time. The price is that the process keeps its peak of memory until it ends.

    This holds for the whole process, so a program calls it, not a library: `queryseg VERB` does so by itself.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    return all(set_option(option, value) == 1 for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER)))

"""
Gives up the capabilities of the helper's user namespace, for the command.

An ordinary user's helper has all of them there, in every set, so that mount(8) inherits them.
The C library has the call, and no maintained package does.
"""

from __future__ import annotations

import ctypes

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3

_libc = ctypes.CDLL(None)


def dropAll() -> None:
    """
    Leave the calling thread none, nor any that a program which it starts would inherit: without
    inheritable ones the kernel clears the ambient ones (capabilities(7)).

    @raise OSError: the kernel refuses.
    """
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError("capset(2) failed")

"""
Gives up the capabilities of the helper's user namespace, for the command.

An ordinary user's helper has all of them there, in every set, so that mount(8) inherits them.
The C library has the call, and no maintained package does.
"""

from __future__ import annotations

import ctypes

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_SET_NO_NEW_PRIVS = 38  # PR_SET_NO_NEW_PRIVS

_libc = ctypes.CDLL(None)


def dropAll() -> None:
    """
    Leave the calling thread none, nor any that a program which it starts would inherit: without
    inheritable ones the kernel clears the ambient ones (capabilities(7)).  A program's file gives
    it none either: they would count in the user namespace, which the cell's network belongs to.

    @raise OSError: the kernel refuses.
    """
    if _libc.prctl(_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        raise OSError("prctl(2) failed")
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError("capset(2) failed")

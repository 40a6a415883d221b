"""
A program: C{filtered.py COMMAND ...} runs a command that may not call unshare(2), by a filter of
seccomp(2) such as containers have.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

#: The number of unshare(2).
UNSHARE = {"x86_64": 272, "aarch64": 97}

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_FILTER = 2
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001


def main() -> None:
    """Install the filter, and become the command."""
    code = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (_LOAD_WORD, 0, 0, 0),
            (_JUMP_EQUAL, 0, 1, UNSHARE[platform.machine()]),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    steps = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", 4, ctypes.addressof(steps))
    prctl = ctypes.CDLL(None).prctl
    zero = ctypes.c_ulong(0)
    assert prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) == 0
    assert prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), program, zero, zero) == 0
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

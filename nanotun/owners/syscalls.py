"""
System calls that Python has no functions for: pidfd_getfd(2).

ctypes is used because the C library has such functions only since glibc 2.36.
"""

from __future__ import annotations

import ctypes
import os
import socket

#: The same number on every machine (syscalls(2)).
_PIDFD_GETFD = 438


def takeDescriptor(pid: int, descriptor: int) -> socket.socket:
    """
    A descriptor of our own for a socket that another process has open.  It is the same
    socket: options that are set on it are set for the other process as well.  Close it soon,
    because it keeps the socket open.

    @raise OSError: there is no such process or descriptor, it is no socket, or the kernel
        does not allow it (pidfd_getfd(2); needs CAP_SYS_PTRACE).
    """
    process = os.pidfd_open(pid)
    try:
        taken = _call(_PIDFD_GETFD, process, descriptor, 0)
    finally:
        os.close(process)
    try:
        return socket.socket(fileno=taken)
    except OSError:
        os.close(taken)
        raise


def _call(number: int, *arguments: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(*(ctypes.c_long(each) for each in (number, *arguments))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

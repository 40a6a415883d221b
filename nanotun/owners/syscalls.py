"""
System calls that Python has no functions for: bpf(2), fsopen(2) and pidfd_getfd(2).

ctypes is used because the C library has such functions only since glibc 2.36, and none for
bpf(2), whose Python packages need a compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import socket
import struct
import sys

from nanotun.linux.cgroups import cgroupMount

#: The numbers of bpf(2), which are not the same everywhere, by machine.
_BPF = {"x86_64": 321, "aarch64": 280}

#: All newer system calls have one number on every machine (syscalls(2)).
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_PIDFD_GETFD = 438

#: linux/mount.h.
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6

#: linux/bpf.h: commands, and what they are given.
_BPF_MAP_CREATE = 0
_BPF_PROG_LOAD = 5
_BPF_LINK_CREATE = 28
_BPF_MAP_TYPE_ARRAY = 2
_BPF_F_MMAPABLE = 1 << 10
_BPF_PROG_TYPE_CGROUP_SOCK = 9
_BPF_CGROUP_INET_SOCK_CREATE = 2

#: Programs of other licences may not call every function of the kernel; ours is
#: compatible with this one.
_LICENCE = b"GPL\0"

#: The bytes of an instruction.
_INSTRUCTION = 8

#: The length that is given for every command's attributes; the kernel wants what it does
#: not know to be 0.
_ATTRIBUTES = 128


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


class LinuxBpf:
    """See L{nanotun.owners.recorder.BpfCalls}."""

    def root(self) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.root}."""
        mount = cgroupMount()
        if mount:
            return os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Mounted nowhere that we can see, as below C{ip netns exec}: a mount that only this
        # descriptor knows.
        name = ctypes.create_string_buffer(b"cgroup2")
        filesystem = _call(_FSOPEN, ctypes.addressof(name), _FSOPEN_CLOEXEC)
        try:
            _call(_FSCONFIG, filesystem, _FSCONFIG_CMD_CREATE, 0, 0, 0)
            return _call(_FSMOUNT, filesystem, _FSMOUNT_CLOEXEC, 0)
        finally:
            os.close(filesystem)

    def makeArray(self, size: int, count: int) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.makeArray}."""
        key = 4
        attributes = struct.pack("=5I", _BPF_MAP_TYPE_ARRAY, key, size, count, _BPF_F_MMAPABLE)
        try:
            return _bpf(_BPF_MAP_CREATE, attributes)
        except PermissionError:
            # Perhaps because Linux before 5.11 counts it as locked memory, of which even root
            # has 64 KiB outside of a unit.
            _allowLocked(2 * size * count)
            return _bpf(_BPF_MAP_CREATE, attributes)

    def mapArray(self, array: int, length: int) -> mmap.mmap:
        """See L{nanotun.owners.recorder.BpfCalls.mapArray}."""
        return mmap.mmap(array, length, mmap.MAP_SHARED, mmap.PROT_READ)

    def load(self, program: bytes) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.load}."""
        code = ctypes.create_string_buffer(program, len(program))
        licence = ctypes.create_string_buffer(_LICENCE)
        attributes = struct.pack(
            "=IIQQIIQII16sII",
            _BPF_PROG_TYPE_CGROUP_SOCK,
            len(program) // _INSTRUCTION,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            *(0, 0, 0),  # No log.
            *(0, 0),  # Any version of the kernel, no flags.
            b"nanotun",
            0,  # No network device.
            _BPF_CGROUP_INET_SOCK_CREATE,
        )
        return _bpf(_BPF_PROG_LOAD, attributes)

    def attach(self, program: int, group: int) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.attach}."""
        attributes = struct.pack("=4I", program, group, _BPF_CGROUP_INET_SOCK_CREATE, 0)
        return _bpf(_BPF_LINK_CREATE, attributes)


def _allowLocked(more: int) -> None:
    """Let this process lock so many bytes more than now, if it may."""
    with contextlib.suppress(OSError, ValueError):
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if resource.RLIM_INFINITY not in limits:
            soft, hard = limits
            raised = soft + more
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (raised, max(raised, hard)))


def _bpf(command: int, attributes: bytes) -> int:
    """
    Call bpf(2).

    @return: a new descriptor, which is closed on exec.
    @raise OSError: the kernel refuses; ENOSYS if the number of the call is not known here.
    """
    number = _BPF.get(platform.machine())
    # A Python of 32 bits has other numbers, though the machine has the same name.
    if number is None or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    given = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    return _call(number, command, ctypes.addressof(given), _ATTRIBUTES)


def _call(number: int, *arguments: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(*(ctypes.c_long(each) for each in (number, *arguments))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

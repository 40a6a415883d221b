"""Tests for L{nanotun.owners.syscalls}, with a kernel that refuses."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from nanotun.owners import syscalls
from nanotun.owners.syscalls import LinuxBpf

MEBIBYTE = 1 << 20


class LockedMemoryTests(SynchronousTestCase):
    """Where an array is counted as locked memory."""

    def setUp(self) -> None:
        """A kernel before Linux 5.11."""
        self.limits = (1 << 16, 1 << 16)
        self.patch(syscalls, "_bpf", self.bpf)
        self.patch(resource, "getrlimit", lambda kind: self.limits)
        self.patch(resource, "setrlimit", self.setLimits)
        self.mayRaise = True

    def setLimits(self, kind: int, limits: tuple[int, int]) -> None:
        """As root, or not."""
        self.assertEqual(kind, resource.RLIMIT_MEMLOCK)
        if not self.mayRaise:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits

    def bpf(self, command: int, attributes: bytes) -> int:
        """Refuse what is more than may be locked."""
        if self.limits[0] < MEBIBYTE:
            raise PermissionError(1, "Operation not permitted")
        return 77

    def test_raised(self) -> None:
        """The limit, which even root has in a terminal, is raised by what the array needs."""
        self.assertEqual(LinuxBpf().makeArray(32, MEBIBYTE // 32), 77)
        soft, hard = self.limits
        self.assertLess(soft, 3 * MEBIBYTE)
        self.assertEqual(soft, hard)

    def test_refused(self) -> None:
        """If that may not be, the kernel's refusal is what is reported."""
        self.mayRaise = False
        self.assertRaises(PermissionError, LinuxBpf().makeArray, 32, MEBIBYTE // 32)

    def test_unlimited(self) -> None:
        """A refusal for another reason changes no limit."""
        self.limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertRaises(PermissionError, LinuxBpf().makeArray, 32, MEBIBYTE // 32)
        self.assertEqual(set(self.limits), {resource.RLIM_INFINITY})

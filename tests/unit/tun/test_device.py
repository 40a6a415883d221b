"""
Tests for L{nanotun.tun.device}, with system calls of Python.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.daemon.privileges import LinuxKernel
from nanotun.errors import DeviceError, EngineError
from nanotun.interfaces import ITunDevice, ITunOpener
from nanotun.tun import device as module
from nanotun.tun import system as tun
from nanotun.tun.device import (
    DATAGRAM_OFFLOADS,
    OFFLOADS,
    VNET_HEADER,
    LinuxTun,
    LinuxTunOpener,
    hasNetAdmin,
)


class FakeSystem:
    """
    Stands for L{tun.LinuxTunSystem}.

    @ivar failures: call name to errno.
    @ivar openFDs: what was opened and not closed.
    @ivar knownOffloads: flags that this kernel knows.
    @ivar attached: name and flags of each device made.
    """

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.openFDs: set[int] = set()
        self.attached: list[tuple[str, int]] = []
        self.offloads: list[int] = []
        self.knownOffloads = ~0
        self._next = 100

    def _call(self, name: str) -> None:
        if name in self.failures:
            error = self.failures[name]
            raise OSError(error, os.strerror(error))

    def open(self) -> int:
        """A number."""
        self._call("open")
        self._next += 1
        self.openFDs.add(self._next)
        return self._next

    def attach(self, fd: int, name: str, flags: int) -> str:
        """Note it."""
        self._call("attach")
        self.attached.append((name, flags))
        return name

    def index(self, name: str) -> int:
        """Another one for each device."""
        self._call("index")
        return 40 + len(self.attached)

    def setOffload(self, fd: int, flags: int) -> None:
        """Note it."""
        self._call("setOffload")
        if flags & ~self.knownOffloads:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.offloads.append(flags)

    def close(self, fd: int) -> None:
        """Forget the number; twice is an error."""
        self.openFDs.remove(fd)


class FakeLinks:
    """A fake of L{nanotun.tun.links.NetlinkLinks}."""

    def __init__(self) -> None:
        self.configured: list[tuple[str, int]] = []
        self.failure: Exception | None = None

    def configure(self, name: str, mtu: int) -> None:
        """Note it."""
        if self.failure is not None:
            raise self.failure
        self.configured.append((name, mtu))


class DeviceTests(SynchronousTestCase):
    """
    Tests for L{LinuxTunOpener} and L{LinuxTun}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.system = FakeSystem()
        self.links = FakeLinks()
        self.works: bool | Exception = True
        self.probed: list[ITunDevice] = []
        self.opener = LinuxTunOpener(self.probe, self.system, self.links)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def probe(self, device: ITunDevice) -> bool:
        """Answer with C{self.works}."""
        self.probed.append(device)
        if isinstance(self.works, Exception):
            raise self.works
        return self.works

    def fails(self, offload: str = "auto", name: str = "nano0") -> str:
        """The text of the L{DeviceError}; no fd may be left open."""
        error = self.assertRaises(DeviceError, self.opener.open, name, 1500, offload)
        self.assertEqual(self.system.openFDs, set())
        return str(error)

    def test_interfaces(self) -> None:
        """
        They provide their interfaces.
        """
        verifyClass(ITunOpener, LinuxTunOpener)
        verifyObject(ITunOpener, self.opener)
        verifyClass(ITunDevice, LinuxTun)
        verifyObject(ITunDevice, self.opener.open("nano0", 1500, "off"))

    def test_plain(self) -> None:
        """
        Without offload a packet has no header in front of it.
        """
        device = self.opener.open("nano0", 1400, "off")
        self.assertEqual((device.name, device.mtu, device.vnetHeader), ("nano0", 1400, 0))
        self.assertEqual(
            self.system.attached, [("nano0", tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_TUN_EXCL)]
        )
        self.assertEqual(self.system.offloads, [])
        self.assertEqual(self.links.configured, [("nano0", 1400)])
        self.assertEqual(self.probed, [])

    def test_offload(self) -> None:
        """
        With offload it has a virtio-net header, and the device is tried once.
        """
        device = self.opener.open("nano0", 1500, "auto")
        self.assertEqual(device.vnetHeader, VNET_HEADER)
        self.assertTrue(self.system.attached[0][1] & tun.IFF_VNET_HDR)
        self.assertEqual(self.system.offloads, [OFFLOADS | DATAGRAM_OFFLOADS])
        self.assertEqual(self.probed, [device])
        self.assertEqual(self.system.openFDs, {device.fileno()})

    def test_oldKernel(self) -> None:
        """
        A kernel that cannot join datagrams still joins the segments of TCP, without
        a word.
        """
        self.system.knownOffloads = OFFLOADS
        for offload in ("auto", "on"):
            device = self.opener.open("nano0", 1500, offload)
            self.assertEqual(device.vnetHeader, VNET_HEADER)
            device.close()
        self.assertEqual(self.system.offloads, [OFFLOADS, OFFLOADS])
        self.assertEqual(self.events, [])

    def test_forced(self) -> None:
        """
        C{on} uses offload without a probe.
        """
        self.works = False
        self.assertEqual(self.opener.open("nano0", 1500, "on").vnetHeader, VNET_HEADER)
        self.assertEqual(self.probed, [])

    def falls(self) -> str:
        """A device without offload, with one line in the log; returns the reason."""
        device = self.opener.open("nano0", 1500, "auto")
        self.assertEqual(device.vnetHeader, 0)
        self.assertEqual(self.system.openFDs, {device.fileno()})
        lines = [event for event in self.events if "without segmentation" in event["log_format"]]
        self.assertEqual(len(lines), 1)
        return str(lines[0]["why"])

    def test_offloadBroken(self) -> None:
        """
        A kernel whose offload does not work is noticed.
        """
        probe = self.probe
        # Without offload the same trial succeeds.
        self.opener._probe = lambda device: probe(device) and not device.vnetHeader
        self.assertIn("with it this kernel loses or damages packets", self.falls())

    def test_streamStopped(self) -> None:
        """
        If no stream comes through without offload either, offload is not blamed.
        """
        self.works = False
        said = self.falls()
        self.assertIn("no stream came through nano0, not even without it", said)
        self.assertNotIn("kernel", said)

    def test_controlFails(self) -> None:
        """
        If the trial without offload cannot be made, nobody is told that its stream was lost.
        """
        probe = self.probe

        def failing(device: ITunDevice) -> bool:
            probe(device)
            if not device.vnetHeader:
                raise OSError(errno.EMFILE, "x")
            return False

        self.opener._probe = failing
        self.assertIn("the trial failed (Too many open files)", self.falls())

    def test_probeFails(self) -> None:
        """
        If the probe fails, the device runs without offload.
        """
        self.works = OSError(errno.EINVAL, "bad")
        self.falls()

    def test_probeImpossible(self) -> None:
        """
        Without a library for the probe the start fails and leaves no device.
        """
        self.works = EngineError("not built")
        self.assertRaises(EngineError, self.opener.open, "nano0", 1500, "auto")
        self.assertEqual(self.system.openFDs, set())

    def test_offloadUnknown(self) -> None:
        """
        An old kernel refuses the flags: an error for C{on} only.
        """
        self.system.failures["setOffload"] = errno.EINVAL
        self.assertIn("set offload to auto or off", self.fails("on"))
        self.falls()

    def test_sentences(self) -> None:
        """
        Each failure is one sentence that says what to do.
        """
        self.patch(module, "inContainer", lambda: False)
        for call, error, expected in (
            ("open", errno.ENOENT, "modprobe tun"),
            ("open", errno.EACCES, "run nanotun as root"),
            ("attach", errno.EPERM, "run nanotun as root"),
            ("attach", errno.EBUSY, "choose another tunName"),
            ("attach", errno.EINVAL, "15 letters"),
            ("attach", errno.ENOMEM, "Cannot allocate memory"),
        ):
            self.system.failures = {call: error}
            self.assertIn(expected, self.fails())

    def test_container(self) -> None:
        """In a container the sentence names the options that are missing, all of them at once."""
        device, admin = "--device /dev/net/tun", "--cap-add NET_ADMIN"
        self.patch(module, "inContainer", lambda: True)
        for call, error, may, expected in (
            ("open", errno.ENOENT, True, {device}),
            ("open", errno.EPERM, True, {device}),
            ("open", errno.ENOENT, False, {device, admin}),
            ("open", errno.EACCES, False, {device, admin}),
            ("attach", errno.EPERM, False, {admin}),
        ):
            self.patch(module, "hasNetAdmin", lambda may=may: may)
            self.system.failures = {call: error}
            sentence = self.fails()
            self.assertEqual({each for each in (device, admin) if each in sentence}, expected)

    def test_capability(self) -> None:
        """Whether this process may make devices is known."""
        self.assertEqual(hasNetAdmin(), LinuxKernel().permitted() >> 12 & 1 == 1)

    def test_longName(self) -> None:
        """
        A name that the kernel would shorten is refused.
        """
        self.assertIn("15 letters", self.fails(name="x" * 16))
        self.assertEqual(self.system.attached, [])

    def test_notConfigured(self) -> None:
        """
        A device that cannot be configured is not left behind.
        """
        self.links.failure = OSError(errno.EEXIST, "File exists")
        self.assertIn("cannot be configured (File exists)", self.fails())
        self.links.failure = ZeroDivisionError()
        self.assertRaises(ZeroDivisionError, self.opener.open, "nano0", 1500, "off")
        self.assertEqual(self.system.openFDs, set())

    def test_close(self) -> None:
        """
        Closing twice closes the fd once.
        """
        device = self.opener.open("nano0", 1500, "off")
        device.close()
        self.assertEqual(device.fileno(), -1)
        device.close()
        self.assertEqual(self.system.openFDs, set())

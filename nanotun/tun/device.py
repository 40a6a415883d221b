"""
Makes the TUN device.

With segmentation offload the kernel passes and accepts up to 64 KB of one TCP stream at a
time, with a virtio-net header in front; without it every packet is passed by itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, KERNEL4
from nanotun.errors import DeviceError
from nanotun.interfaces import ITunDevice, ITunOpener
from nanotun.linux.container import inContainer
from nanotun.tun import system as tun
from nanotun.tun.links import LinkConfigurer, NetlinkLinks

#: Bytes of struct virtio_net_hdr (OASIS virtio 1.2, section 5.1.6) on a TUN.
VNET_HEADER = 10

#: Without ECN: the stack does not speak it.
OFFLOADS = tun.TUN_F_CSUM | tun.TUN_F_TSO4 | tun.TUN_F_TSO6

_NET_ADMIN = 12  #: CAP_NET_ADMIN, of linux/capability.h.

#: Of newer kernels: many datagrams of one UDP flow at once.
DATAGRAM_OFFLOADS = tun.TUN_F_USO4 | tun.TUN_F_USO6


@implementer(ITunDevice)
class LinuxTun:
    """An open device; see L{LinuxTunOpener}."""

    def __init__(
        self, system: tun.TunSystem, fd: int, name: str, index: int, mtu: int, vnetHeader: int
    ) -> None:
        self.name = name
        self.index = index
        self.mtu = mtu
        self.vnetHeader = vnetHeader
        self._system = system
        self._fd = fd

    def fileno(self) -> int:
        """See L{ITunDevice.fileno}."""
        return self._fd

    def close(self) -> None:
        """See L{ITunDevice.close}."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._system.close(fd)


@implementer(ITunOpener)
class LinuxTunOpener:
    """
    Makes devices on Linux.

    @param probe: tests whether offload really works on a device that is up.  If it raises
        L{OSError}, offload does not work.
    """

    _log = Logger()

    def __init__(
        self,
        probe: Callable[[ITunDevice], bool],
        system: tun.TunSystem | None = None,
        links: LinkConfigurer | None = None,
    ) -> None:
        self._probe = probe
        self._system = tun.LinuxTunSystem() if system is None else system
        self._links = NetlinkLinks() if links is None else links

    def open(self, name: str, mtu: int, offload: str) -> ITunDevice:
        """See L{ITunOpener.open}."""
        if offload == "off":
            return self._open(name, mtu, False)
        try:
            device = self._open(name, mtu, True)
        except _OffloadRefused as error:
            if offload == "on":
                raise DeviceError(
                    f"the kernel refuses segmentation offload on {name} ({error}); "
                    "set offload to auto or off."
                ) from None
            return self._openPlain(name, mtu, f"the kernel refuses it ({error})")
        if offload == "on":
            return device
        trouble = self._tried(device)
        if trouble is None:
            return device
        device.close()
        return self._openPlain(name, mtu, trouble)

    def _tried(self, device: ITunDevice) -> str | None:
        """What is wrong with offload: L{None} if it works, empty if the stream was lost."""
        try:
            return None if self._probe(device) else ""
        except OSError as error:
            return f"the trial failed ({os.strerror(error.errno or 0)})"
        except BaseException:
            device.close()
            raise

    def _openPlain(self, name: str, mtu: int, why: str) -> ITunDevice:
        """
        Open it without offload, and log the reason.

        @param why: empty if the trial's stream was lost; another trial, without offload, tells
            whether offload is to blame.
        """
        device = self._open(name, mtu, False)
        control = why or self._tried(device)
        if control is None:
            why = "with it this kernel loses or damages packets"
        elif control:
            why = control
        else:
            kernel = KERNEL4.partition("/")[0]
            why = (
                f"no stream came through {name}, not even without it. Look for a firewall or a "
                f"routing rule that stops packets between {GATEWAY4} and {kernel}"
            )
        self._log.warn("{device} runs without segmentation offload: {why}.", device=name, why=why)
        return device

    def _open(self, name: str, mtu: int, offload: bool) -> LinuxTun:
        """
        Make a device; if that fails, nothing is left behind.

        @raise DeviceError: the device cannot be made.
        @raise _OffloadRefused: the kernel does not know the offload flags.
        """
        try:
            fd = self._system.open()
        except OSError as error:
            raise DeviceError(noNode(error) or _sentence(error, name)) from None
        try:
            flags = tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_TUN_EXCL
            # The kernel would shorten a long name, and choose a name itself for an empty
            # one or one with a %.
            if not 0 < len(os.fsencode(name)) <= tun.NAME_LIMIT or "%" in name:
                raise OSError(errno.EINVAL, "Invalid name")
            name = self._system.attach(fd, name, flags | (tun.IFF_VNET_HDR if offload else 0))
            if offload:
                self._setOffload(fd)
            self._configure(name, mtu)
            index = self._system.index(name)
        except OSError as error:
            self._system.close(fd)
            raise DeviceError(_sentence(error, name)) from None
        except BaseException:
            self._system.close(fd)
            raise
        return LinuxTun(self._system, fd, name, index, mtu, VNET_HEADER if offload else 0)

    def _setOffload(self, fd: int) -> None:
        try:
            try:
                self._system.setOffload(fd, OFFLOADS | DATAGRAM_OFFLOADS)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._system.setOffload(fd, OFFLOADS)
        except OSError as error:
            raise _OffloadRefused(error.strerror) from None

    def _configure(self, name: str, mtu: int) -> None:
        try:
            self._links.configure(name, mtu)
        except OSError as error:
            raise DeviceError(
                f"the device {name} cannot be configured ({error.strerror}); "
                "check that no other interface has its addresses."
            ) from None


class _OffloadRefused(Exception):
    """TUNSETOFFLOAD failed; the text is the kernel's error."""


#: How a container is given what a device needs.
DEVICE_OPTION = f"--device {tun.CLONE_DEVICE}"
ADMIN_OPTION = "--cap-add NET_ADMIN"


def noNode(error: OSError, contained: bool | None = None, admin: bool | None = None) -> str:
    """
    One sentence about the clone device, which cannot be opened; empty if that is not to blame.

    @param contained: whether this is a container; L{None} to find out.
    @param admin: whether this process has CAP_NET_ADMIN; likewise.
    """
    contained = inContainer() if contained is None else contained
    missing = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
    node = tun.CLONE_DEVICE
    if not contained:
        return f"there is no {node}; run `modprobe tun`." if missing else ""
    if not missing and error.errno not in (errno.EPERM, errno.EACCES):
        return ""
    admin = hasNetAdmin() if admin is None else admin
    what = f"the container has no {node}" if missing else f"the container may not use {node}"
    return (
        f"{what}{'' if admin else ' and no right to make devices'}; start it with "
        f"{DEVICE_OPTION}{'' if admin else f' and {ADMIN_OPTION}'}"
        f"{' (after `modprobe tun` on the machine)' if missing else ''}."
    )


def hasNetAdmin() -> bool:
    """Whether this process has CAP_NET_ADMIN."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
        found = [line.split()[1] for line in file if line.startswith("CapEff:")]
    return bool(int(found[0], 16) >> _NET_ADMIN & 1)


def _sentence(error: OSError, name: str) -> str:
    """One sentence that says why the device C{name} cannot be made."""
    if error.errno in (errno.EPERM, errno.EACCES) and inContainer():
        return (
            f"the container may not make the device {name}; start it with {ADMIN_OPTION} (in "
            "Kubernetes: securityContext.capabilities.add: [NET_ADMIN])."
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"the device {name} cannot be made without root; run nanotun as root."
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return f"an interface named {name} exists already; choose another tunName."
    if error.errno == errno.EINVAL:
        return (
            f"the kernel does not accept {name!r} as an interface's name; "
            "choose a tunName of at most 15 letters and digits."
        )
    return f"the device {name} cannot be made: {error.strerror}."

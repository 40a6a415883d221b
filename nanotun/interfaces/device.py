"""
The TUN device.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class ITunDevice(Interface):
    """
    An open TUN device.  Opened by an L{ITunOpener}, used by the engine and by
    L{nanotun.tun.port.TunPort}, and closed by the service when both have stopped.
    """

    name = Attribute("The interface's name (L{str}).")
    index = Attribute(
        "The interface's index in this process's network namespace (L{int}); "
        "0 if it is in another one."
    )
    mtu = Attribute("Bytes (L{int}).")
    vnetHeader = Attribute(
        "Bytes of virtio-net header before each packet on the fd: "
        "10 with segmentation offload, else 0."
    )

    def fileno() -> int:
        """The non-blocking fd that packets are read from and written to."""

    def close() -> None:
        """
        Close the device; the kernel removes it with its addresses and routes.  Called
        once, and nothing else is called afterwards.
        """


class ITunOpener(Interface):
    """Opens TUN devices.  Called once for each start, as root, after twistd has forked."""

    def open(name: str, mtu: int, offload: str) -> ITunDevice:
        """
        Create the device, give it its addresses and MTU and bring it up.

        @param offload: C{"auto"}, C{"on"} or C{"off"}.
        @raise nanotun.errors.DeviceError: with one sentence; no device is left behind.
        """

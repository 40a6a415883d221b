"""
The TUN device.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface


class ITunDevice(Interface):
    """
    An open TUN device.  Made by a L{ITunOpener}, used by the engine and by
    L{nanotun.tun.port.TunPort}, closed by the service after both let go.
    """

    name = Attribute("The interface's name (L{str}).")
    mtu = Attribute("Bytes (L{int}).")
    vnetHeader = Attribute(
        "Bytes of virtio-net header before each packet on the fd: "
        "10 with segmentation offload, else 0."
    )

    def fileno() -> int:
        """The non-blocking fd that packets are read from and written to."""

    def close() -> None:
        """
        Let the kernel remove the device, with its addresses and routes.  Called
        once, last; nothing may follow.
        """


class ITunOpener(Interface):
    """Makes devices.  The service calls it once, in the daemon, as root."""

    def open(name: str, mtu: int, offload: str) -> ITunDevice:
        """
        Create the device, give it its addresses and MTU and bring it up.

        @param offload: C{"auto"}, C{"on"} or C{"off"}.
        @raise nanotun.errors.DeviceError: with one sentence; nothing is left
            behind.
        """

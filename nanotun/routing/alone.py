"""
Sees whether another daemon runs with which this one cannot: one with a runDir of its own,
whose lock does not keep this one from starting.

All daemons have the same addresses inside their devices.  One that sends the machine's
traffic into its device also stops packets of these addresses on every other, and gets none
itself once another one does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from nanotun.addresses import KERNEL4
from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.linux.network import Address, addresses
from nanotun.routing.interfaces import IKernelRoutes

_HOST = KERNEL4.partition("/")[0]


@implementer(IPart)
class Alone:
    """
    Refuses the start beside another daemon, before anything is made.

    @param device: the name that ours will have.
    @param catches: whether we send the machine's traffic there.
    @param addresses: all addresses of this machine.
    """

    name = "the look for other daemons"

    def __init__(
        self,
        kernel: IKernelRoutes,
        device: str,
        catches: bool,
        addresses: Callable[[], Sequence[Address]] = addresses,
    ) -> None:
        self._kernel = kernel
        self._device = device
        self._catches = catches
        self._addresses = addresses

    def start(self) -> None:
        """
        See L{IPart.start}.

        @raise RoutingError: another daemon is in the way.
        """
        try:
            checkAlone(self._kernel, self._device)
        finally:
            self._kernel.close()
        if not self._catches:
            return
        try:
            found = [each.link for each in self._addresses() if each.host == _HOST]
        except OSError as error:
            raise RoutingError(
                f"The kernel does not list its addresses: {error.strerror}."
            ) from None
        others = [each for each in found if each not in ("", self._device)]
        if others:
            raise RoutingError(
                f"Another nanotun has the device {others[0]}, which would get no packets any more; "
                "stop that one, or start this one with --no-auto-route."
            )

    def stop(self) -> None:
        """See L{IPart.stop}.  There is nothing to undo."""


def checkAlone(kernel: IKernelRoutes, device: str) -> None:
    """
    See that no other daemon has set its routes.  Its rules look the same as ours; they would
    be taken for what a crash left, and undone if our start fails.

    @param device: ours.
    @raise RoutingError: there is another daemon; nothing was touched.
    """
    try:
        # A route is removed with its device, and the device with its daemon.
        others = [each.device for each in kernel.routes() if each.device != device]
    except OSError as error:
        raise RoutingError(f"The kernel does not list its routes: {error.strerror}.") from None
    if others:
        raise RoutingError(
            f"Another nanotun sends this machine's traffic into its device {others[0]}, and no "
            "second one can run beside it; stop that one first. 'nanotun run' works beside it."
        )

"""
Whether another daemon has set its routes: one with a runDir of its own, whose lock does
not keep us from starting.
"""

from __future__ import annotations

from nanotun.errors import RoutingError
from nanotun.routing.applied import Ledger
from nanotun.routing.changes import RouteChange
from nanotun.routing.interfaces import IKernelRoutes


def checkAlone(kernel: IKernelRoutes, ledger: Ledger, device: str) -> None:
    """
    See that there is none: its rules are the same as ours, and would be taken for what a
    crash left, and undone if our start fails.

    @param ledger: loaded; what is in it is our own.
    @param device: ours.
    @raise RoutingError: there is one; nothing was touched, and the kernel is let go of.
    """
    ours = [change.route for change in ledger.made if isinstance(change, RouteChange)]
    try:
        # A route goes with its device, and that with its daemon.
        there = [route.device for route in kernel.routes() if route not in ours]
    except OSError as error:
        kernel.close()
        raise RoutingError(f"The kernel does not list its routes: {error.strerror}.") from None
    others = [each for each in there if each != device]
    if others:
        kernel.close()
        raise RoutingError(
            f"Another nanotun has its routes set, through {others[0]}, and only one can: stop "
            "that one, or start this one with --no-auto-route."
        )

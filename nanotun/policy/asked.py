"""
A flow as the user's script sees it.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun import script
from nanotun.flow import Flow, Owner, Protocol

PROTOCOLS = {Protocol.TCP: "tcp", Protocol.UDP: "udp"}


def scriptFlow(
    flow: Flow,
    name: str | None,
    fake: bool,
    local: bool,
    owner: Owner | None,
    looked: bool,
    nameOf: Callable[[int], str],
) -> script.Flow:
    """
    Tell a script about a flow.

    @param name: that the destination is known by; empty or L{None} for none.
    @param fake: whether the destination's address is a fake one, which says nothing.
    @param local: whether it is this machine's own.
    @param owner: of the flow, if it was found.
    @param looked: whether it was looked for.  If not, the script's L{script.Flow.process} raises.
    @param nameOf: a user's name.
    """
    found = None
    if owner is not None:
        pid, uid = owner.pid, owner.uid
        found = script.Process(pid, uid, nameOf(uid), owner.name, owner.path, owner.cgroup)
    source, destination = flow.source, flow.destination
    return script.Flow(
        name or None,
        destination.port,
        protocol=PROTOCOLS[flow.protocol],
        address=None if fake else destination.host,
        # Another machine's flow has no process here, which needs no look-up.
        process=found if looked or not local else script.NOT_LOOKED_UP,
        source=source.host,
        sourcePort=source.port,
        local=local,
        id=flow.id,
    )

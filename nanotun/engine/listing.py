"""
Lists the flows of a stack in the native library.

Of 10,000 flows each step here runs 10,000 times, in the reactor's thread.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop

from nanotun.engine import abi
from nanotun.flow import Endpoint, Flow, FlowState, ListedFlow, Protocol

#: By their numbers, which is faster than to call the enumerations.
_STATES = {int(each): each for each in FlowState}
_PROTOCOLS = {int(each): each for each in Protocol}


class _Hosts(dict[bytes, str]):
    """The text of each packed address of a family; in a listing most come again."""

    def __init__(self, family: int, size: int) -> None:
        super().__init__()
        self._family = family
        self._size = size

    def __missing__(self, packed: bytes) -> str:
        """Make it."""
        host = self[packed] = inet_ntop(self._family, packed[: self._size])
        return host


def listed(library: abi.NativeLibrary, handle: int, after: int, limit: int) -> list[ListedFlow]:
    """
    See L{nanotun.interfaces.IPacketEngine.listFlows}.

    @raise OSError: there is no such stack.
    """
    array = (abi.ns_flow * limit)()
    count = abi.check(library.ns_flows(handle, after, array, limit), "ns_flows")
    four, six = _Hosts(AF_INET, 4), _Hosts(AF_INET6, 16)
    view = memoryview(array).cast("B")[: count * abi.FLOW.size]
    flows: list[ListedFlow] = []
    new = tuple.__new__
    for (
        flowID, note, bytesUp, bytesDown, age, idle, state,
        sourcePort, destinationPort, family, protocol, source, destination,
    ) in abi.FLOW.iter_unpack(view):  # fmt: skip
        hosts = four if family == 4 else six
        # Fields by position: to call a named tuple takes more than twice as long.
        here = new(Endpoint, (hosts[source], sourcePort))
        there = new(Endpoint, (hosts[destination], destinationPort))
        flow = new(Flow, (flowID, _PROTOCOLS[protocol], here, there))
        fields = flow, _STATES[state], age / 1e6, idle / 1e6, note, bytesUp, bytesDown
        flows.append(new(ListedFlow, fields))
    return flows

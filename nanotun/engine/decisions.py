"""
What goes down to the native library once it runs: decisions, associations and
what our services listen on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton

from nanotun.engine import abi
from nanotun.errors import FlowLimitError
from nanotun.flow import Endpoint, Protocol, Refusal
from nanotun.interfaces import DatagramLeg

#: Joined flows.  Each holds an fd and, idle, some 6 KB; one address has
#: no more than 64,512 ports towards one proxy anyway.
FLOW_LIMIT = 65536

#: Associations.  One by way of a SOCKS5 proxy holds two fds here and more there;
#: one more than these costs whoever was silent for longest its outside port.
ASSOCIATION_LIMIT = 4096


class Decisions:
    """
    The half of an engine that says what shall be.  All of it is harmless before
    the start and after the stop.

    @ivar flowLimit: how many flows may be joined; read at the start.
    @ivar associationLimit: how many associations there may be; likewise.
    """

    def __init__(self) -> None:
        self.flowLimit = FLOW_LIMIT
        self.associationLimit = ASSOCIATION_LIMIT
        self._library: abi.NativeLibrary | None = None
        self._handle = 0
        self._ended: dict[int, Callable[[int], None]] = {}

    # For FlowRequest and DatagramFlowRequest.

    def joinFlow(self, flowID: int, fd: int, leftover: bytes) -> bool:
        """See L{nanotun.interfaces.IFlowRequest.join}."""
        library = self._library
        if library is None:
            os.close(fd)
            return False
        result = library.ns_join(self._handle, flowID, fd, leftover, len(leftover))
        if result == -errno.ENOENT:
            return False
        if result == -errno.EMFILE:
            raise FlowLimitError(self.flowLimit)
        abi.check(result, "ns_join")
        return True

    def attachFlow(self, flowID: int, association: int, real: Endpoint | None = None) -> bool:
        """See L{nanotun.interfaces.IDatagramFlowRequest.attach}."""
        library = self._library
        if library is None:
            return True
        to = None if real is None else _destination(real)
        result = library.ns_attach(self._handle, flowID, association, to)
        if result in (-errno.EBADF, -errno.EEXIST):
            return False
        # A flow that waits no more needs no other association.
        self._settle(result, "ns_attach")
        return True

    def serveFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IDatagramFlowRequest.serve}."""
        if self._library is not None:
            self._settle(self._library.ns_serve(self._handle, flowID), "ns_serve")

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """See L{nanotun.interfaces.IFlowRequest.refuse}."""
        if self._library is not None:
            self._settle(self._library.ns_refuse(self._handle, flowID, reason), "ns_refuse")

    def dropFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.drop}."""
        if self._library is not None:
            self._settle(self._library.ns_drop(self._handle, flowID), "ns_drop")

    # See IPacketEngine.

    def openAssociation(
        self, leg: DatagramLeg, ended: Callable[[int], None], shared: bool = False
    ) -> int:
        """See L{nanotun.interfaces.IPacketEngine.openAssociation}."""
        library = self._library
        if library is None:
            os.close(leg.fd)
            raise OSError(errno.ESHUTDOWN, "the packet engine does not run")
        flags = abi.NS_LEG_SHARED if shared else 0
        result = library.ns_associate(self._handle, leg.fd, leg.kind, flags)
        association = abi.check(result, "ns_associate")
        self._ended[association] = ended
        return association

    def closeAssociation(self, association: int) -> None:
        """See L{nanotun.interfaces.IPacketEngine.closeAssociation}."""
        if self._ended.pop(association, None) is not None and self._library is not None:
            abi.check(self._library.ns_dissociate(self._handle, association), "ns_dissociate")

    def listen(self, protocol: Protocol, port: int) -> None:
        """See L{nanotun.interfaces.IPacketEngine.listen}."""
        if self._library is not None:
            abi.check(self._library.ns_listen(self._handle, protocol, port), "ns_listen")

    def _settle(self, result: int, call: str) -> None:
        # No such flow: the app gave up, and the event that says so is under way.
        if result != -errno.ENOENT:
            abi.check(result, call)


def _destination(real: Endpoint) -> abi.ns_datagram:
    """What C{ns_attach} is told of an address."""
    six = ":" in real.host
    packed = inet_pton(AF_INET6 if six else AF_INET, real.host).ljust(16, b"\0")
    header = abi.DATAGRAM.pack(0, 0, real.port, 6 if six else 4, bytes(16), packed)
    return abi.ns_datagram.from_buffer_copy(header)

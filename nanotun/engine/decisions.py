"""
Carries out the router's decisions about the flows that wait in the native library.
"""

from __future__ import annotations

import ctypes
import errno
import os

from twisted.internet.defer import Deferred, succeed

from nanotun.engine import abi
from nanotun.engine.dials import Dials
from nanotun.errors import FlowLimitError
from nanotun.flow import AbsoluteForm, Endpoint, Refusal
from nanotun.policy.hello import nameIn

#: The room that C{ns_name} needs.
_NAME_SIZE = 255


class Decisions:
    """
    The decisions about the flows of one stack.  After L{close} they do nothing, because a
    request may outlive its stack.

    @ivar dials: those that the stack makes by itself; closed with this.
    @ivar flowLimit: how many flows the stack joins, for the error that says so.
    """

    __slots__ = ("_handle", "_library", "_sniffs", "dials", "flowLimit")

    def __init__(self, library: abi.NativeLibrary, handle: int, flowLimit: int) -> None:
        self._library: abi.NativeLibrary | None = library
        self._handle = handle
        self.flowLimit = flowLimit
        self.dials = Dials(library, handle)
        # By a flow's id: fires with its name.
        self._sniffs: dict[int, Deferred[str]] = {}

    def close(self) -> None:
        """The stack is about to be closed."""
        self._library = None
        self.dials.close()

    def joinFlow(
        self, flowID: int, fd: int, leftover: bytes, form: AbsoluteForm | None, note: int
    ) -> bool:
        """See L{nanotun.interfaces.IFlowRequest.join}."""
        library = self._library
        if library is None:
            os.close(fd)
            return False
        self.dials.requests.pop(flowID, None)
        authority = authorization = None
        if form is not None:
            authority, authorization = form.authority.encode("ascii"), form.authorization
        result = library.ns_join(
            self._handle, flowID, fd, leftover, len(leftover), authority, authorization, note
        )
        if result == -errno.ENOENT:
            return False
        if result == -errno.EMFILE:
            raise FlowLimitError(self.flowLimit)
        abi.check(result, "ns_join")
        return True

    def sniffFlow(self, flowID: int) -> Deferred[str]:
        """See L{nanotun.interfaces.IFlowRequest.sniff}."""
        library = self._library
        if library is None:
            return succeed("")
        result = library.ns_sniff(self._handle, flowID)
        if result == 1:
            return succeed(self._nameOf(flowID))
        if result in (-errno.ENOENT, -errno.EMFILE):
            return succeed("")
        abi.check(result, "ns_sniff")
        name: Deferred[str] = Deferred(lambda _: self._forgetSniff(flowID))
        self._sniffs[flowID] = name
        return name

    def _forgetSniff(self, flowID: int) -> None:
        self._sniffs.pop(flowID, None)

    def flowSniffed(self, flowID: int) -> None:
        """The name of a flow, which L{sniffFlow} was called for, is there."""
        name = self._sniffs.pop(flowID, None)
        if name is not None:
            name.callback(self._nameOf(flowID))

    def _nameOf(self, flowID: int) -> str:
        assert self._library is not None
        buffer, outer = abi.byteBuffer(_NAME_SIZE), ctypes.c_uint32()
        length = self._library.ns_name(self._handle, flowID, buffer, ctypes.byref(outer))
        return nameIn(buffer.raw[: max(length, 0)], bool(outer.value))

    def attachFlow(self, flowID: int, association: int, real: Endpoint | None, note: int) -> bool:
        """See L{nanotun.interfaces.IDatagramFlowRequest.attach}."""
        library = self._library
        if library is None:
            return True
        to = None if real is None else abi.destinationOf(real)
        result = library.ns_attach(self._handle, flowID, association, to, note)
        if result in (-errno.EBADF, -errno.EEXIST):
            return False
        # A flow that no longer waits needs no other association.
        _settle(result, "ns_attach")
        return True

    def serveFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IDatagramFlowRequest.serve}."""
        if self._library is not None:
            _settle(self._library.ns_serve(self._handle, flowID), "ns_serve")

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """See L{nanotun.interfaces.IFlowRequest.refuse}."""
        if self._library is not None:
            self.dials.requests.pop(flowID, None)
            _settle(self._library.ns_refuse(self._handle, flowID, reason), "ns_refuse")

    def dropFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.drop}."""
        if self._library is not None:
            self.dials.requests.pop(flowID, None)
            _settle(self._library.ns_drop(self._handle, flowID), "ns_drop")


def _settle(result: int, call: str) -> None:
    # No such flow: the app gave up, and the event that says so has yet to be read.
    if result != -errno.ENOENT:
        abi.check(result, call)

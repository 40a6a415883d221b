"""
Has the native library dial by plans, for one flow or for all flows to a destination.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
from typing import TYPE_CHECKING

from nanotun.engine import abi
from nanotun.engine.courses import CourseNumbers
from nanotun.flow import Endpoint
from nanotun.interfaces import DialEnd, DialEndKind, DialPlan, IFlowHandler

if TYPE_CHECKING:
    from nanotun.engine.request import FlowRequest

#: Bytes: what the library keeps at most of the other side's part of a handshake.
RECEIVED_SIZE = 65536

#: Records of standing decisions read in one call.
STOOD_BATCH = 64

#: The longest that a standing decision may be valid in the library, in milliseconds; 49 days.
_LONGEST = 0xFFFFFFFF


class Dials:
    """
    The dials of one stack.  After L{close} all of this does nothing.

    @ivar requests: by a flow's id: the requests whose flows are being dialled.
    """

    __slots__ = (
        "_courses",
        "_end",
        "_handle",
        "_library",
        "_received",
        "_stood",
        "_stoodView",
        "requests",
    )

    def __init__(self, library: abi.NativeLibrary, handle: int) -> None:
        self.requests: dict[int, FlowRequest] = {}
        self._library: abi.NativeLibrary | None = library
        self._handle = handle
        self._courses = CourseNumbers(library, handle)
        self._end = abi.ns_dialled()
        self._received = abi.byteBuffer(RECEIVED_SIZE)
        self._stood = (abi.ns_stood * STOOD_BATCH)()
        self._stoodView = memoryview(self._stood).cast("B")

    def close(self) -> None:
        """The stack is about to be closed."""
        self._library = None
        self.requests.clear()

    def begin(self, request: FlowRequest, plan: DialPlan, note: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.dial}."""
        course, own, _, fd, first, _ = plan
        library = self._library
        if library is None:
            discard(fd)
            return
        flowID = request.flow.id
        try:
            number = self._courses.numberOf(course)
        except OSError:
            discard(fd)
            raise
        result = library.ns_dial(self._handle, flowID, number, fd, first, own, len(own), note)
        # No such flow: the app gave up, and the event that says so has yet to be read.
        if result != -errno.ENOENT:
            abi.check(result, "ns_dial")
            self.requests[flowID] = request

    def undo(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.undial}."""
        if self.requests.pop(flowID, None) is not None and self._library is not None:
            result = self._library.ns_undial(self._handle, flowID)
            if result != -errno.ENOENT:
                abi.check(result, "ns_undial")

    def endOf(self, flowID: int) -> DialEnd | None:
        """
        How a dial ended; to be asked once after C{NS_EVENT_DIAL_ENDED}.

        @return: L{None} if the flow is gone.
        """
        if self._library is None:
            return None
        raw, buffer = self._end, self._received
        result = self._library.ns_dialled(self._handle, flowID, raw, buffer, RECEIVED_SIZE)
        if result == -errno.ENOENT:
            return None
        abi.check(result, "ns_dialled")
        kind, error, step, address, fd, length, microseconds = abi.DIALLED.unpack(raw)
        step = -1 if step == abi.NS_DIAL_CONNECTING else step
        received = ctypes.string_at(buffer, length)
        seconds = microseconds / 1e6
        return DialEnd(DialEndKind(kind), error, step, address, fd, received, seconds)

    def stand(
        self, destination: Endpoint, ours: bool, plan: DialPlan, seconds: float, note: int
    ) -> int:
        """See L{nanotun.interfaces.IPacketEngine.stand}."""
        if self._library is None:
            return 0
        request = plan.request
        valid = 0 if math.isinf(seconds) else min(max(round(seconds * 1000), 1), _LONGEST)
        result = self._library.ns_stand(
            self._handle,
            abi.destinationOf(destination),
            ours,
            self._courses.numberOf(plan.course),
            request,
            len(request),
            valid,
            note,
        )
        return abi.check(result, "ns_stand")

    def withdraw(self) -> None:
        """See L{nanotun.interfaces.IPacketEngine.withdraw}."""
        if self._library is not None:
            abi.check(self._library.ns_withdraw(self._handle), "ns_withdraw")

    def tellStood(self, handler: IFlowHandler) -> None:
        """See L{nanotun.interfaces.IPacketEngine.tellStood}."""
        count = STOOD_BATCH
        while count == STOOD_BATCH and self._library is not None:
            count = self._library.ns_stood(self._handle, self._stood, STOOD_BATCH)
            abi.check(count, "ns_stood")
            # All are read before the first is told, because the handler may ask for more.
            records = list(abi.STOOD.iter_unpack(self._stoodView[: count * abi.STOOD.size]))
            for number, decided, joined, microseconds, abandoned, address, _ in records:
                seconds = microseconds / 1e6 / joined if joined else 0.0
                handler.stood(number, decided, joined, seconds, address, abandoned / 1e6)


def discard(fd: int) -> None:
    """Close what a plan brought with it."""
    if fd >= 0:
        os.close(fd)

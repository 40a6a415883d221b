"""Asks a person about each program and host that is new."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from nanotun.script import Flow

PERSON = 1000  # The user whose answers count: anybody could wait at that address.

known: dict[str, bool] = {}
oneAtATime = DeferredLock()


async def flow(flow: Flow) -> str | None:
    process = flow.process
    program = (process.path or process.user) if process else flow.source
    question = f"{program} wants {flow.host}"
    if question not in known:
        await oneAtATime.acquire()
        try:
            if question not in known:
                known[question] = await ask(question)
        finally:
            oneAtATime.release()
    return None if known[question] else "reject"


async def ask(question: str) -> bool:
    endpoint = UNIXClientEndpoint(reactor, "\0nanotun-ask")
    asking = await connectProtocol(endpoint, Asking())
    return await asking.put(question) == "y"


class Asking(LineOnlyReceiver):
    transport: Any
    delimiter = b"\n"
    answer: Deferred[str] | None = None

    def put(self, question: str) -> Deferred[str]:
        peer = self.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", peer)[1] != PERSON:
            self.transport.abortConnection()
            raise PermissionError("somebody else waits at nanotun-ask")
        self.answer = Deferred(lambda _: self.transport.abortConnection())
        self.sendLine(question.encode())
        return self.answer

    def lineReceived(self, line: bytes) -> None:
        if self.answer is not None and not self.answer.called:
            self.answer.callback(line.decode("utf-8", "replace"))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.answer is not None and not self.answer.called:
            self.answer.errback(reason)

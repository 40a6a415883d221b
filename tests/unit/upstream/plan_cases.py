"""
What the tests of dial plans share: the engine's part of them, in Python.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DialEnd, DialEndKind, DialPlan, IPlanned, Tail
from nanotun.timer import Timer
from nanotun.upstream.dial.sockets import openStream
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import DESTINATION, ReactorCase, Script, unmarkedContext

#: The heads that the engine takes.
HEAD = re.compile(rb"HTTP/1\.[01] 2\d\d( [ -~]*)?\r\n([!-9;-~]+:[ -~]*\r\n){0,100}\r\n")


def length(tail: Tail, answer: bytes) -> int:
    """How long an answer is; 0 for something else, -1 if more is needed to tell."""
    if tail is Tail.HTTP_HEAD:
        found = HEAD.match(answer)
        if found:
            return found.end()
        begun = answer.startswith(b"HTTP/1."[: len(answer)]) and b"\r\n\r\n" not in answer
        return -1 if begun and b"\n" not in answer.replace(b"\r\n", b"") else 0
    if tail is Tail.SOCKS_ADDRESS:
        if answer[3] == 3:
            size = 7 + answer[4] if len(answer) > 4 else 7
        else:
            size = {1: 10, 4: 22}.get(answer[3], 0)
        return size if len(answer) >= size else -1
    return len(answer)


class Engine(Protocol):
    """
    Carries out one plan, as the native library does.

    @ivar deferred: fires with the leg, or with a L{DialEnd} if that was not the good way.
    """

    def __init__(self, plan: DialPlan, reactor: Any) -> None:
        self.deferred: Deferred[Connection | DialEnd] = Deferred()
        self.plan = plan
        self._reactor = reactor
        self._began = reactor.seconds()
        self._step = plan.first
        self._received = self._answer = b""
        self._timer = Timer(reactor, self._expired)
        self._connecting = True

    def start(self) -> None:
        """Connect, or take the connection that waited."""
        plan = self.plan
        self._timer.start(plan.course.timeout)
        if plan.fd >= 0:
            self._over(socket.socket(fileno=plan.fd)).adopt()
            return
        (address,) = plan.course.addresses
        port = int.from_bytes(address[2:4], "big")
        try:
            self._over(openStream(socket.AF_INET, plan.course.mark)).connect(
                (socket.inet_ntop(socket.AF_INET, address[4:8]), port)
            )
        except OSError as error:
            self._failed(error.errno or 0)

    def _over(self, stream: socket.socket) -> HandshakeTransport:
        self._transport = HandshakeTransport(
            stream, self._reactor, self, lambda: None, self._failed
        )
        return self._transport

    def _failed(self, error: int) -> None:
        self._end(DialEndKind.FAILED, error)

    def _expired(self) -> None:
        self._transport.abortConnection()
        self._end(DialEndKind.EXPIRED)

    def _end(self, kind: DialEndKind, error: int = 0, fd: int = -1) -> None:
        self._timer.close()
        step = -1 if self._connecting else self._step
        seconds = self._reactor.seconds() - self._began
        self.deferred.callback(DialEnd(kind, error, step, 0, fd, self._received, seconds))

    def connectionMade(self) -> None:
        """Begin with the first step."""
        self._connecting = False
        self._enter()

    def _enter(self) -> None:
        """Send, up to the next answer."""
        steps, out = self.plan.course.steps, b""
        while self._step < len(steps):
            step = steps[self._step]
            out += step.send + (self.plan.request if step.own else b"")
            if step.value or step.tail:
                break
            self._step += 1
        if out:
            assert self.transport is not None
            self.transport.write(out)
        if self._step == len(steps):
            self._timer.close()
            self.deferred.callback(Connection(self._transport.detach(), self._answer))

    def dataReceived(self, data: bytes) -> None:
        """Compare it with what the steps say."""
        self._received += data
        self._answer += data
        while self._answer and self._step < len(self.plan.course.steps):
            step = self.plan.course.steps[self._step]
            answer = self._answer
            if any((a ^ v) & m for a, v, m in zip(answer, step.value, step.mask, strict=False)):
                self._hand()
                return
            if len(answer) < len(step.value):
                return
            size = len(step.value) if step.tail is Tail.NONE else length(step.tail, answer)
            if size < 0:
                return
            after = self.plan.course.steps[self._step + 1 :]
            if not size or (len(answer) > size and after and (after[0].send or after[0].own)):
                self._hand()
                return
            self._answer = answer[size:]
            self._step += 1
            self._enter()

    def _hand(self) -> None:
        self._end(DialEndKind.HANDED, fd=self._transport.detach())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is lost."""
        self._end(DialEndKind.LOST, 0 if reason.check(ConnectionDone) else 104)


#: An answer that resets the connection.
RESETS = b"reset"


class ClosingScript(Script):
    """A proxy that does not wait for more before it ends the connection."""

    def dataReceived(self, data: bytes) -> None:
        """Send the next answer, and the end that may follow."""
        if self.answers[:1] != [RESETS]:
            super().dataReceived(data)
        if self.answers[:1] == [b""]:
            self.transport.loseConnection()  # type: ignore[union-attr]
        elif self.answers[:1] == [RESETS]:
            self.transport.abortConnection()  # type: ignore[union-attr]


class SteppedReactor(Clock):
    """The real reactor's descriptors, and time that the test moves."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.addReader = reactor.addReader
        self.addWriter = reactor.addWriter
        self.removeReader = reactor.removeReader
        self.removeWriter = reactor.removeWriter


class PlanCase(ReactorCase):
    """
    Plans of proxies that follow scripts.

    @ivar clock: the time of the upstreams and of the engine.
    @ivar port: the one that L{each} listened on last.
    """

    def setUp(self) -> None:
        """Begin at no time."""
        super().setUp()
        self.port: Any = None
        self.clock = SteppedReactor(self.reactor)

    def each(self, *scripts: tuple[bytes, ...]) -> int:
        """
        Listen, with the next script of an L{ClosingScript} for each connection, the last again and
        again; returns the port.
        """
        left = list(scripts)

        def build(address: object) -> Script:
            script = ClosingScript(list(left.pop(0) if len(left) > 1 else left[0]))
            self.scripts.append(script)
            return script

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def makePlanned(
        self,
        text: str,
        timeout: float = 5.0,
        poolSize: int = 0,
        changed: Callable[[], None] = lambda: None,
    ) -> Any:
        """The upstream of a URL, whose sockets the engine may make."""
        context = unmarkedContext(self.clock, timeout)
        context = context._replace(mark=0, poolSize=poolSize, changed=changed)
        (upstream,) = upstreamsFor([parseProxyURL(text)], context)
        return upstream

    async def carryOut(self, upstream: Any, destination: Endpoint = DESTINATION) -> Any:
        """
        Have the engine dial, and the upstream go on if it cannot.

        @return: the leg, and the kind of the engine's end; L{None} if it has joined.
        """
        plan = IPlanned(upstream).plan(destination)
        assert plan is not None
        engine = Engine(plan, self.clock)
        engine.start()
        end = await engine.deferred
        if isinstance(end, Connection):
            plan.outcomes.opened(1, 0.01, 0)
            return end, None
        return await plan.outcomes.resume(end), end.kind

    async def told(self, dial: Any) -> tuple[Any, ...]:
        """What came of a dial, to compare with another one."""
        try:
            found = await dial
        except UpstreamError as error:
            return type(error), str(error), error.news, error.status
        connection = found[0] if type(found) is tuple else found
        assert isinstance(connection, Connection)
        os.close(connection.fd)
        return (connection.leftover,)

    async def expire(self, seconds: float) -> None:
        """Wait until the last proxy has said all, and move the time on."""
        await self.until(lambda: bool(self.scripts and self.scripts[-1].heard))
        await self.until(lambda: not self.scripts[-1].answers)
        # What is sent on this machine has arrived.
        for _ in range(4):
            await deferLater(self.reactor, 0, lambda: None)
        self.clock.advance(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run the reactor until the condition holds."""
        while not condition():
            await deferLater(self.reactor, 0, lambda: None)

    def sockets(self) -> set[str]:
        """Those of this process."""
        found = set()
        for each in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/self/fd/{each}"))
        return {each for each in found if each.startswith("socket:")}

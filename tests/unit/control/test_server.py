"""Tests of L{nanotun.control.server} and L{nanotun.control.messages}."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from nanotun.control.messages import (
    NO_RESPONSE,
    REQUEST_LIMIT,
    errorLine,
    readResponse,
    requestLine,
    resultLine,
)
from nanotun.control.server import (
    CONNECTION_LIMIT,
    IDLE_TIME,
    READ_TIME,
    REPLACED,
    ControlFactory,
    ControlSocket,
)
from nanotun.errors import RunningError
from nanotun.interfaces import IPart


class MessageTests(SynchronousTestCase):
    """L{readResponse}."""

    def test_result(self) -> None:
        """The response to a successful request is read as its result."""
        self.assertEqual(readResponse(resultLine({"a": [1, None]})), {"a": [1, None]})

    def test_error(self) -> None:
        """The response to a failed request raises its sentence."""
        error = self.assertRaises(RunningError, readResponse, errorLine("No."))
        self.assertEqual(str(error), "No.")

    def test_nonsense(self) -> None:
        """Anything that is not a response of this version raises an error of its own."""
        other = json.dumps({"version": 2, "ok": True, "result": 1}).encode()
        for line in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b"7", other):
            error = self.assertRaises(RunningError, readResponse, line)
            self.assertEqual(str(error), NO_RESPONSE)


class ProtocolTests(SynchronousTestCase):
    """L{ControlProtocol} and L{ControlFactory}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.uid = 0
        self.later: Deferred[Any] = Deferred()
        self.made: list[Any] = []
        self.factory = ControlFactory(
            {
                "status": lambda arguments: {"up": True},
                "later": lambda arguments: self.later,
                "echo": lambda arguments: arguments,
                "no": self.refuse,
                "bug": lambda arguments: 1 // 0,
                "odd": lambda arguments: object(),
            },
            frozenset({0, 1000}),
            lambda transport: self.uid,
        )

    def refuse(self, arguments: Any) -> None:
        """A handler that refuses."""
        raise RunningError("This is not possible now.")

    def connect(self) -> StringTransport:
        """Open a connection."""
        self.protocol = cast(Any, self.factory.buildProtocol(UNIXAddress(None)))
        self.protocol.callLater = self.clock.callLater
        self.made.append(self.protocol)
        transport = StringTransport()
        self.protocol.makeConnection(transport)
        return transport

    def said(self, transport: StringTransport) -> list[Any]:
        """The answers since the last call."""
        lines = transport.value().splitlines()
        transport.clear()
        return [json.loads(line) for line in lines]

    def tearDown(self) -> None:
        for protocol in self.made:
            protocol.setTimeout(None)

    def ask(self, line: bytes) -> Any:
        """The answer to one line on a new connection."""
        transport = self.connect()
        self.protocol.dataReceived(line + b"\n")
        (answer,) = self.said(transport)
        return answer

    def test_answer(self) -> None:
        """Successive requests on one connection are all answered."""
        transport = self.connect()
        for _ in range(2):
            for byte in requestLine("status") + b"\n":
                self.protocol.dataReceived(bytes([byte]))
            self.assertEqual(
                self.said(transport), [{"version": 1, "ok": True, "result": {"up": True}}]
            )

    def test_arguments(self) -> None:
        """A handler gets the request's arguments, which may be left out."""
        self.assertEqual(self.ask(requestLine("echo", {"a": ["ä"]}))["result"], {"a": ["ä"]})
        for line in (requestLine("echo"), b'{"version": 1, "request": "echo", "arguments": null}'):
            self.assertEqual(self.ask(line)["result"], {})

    def test_later(self) -> None:
        """The connection does not time out while an answer is being prepared."""
        transport = self.connect()
        self.protocol.dataReceived(requestLine("later") + b"\n")
        self.clock.advance(IDLE_TIME * 2)
        self.assertEqual(self.said(transport), [])
        self.assertFalse(transport.disconnecting)
        self.later.callback([1])
        self.assertEqual(self.said(transport)[0]["result"], [1])

    def test_laterGone(self) -> None:
        """An answer for a connection that has ended is dropped."""
        transport = self.connect()
        self.protocol.dataReceived(requestLine("later") + b"\n")
        self.protocol.connectionLost()
        self.later.callback([1])
        self.assertEqual(self.said(transport), [])

    def test_impatient(self) -> None:
        """A client that does not wait for its answer gets an error and is disconnected."""
        transport = self.connect()
        self.protocol.dataReceived((requestLine("later") + b"\n") * 2)
        self.assertIn("One request at a time", self.said(transport)[0]["error"])
        self.assertTrue(transport.disconnecting)

    def test_errors(self) -> None:
        """Every failure is answered with one sentence; an internal error is also logged."""
        for line, sentence in (
            (requestLine("no"), "This is not possible now."),
            (requestLine("x\x1b"), "The daemon knows no request 'x\\x1b'; it may be of another"),
            (b"hello", "This is no request."),
            (b"[]", "This is no request."),
            (b'{"version": 1, "request": "echo", "arguments": [1]}', "This is no request."),
            (b'{"version": 2, "request": "status"}', "The daemon speaks version 1"),
        ):
            answer = self.ask(line)
            self.assertIs(answer["ok"], False)
            self.assertIn(sentence, answer["error"])
        for name in ("bug", "odd"):
            answer = self.ask(requestLine(name))
            self.assertIn("because of an internal error; see its log", answer["error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, TypeError)), 2)

    def test_long(self) -> None:
        """A line that is too long ends the connection."""
        transport = self.connect()
        self.protocol.dataReceived(b"x" * (REQUEST_LIMIT + 2))
        self.assertTrue(transport.disconnecting)

    def test_idle(self) -> None:
        """A silent connection is closed after a while."""
        transport = self.connect()
        self.clock.advance(IDLE_TIME + 1)
        self.assertTrue(transport.disconnecting)

    def test_foreign(self) -> None:
        """Another user gets one sentence and no answer to any request."""
        self.uid = 1001
        transport = self.connect()
        self.protocol.dataReceived(requestLine("status") + b"\n")
        self.assertEqual(
            [each["error"] for each in self.said(transport)], ["Only root may ask the daemon."]
        )
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.factory.connections, {})

    def fill(self) -> tuple[list[Any], list[StringTransport]]:
        """Open as many connections as there may be."""
        protocols, transports = [], []
        for _ in range(CONNECTION_LIMIT):
            transports.append(self.connect())
            protocols.append(self.protocol)
        self.assertFalse(any(each.disconnecting for each in transports))
        return protocols, transports

    def test_many(self) -> None:
        """A connection too many takes the place of the one that was idle for longest."""
        protocols, transports = self.fill()
        for at in (0, 2):
            protocols[at].dataReceived(requestLine("status") + b"\n")
        protocols[1].dataReceived(requestLine("later") + b"\n")
        for at in (3, 4):
            new = self.connect()
            self.assertTrue(transports[at].disconnecting)
            self.assertEqual([each["error"] for each in self.said(transports[at])], [REPLACED])
            self.assertEqual(len(self.factory.connections), CONNECTION_LIMIT)
        self.protocol.dataReceived(requestLine("status") + b"\n")
        self.assertEqual(self.said(new)[0]["result"], {"up": True})
        self.assertEqual(sum(each.disconnecting for each in transports), 2)

    def test_answered(self) -> None:
        """A connection counts as used when its answer is sent, not only when it asks."""
        protocols, transports = self.fill()
        protocols[0].dataReceived(requestLine("later") + b"\n")
        for protocol in protocols[1:]:
            protocol.dataReceived(requestLine("status") + b"\n")
        self.later.callback(1)
        self.connect()
        self.assertEqual([each.disconnecting for each in transports[:2]], [False, True])

    def test_allWait(self) -> None:
        """If all of them wait for their answers, the one too many is refused."""
        protocols, _ = self.fill()
        for protocol in protocols:
            protocol.dataReceived(requestLine("later") + b"\n")
        transport = self.connect()
        self.assertIn("Too many ask", self.said(transport)[0]["error"])
        protocols[0].connectionLost()
        self.assertFalse(self.connect().disconnecting)

    def test_replacedUnread(self) -> None:
        """One that gave up its place and reads nothing is cut off."""
        _, transports = self.fill()
        self.connect()
        self.clock.advance(READ_TIME - 1)
        self.assertFalse(transports[0].disconnected)
        self.clock.advance(1)
        self.assertTrue(transports[0].disconnected)


class NoListening:
    """A reactor that cannot listen."""

    def listenUNIX(self, path: str, factory: object, mode: int) -> None:
        """Refuse."""
        raise CannotListenError(None, path, OSError(28, "No space left on device"))


class Client(LineOnlyReceiver):
    """A peer that waits for one answer and for the end of the connection."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.answered: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        """The answer."""
        self.answered.callback(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        self.lost.callback(None)


class ControlSocketTests(TestCase):
    """L{ControlSocket}, with the real reactor."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(Any, reactor)
        self.runDir = Path(self.mktemp())
        self.runDir.mkdir(parents=True)
        self.path = self.runDir / "control.sock"
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def started(self, runDir: str = "") -> ControlSocket:
        """A socket that listens until the end of the test."""
        part = ControlSocket(runDir or str(self.runDir), {}, self.reactor)
        part.start()
        self.addCleanup(part.stop)
        return part

    def test_interface(self) -> None:
        """The control socket is a part of the daemon."""
        verifyObject(IPart, ControlSocket(str(self.runDir), {}, self.reactor))

    def test_mode(self) -> None:
        """Only the socket's owner can open it."""
        self.started()
        mode = os.stat(self.path).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    @inlineCallbacks
    def test_stop(self) -> Generator[Any, Any, None]:
        """A stop closes every connection and leaves no file behind."""
        part = ControlSocket(str(self.runDir), {}, self.reactor)
        part.start()
        client = Client()
        endpoint = UNIXClientEndpoint(self.reactor, str(self.path))
        yield connectProtocol(endpoint, client)
        client.sendLine(requestLine("status"))
        yield client.answered
        yield part.stop()
        yield client.lost
        self.assertEqual(os.listdir(self.runDir), [])

    def test_stale(self) -> None:
        """A socket that a crash left behind is replaced."""
        from socket import AF_UNIX, socket

        with socket(AF_UNIX) as dead:
            dead.bind(str(self.path))
        before = os.stat(self.path).st_ino
        self.path.rename(self.runDir / "kept")
        os.link(self.runDir / "kept", self.path)
        self.started()
        self.assertNotEqual(os.stat(self.path).st_ino, before)

    @inlineCallbacks
    def test_longPath(self) -> Generator[Any, Any, None]:
        """A path that is longer than a socket's limit works, too."""
        deep = self.runDir.resolve() / ("d" * 120)
        deep.mkdir()
        part = ControlSocket(str(deep), {}, self.reactor)
        part.start()
        self.assertTrue(stat.S_ISSOCK(os.stat(deep / "control.sock").st_mode))
        yield part.stop()
        self.assertEqual(os.listdir(deep), [])

    def test_otherFile(self) -> None:
        """A file that is not a socket is left alone, with a warning."""
        self.path.write_text("mine")
        self.started()
        self.assertEqual(self.path.read_text(), "mine")
        (line,) = [event["log_format"] for event in self.logged if "path" in event]
        self.assertIn("'nanotun status' and its like do not work", line)

    def test_impossible(self) -> None:
        """If the socket cannot be made, a warning gives the reason, and the daemon still starts."""
        part = ControlSocket(str(self.runDir), {}, NoListening())
        part.start()
        self.assertIs(part.stop(), None)
        (event,) = [event for event in self.logged if "path" in event]
        self.assertEqual(event["error"], "No space left on device")

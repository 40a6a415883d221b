"""
The library goes the good way of each handshake exactly where the handshake's own class does:
golden conversations, in one piece and byte by byte, cut and changed at each place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from nanotun.engine.abi import NativeLibrary
from nanotun.engine.courses import packed
from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Course, IHandshake, Step
from nanotun.upstream.handshakes import http, socks4, socks5
from nanotun.upstream.handshakes.goodway import GoodWay
from nanotun.upstream.handshakes.httplogin import HttpLogin
from tests.unit.upstream.test_http import ASK_BASIC, CHUNKED, CLOSE, LENGTH, OPENS
from tests.unit.upstream.test_pipeline import USER
from tests.unit.upstream.test_socks4 import GRANTED
from tests.unit.upstream.test_socks5 import (
    METHOD_NONE,
    METHOD_PASSWORD,
    REPLY_IPV4,
    REPLY_IPV6,
    REPLY_NAME,
    WELCOME,
)

PROXY = "p"
HELLO = b"220 hello"
ADDRESS = b"\2\0\x04\x38\x7f\0\0\1" + bytes(8)
IPV4, IPV6 = Endpoint("192.0.2.1", 443), Endpoint("2001:db8::1", 80)
NAME = Endpoint("server.example.com", 65535)

REPLIES5 = (REPLY_IPV4, REPLY_IPV6, REPLY_NAME, bytes.fromhex("05 00 00 03 00 1234"))
REPLIES4 = GRANTED, bytes.fromhex("04 5a 1234 c0000202")

#: Answers of HTTP that are not on the good way, or hard to tell from one that is.
ODD_HEADS = (
    b"HTTP/1.1 100 Continue\r\n\r\n" + OPENS[0],
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100 + b"\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 403 No\r\n" + LENGTH,
    b"HTTP/1.1 408 No\r\n" + CLOSE,
    *(ASK_BASIC + rest for rest in (LENGTH, CHUNKED, CLOSE, b"\r\n")),
)


class Told(NamedTuple):
    """
    How far a handshake is.

    @ivar state: one of the library's: C{more}, C{good} or C{handed}; of Python's, C{handed}
        means that it has failed or wants another connection.
    @ivar leftover: if it is good.
    """

    state: str
    sent: bytes
    leftover: bytes = b""


class Talk(NamedTuple):
    """
    A part of a conversation, up to an answer.

    @ivar make: makes its handshake.
    @ivar before: the good answers that come before, each once the one before is answered.
    @ivar good: what is to be heard now.
    @ivar steps: of the good way; the one whose answer is next is that after C{before}.
    @ivar warm: whether the connection waited.
    """

    make: Callable[[], IHandshake]
    request: bytes
    steps: tuple[Step, ...]
    before: tuple[bytes, ...]
    good: bytes
    warm: bool = False

    def inPython(self, pieces: Iterable[bytes]) -> Iterator[Told]:
        """What the handshake makes of these bytes after each piece, until its end."""
        handshake = self.make()
        sent = handshake.proceed(None) if self.warm else handshake.begin()
        for answer in self.before:
            # The library begins there.
            sent = handshake.receive(answer)
        for piece in pieces:
            try:
                sent += handshake.receive(piece)
            except UpstreamError:
                yield Told("handed", b"")
                return
            if handshake.done:
                yield Told("good", sent, handshake.leftover)
                return
            yield Told("handed" if handshake.again else "more", sent)
            if handshake.again:
                return


def mutated(data: bytes) -> Iterator[bytes]:
    """C{data}, cut and changed in some ways at each place."""
    for place in range(len(data)):
        head, byte, rest = data[:place], data[place], data[place + 1 :]
        yield head
        yield head + rest
        yield head + bytes((byte, byte)) + rest
        for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 0, 0xFF, 10, 13, 32} - {byte}:
            yield head + bytes((other,)) + rest


def socks5Talks(
    destination: Endpoint, credentials: tuple[bytes, bytes] | None, pipeline: bool
) -> Iterator[Talk]:
    """The conversations of one URL."""
    way = socks5.goodWay(credentials, pipeline)
    answers = [METHOD_NONE] if credentials is None else [METHOD_PASSWORD, WELCOME]

    def make() -> socks5.Socks5Handshake:
        return socks5.Socks5Handshake(destination, PROXY, credentials, pipeline=pipeline)

    request = way.request(destination)
    for reply in REPLIES5:
        yield Talk(make, request, way.greeted, (), reply + HELLO, True)
        if pipeline:
            yield Talk(make, request, way.steps, (), b"".join((*answers, reply, HELLO)))
            continue
        yield Talk(make, request, way.steps, tuple(answers), reply + HELLO)
        for number, answer in enumerate(answers):
            yield Talk(make, request, way.steps, tuple(answers[:number]), answer)
            yield Talk(make, request, way.steps, tuple(answers[:number]), answer + reply)


def plainTalks(
    make: Callable[[], IHandshake], way: GoodWay, destination: Endpoint, replies: Iterable[bytes]
) -> Iterator[Talk]:
    """Those of a request and an answer."""
    request = way.request(destination)
    for reply in replies:
        yield Talk(make, request, way.steps, (), reply + HELLO)
        yield Talk(make, request, way.greeted, (), reply + HELLO, True)


class RehearseTests(SynchronousTestCase):
    """
    Python's handshakes next to C{ns_rehearse}.
    """

    timeout = 120

    def setUp(self) -> None:
        """Load the library."""
        self.library = NativeLibrary.load()
        self.sent = ctypes.create_string_buffer(4096)
        self.cases = self.good = 0

    def inLibrary(self, blob: bytes, talk: Talk, received: bytes) -> Told:
        """What the library makes of these bytes, all at once."""
        used = ctypes.c_uint32()
        request, first = talk.request, len(talk.before)
        result = self.library.ns_rehearse(
            blob,
            len(blob),
            first,
            request,
            len(request),
            received,
            len(received),
            self.sent,
            len(self.sent),
            ctypes.byref(used),
        )
        self.assertGreaterEqual(result, 0)
        state = ("more", "good", "handed")[result & 0xFF]
        sent = self.sent.raw[: result >> 8]
        self.cases += 1
        if state == "handed":
            return Told(state, b"")
        self.good += state == "good"
        return Told(state, sent, received[used.value :] if state == "good" else b"")

    def compare(self, talks: Iterable[Talk], exact: bool) -> None:
        """
        Run conversations through both.

        @param exact: whether the library takes everything that Python takes, but for a proxy
            that wants no log-in.
        """
        for talk in talks:
            blob = packed(Course((ADDRESS,), 1.0, steps=talk.steps))
            self.compareBytes(blob, talk, exact)
            # Nothing is never received.
            for received in {talk.good, *mutated(talk.good)} - {b""}:
                self.agree(blob, talk, received, [received], exact)

    def compareBytes(self, blob: bytes, talk: Talk, exact: bool) -> None:
        """
        Byte by byte, up to where something is sent: the library cannot be told here what comes
        after that.
        """
        pieces = [talk.good[place : place + 1] for place in range(len(talk.good))]
        received, sent = b"", None
        for told, piece in zip(talk.inPython(pieces), pieces, strict=False):
            received += piece
            self.check(talk, received, self.inLibrary(blob, talk, received), told, exact)
            sent = told.sent if sent is None else sent
            if told.sent != sent:
                return

    def agree(
        self, blob: bytes, talk: Talk, received: bytes, pieces: list[bytes], exact: bool
    ) -> None:
        """Both make the same of some bytes."""
        *_, told = talk.inPython(pieces)
        self.check(talk, received, self.inLibrary(blob, talk, received), told, exact)

    def check(self, talk: Talk, received: bytes, found: Told, told: Told, exact: bool) -> None:
        """What the library and Python have made of the same."""
        if found.state == "handed":
            unlogged = not talk.before and received.startswith(b"\5\0") and told.state == "more"
            if not exact or unlogged:
                return
        self.assertEqual(found, told, (talk.steps, talk.before, received))

    def test_socks5(self) -> None:
        """
        SOCKS5 with and without a log-in, pipelined or not, by address and by name.
        """
        for destination in (IPV4, IPV6, NAME):
            for credentials in (None, USER):
                for pipeline in (False, True):
                    self.compare(socks5Talks(destination, credentials, pipeline), True)
        self.assertGreater(min(self.cases, self.good), 1000)

    def test_socks4(self) -> None:
        """
        SOCKS4 and SOCKS4A, with and without a user.
        """
        for destination in (IPV4, NAME):
            for user in (b"", b"ann"):

                def make(
                    destination: Endpoint = destination, user: bytes = user
                ) -> socks4.Socks4Handshake:
                    return socks4.Socks4Handshake(destination, PROXY, user)

                self.compare(plainTalks(make, socks4.goodWay(user), destination, REPLIES4), True)
        self.assertGreater(min(self.cases, self.good), 500)

    def test_http(self) -> None:
        """
        HTTP without a log-in, and with Basic from the start.  What the library takes, Python
        takes too; plain answers are taken, and the odd are Python's.
        """
        basic = HttpLogin(b"Aladdin", b"open sesame", bytes, eager=True)
        for destination, login in ((IPV4, None), (NAME, basic), (IPV6, None)):

            def make(
                destination: Endpoint = destination, login: HttpLogin | None = login
            ) -> http.HttpHandshake:
                return http.HttpHandshake(destination, PROXY, login)

            way = http.goodWay(login)
            assert way is not None
            self.compare(plainTalks(make, way, destination, OPENS), False)
            blob = packed(Course((ADDRESS,), 1.0, steps=way.steps))
            for talk in plainTalks(make, way, destination, OPENS[:3]):
                self.assertEqual(self.inLibrary(blob, talk, talk.good).state, "good")
            for talk in plainTalks(make, way, destination, ODD_HEADS):
                self.agree(blob, talk, talk.good, [talk.good], False)
        self.assertGreater(min(self.cases, self.good), 1000)

"""
Tests for L{nanotun.gateway.dns.http2}, against the server's side of h2.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError, StreamClosedError
from h2.settings import SettingCodes
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.gateway.dns import http2
from nanotun.gateway.dns.http2 import FRAME_LIMIT, STREAM_LIMIT, HttpTalk
from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.message import LARGEST
from nanotun.gateway.dns.talks import Heard, TalkError
from tests.unit.gateway.http2_cases import ANSWER, WIRE, HttpServer

CLEAR = "does not speak HTTP/2, which DNS over HTTPS needs; check the URL"


class HttpTalkTests(SynchronousTestCase):
    """Tests for L{HttpTalk}."""

    def setUp(self) -> None:
        """A talk, and its server."""
        self.start()

    def start(self, settings: dict[SettingCodes, int] | None = None) -> None:
        """Begin anew."""
        self.talk = HttpTalk("dns.example", "/dns-query")
        self.talk.begin()
        self.server = HttpServer(settings)

    def greet(self) -> None:
        """Exchange the prefaces."""
        self.deliver()
        self.assertEqual(self.receive(), [])

    def deliver(self, credit: bool = True) -> None:
        """Give the server what there is for it."""
        self.server.take(self.talk.outgoing(), credit)

    def receive(self, step: int = 0) -> list[Heard]:
        """
        Give the talk what the server has sent.

        @param step: bytes at a time; 0 for all.
        """
        data = self.server.h2.data_to_send()
        step = step or max(1, len(data))
        found: list[Heard] = []
        for place in range(0, len(data), step):
            found += self.talk.receive(data[place : place + step])
        return found

    def ask(self, count: int = 1) -> list[int]:
        """Send queries."""
        return [self.talk.send(WIRE) for _ in range(count)]

    def heard(self, reply: Callable[[int], None]) -> Heard:
        """What is heard of a query, whether its answer comes whole or byte by byte."""
        found = []
        for step in (0, 1):
            self.start()
            (key,) = self.ask()
            self.deliver()
            reply(key)
            (heard,) = self.receive(step)
            self.assertEqual(heard.key, key)
            self.assertEqual((self.talk.room, self.talk.over), (STREAM_LIMIT, False))
            found.append(heard)
        self.assertEqual(*found)
        return found[0]

    def heardOf(self, *more: tuple[bytes, bytes], status: bytes = b"200") -> Heard:
        """What is heard of an answer with these headers."""
        return self.heard(lambda key: self.server.reply(key, *more, status=status))

    def assertBreaks(self, text: str, data: bytes) -> None:
        """These bytes end the connection, for a reason that has this text."""
        error = self.assertRaises(TalkError, self.talk.receive, data)
        self.assertIn(text, str(error))

    def test_interface(self) -> None:
        """It is a talk."""
        verifyObject(ITalk, self.talk)
        self.assertTrue(self.talk.final)

    def test_headers(self) -> None:
        """The server reads the same headers each time, however much of them it remembers."""
        self.greet()
        for size in (4096, 0, 150, 4096, 70):
            self.server.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
            self.receive()
            for length in (100, 100, 100, 200, 100, 300, 200, 300, 300):
                stream = self.talk.send(bytes(length))
                self.deliver()
                found = self.server.requests[stream]
                self.assertEqual(found[b"content-length"], b"%d" % length)
                self.assertEqual((found[b":path"], len(found)), (b"/dns-query", 7))
                self.server.reply(stream)
                self.receive()

    def test_oneFlight(self) -> None:
        """Queries go out with the preface, before the server has said anything."""
        keys = self.ask(3)
        self.assertEqual((self.talk.greeted, self.talk.lacking), (False, "answer in HTTP/2"))
        self.deliver()
        self.assertEqual(self.server.ended, keys)
        self.assertEqual(self.talk.outgoing(), b"")
        for key in reversed(keys):
            self.server.reply(key)
        self.assertEqual(self.receive(), [Heard(key, ANSWER) for key in reversed(keys)])
        self.assertEqual((self.talk.greeted, self.talk.lacking), (True, ""))
        self.assertEqual(self.talk.room, STREAM_LIMIT)

    def test_request(self) -> None:
        """A query is posted with the id 0, and nothing in its headers tells who asks."""
        (key,) = self.ask()
        self.deliver()
        self.assertEqual(self.server.bodies[key], b"\0\0" + WIRE[2:])
        self.assertEqual(
            self.server.requests[key],
            {
                b":method": b"POST",
                b":scheme": b"https",
                b":authority": b"dns.example",
                b":path": b"/dns-query",
                b"accept": b"application/dns-message",
                b"content-type": b"application/dns-message",
                b"content-length": b"%d" % len(WIRE),
            },
        )

    def test_shortHeaders(self) -> None:
        """After the first query a query costs few bytes besides its own."""
        self.ask()
        self.talk.outgoing()
        self.ask()
        # Two frame headers, and what differs.
        self.assertLess(len(self.talk.outgoing()) - len(WIRE), 2 * 9 + 12)

    def test_noPush(self) -> None:
        """The server is told to push nothing, and a push ends the connection."""
        self.greet()
        self.assertEqual(self.server.h2.remote_settings.enable_push, 0)
        self.assertBreaks("breaks HTTP/2", b"\0\0\5\5\4\0\0\0\1" + b"\0\0\0\2\x82")

    def test_answer(self) -> None:
        """An answer may have an age, parameters of its type, and trailers."""
        heard = self.heard(lambda key: self.server.reply(key, (b"age", b"17")))
        self.assertEqual((heard.answer, heard.age), (ANSWER, 17))
        media = (b"content-type", b"Application/DNS-Message; charset=x")
        self.assertEqual(self.heard(lambda key: self.server.reply(key, media)).answer, ANSWER)

        def trailers(key: int) -> None:
            self.server.h2.send_headers(key, [(b":status", b"103"), (b"link", b"x")])
            self.server.begin(key)
            self.server.h2.send_data(key, ANSWER, pad_length=9)
            self.server.h2.send_headers(key, [(b"x", b"y")], end_stream=True)

        self.assertEqual(self.heard(trailers).answer, ANSWER)

    def test_ages(self) -> None:
        """An age that is no number counts as none, and one without end has a limit."""
        for text, age in ((b"-3", 0), (b"soon", 0), (b"9" * 5000, 0), (b"9" * 19, 1 << 31)):
            heard = self.heardOf((b"age", text))
            self.assertEqual((heard.answer, heard.age), (ANSWER, age))

    def test_statuses(self) -> None:
        """A status other than 200 is said, with what to do."""
        for status, text in (
            (b"404", "404 (Not Found); check the path in its URL"),
            (b"415", "415 (Unsupported Media Type); it takes no DNS queries at that path"),
            (b"403", "403 (Forbidden); it does not serve this machine"),
            (b"429", "429 (Too Many Requests); it is asked too often"),
            (b"503", "503 (Service Unavailable); it has trouble of its own"),
            (b"599", "599; it has trouble of its own"),
            (b"302", "302 (Found); write the URL that it has moved to"),
            (b"418", "418 (I'm a Teapot); look at that server"),
            (b"204", "204 (No Content); look at that server"),
            (b"2000000000000000000000", "0; look at that server"),
        ):
            heard = self.heardOf(status=status)
            self.assertEqual(heard.trouble, f"answers with HTTP status {text}")
            self.assertEqual((heard.answer, heard.again), (b"", False))

    def test_otherType(self) -> None:
        """An answer that is no DNS message is told by its type, as printable text."""
        for media, text in (
            (b"text/html; charset=utf-8", "text/html"),
            (b"", "something"),
            (b"a\xff\tb" + b"x" * 99, "a\\xff\\tb" + "x" * 56),
        ):
            kind = (b"content-type", media)
            heard = self.heardOf(kind)
            wanted = f"answers with {text} instead of a DNS message; check the path in its URL"
            self.assertEqual(heard.trouble, wanted)

    def test_empty(self) -> None:
        """An empty answer is no answer."""
        heard = self.heard(lambda key: self.server.reply(key, body=b""))
        self.assertEqual(heard.trouble, "sends an empty answer")

    def test_largest(self) -> None:
        """The largest message arrives whole."""
        body = ANSWER.ljust(LARGEST, b"\0")
        self.assertEqual(self.heard(lambda key: self.server.reply(key, body=body)).answer, body)

    def test_tooLarge(self) -> None:
        """A larger one is given up as soon as it is one, and the server cannot send more of it."""

        def large(key: int) -> None:
            self.server.begin(key)
            for _ in range(4):
                self.server.h2.send_data(key, bytes(FRAME_LIMIT))
            self.assertRaises(FlowControlError, self.server.h2.send_data, key, b"\0")

        self.assertEqual(self.heard(large).trouble, "sends an answer of more than 65,535 bytes")
        (key,) = self.server.requests
        self.deliver()
        self.assertRaises(StreamClosedError, self.server.h2.send_data, key, b"")

    def test_reset(self) -> None:
        """A stream that the server resets has failed; one that it refuses goes somewhere else."""
        code = ErrorCodes.INTERNAL_ERROR
        heard = self.heard(lambda key: self.server.h2.reset_stream(key, code))
        self.assertEqual((heard.trouble, heard.again), ("gives a query up (HTTP/2 error 2)", False))
        code = ErrorCodes.REFUSED_STREAM
        heard = self.heard(lambda key: self.server.h2.reset_stream(key, code))
        self.assertEqual((heard.trouble, heard.again), ("", True))

    def test_goAway(self) -> None:
        """A server that goes away has what is under way sent again, and what it said counts."""
        for step in (0, 1):
            self.start()
            first, second, third = self.ask(3)
            self.deliver()
            self.server.reply(second)
            self.server.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=third)
            before = self.server.h2.data_to_send()
            # It still answers, which h2's server would not do.
            late = b"\0\0\1\1\4\0\0\0\1\x88" + b"\0\0\0\0\1\0\0\0\1"
            data = before + late
            step = step or len(data)
            found = [
                heard
                for place in range(0, len(data), step)
                for heard in self.talk.receive(data[place : place + step])
            ]
            self.assertEqual(found[0], Heard(second, ANSWER))
            self.assertEqual(found[1:], [Heard(first, again=True), Heard(third, again=True)])
            self.assertEqual((self.talk.over, self.talk.room), (True, 0))
            self.talk.forget(first)
            self.assertEqual(self.talk.ended(), "")
            self.assertEqual(self.talk.receive(late), [])

    def test_goAwayError(self) -> None:
        """One that goes away for a reason says so."""
        (key,) = self.ask()
        self.deliver()
        self.server.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        wanted = Heard(key, trouble="ended the connection (HTTP/2 error 11)", again=True)
        self.assertEqual(self.receive(), [wanted])

    def test_fewStreams(self) -> None:
        """No more queries are sent than the server allows, once it has said how many."""
        self.start({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        self.assertEqual(self.talk.room, STREAM_LIMIT)
        first, second = self.ask(2)
        self.deliver()
        (third,) = self.ask()
        self.receive()
        self.assertEqual(self.talk.room, 0)
        refused = b"\0\0\4\3\0" + third.to_bytes(4, "big") + b"\0\0\0\7"
        self.assertEqual(self.talk.receive(refused), [Heard(third, again=True)])
        self.assertEqual(self.talk.room, 0)
        self.server.reply(first)
        self.receive()
        self.assertEqual(self.talk.room, 1)
        self.server.reply(second)
        self.receive()
        self.assertEqual(self.talk.room, 2)

    def test_manyStreams(self) -> None:
        """However many the server allows, there are a hundred at most."""
        self.start({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
        self.greet()
        self.ask(99)
        self.assertEqual(self.talk.room, 1)

    def test_forget(self) -> None:
        """A query that nobody waits for makes room, and its answer is dropped."""
        self.greet()
        first, second = self.ask(2)
        self.talk.forget(first)
        self.talk.forget(first)
        self.assertEqual(self.talk.room, STREAM_LIMIT - 1)
        # The answer was on its way already.
        self.server.h2.receive_data(b"")
        other = self.talk.outgoing()
        cut = other.index(b"\0\0\4\3")
        self.server.take(other[:cut])
        self.server.reply(first)
        self.server.reply(second)
        self.assertEqual(self.receive(), [Heard(second, ANSWER)])

    def test_manyForgotten(self) -> None:
        """Answers that nobody waits for do not use up what the server may send."""
        self.patch(http2, "WINDOW", 1 << 20)
        self.start()
        self.greet()
        body = bytes(LARGEST)
        for _ in range(2 * http2.WINDOW // LARGEST):
            (key,) = self.ask()
            self.deliver()
            self.server.reply(key, body=body)
            self.talk.forget(key)
            self.assertEqual(self.receive(), [])
            self.deliver()
        (key,) = self.ask()
        self.deliver()
        self.server.reply(key)
        self.assertEqual(self.receive(), [Heard(key, ANSWER)])

    def test_window(self) -> None:
        """The server may send without end, and is told so rarely."""
        self.patch(http2, "WINDOW", 1 << 20)
        self.start()
        self.greet()
        body, told = ANSWER.ljust(LARGEST, b"\0"), 0
        for _ in range(3 * http2.WINDOW // LARGEST):
            (key,) = self.ask()
            self.deliver()
            self.server.reply(key, body=body)
            self.assertEqual(len(self.receive()), 1)
            more = self.talk.outgoing()
            told += bool(more)
            self.server.take(more)
        self.assertIn(told, (5, 6))

    def test_largeQueries(self) -> None:
        """Queries that the server has no room for yet are sent piece by piece as it gets some."""
        large = WIRE + bytes(LARGEST - len(WIRE))
        keys = [self.talk.send(large) for _ in range(3)]
        for _ in range(20):
            self.deliver()
            self.receive()
        self.assertEqual(self.server.ended, keys)
        self.assertEqual({len(body) for body in self.server.bodies.values()}, {LARGEST})

    def test_largeForgotten(self) -> None:
        """No more is sent of a query that is forgotten, reset, or answered before its end."""
        large = WIRE + bytes(LARGEST - len(WIRE))
        self.greet()
        keys = [self.talk.send(large) for _ in range(5)]
        self.deliver(credit=False)
        self.assertEqual(self.server.ended, keys[:1])
        self.talk.forget(keys[2])
        self.server.h2.reset_stream(keys[3], ErrorCodes.CANCEL)
        self.server.reply(keys[4], status=b"413")
        self.assertEqual([heard.key for heard in self.receive()], keys[3:])
        self.server.h2.increment_flow_control_window(1 << 20)
        for _ in range(9):
            self.receive()
            self.deliver()
        self.assertEqual(self.server.ended, keys[:2])
        self.assertEqual(self.talk.room, STREAM_LIMIT - 2)

    def test_otherProtocol(self) -> None:
        """A server that begins with anything but its settings does not speak HTTP/2."""
        for data in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\xff" * 50,
            b"\0\x42\x84\x80",
            b"\0\0\x08\7\0\0\0\0\0" + bytes(8),
        ):
            self.start()
            self.ask()
            self.assertBreaks(CLEAR, data)
            self.start()
            for byte in data[:3]:
                self.assertEqual(self.talk.receive(bytes((byte,))), [])
            self.assertBreaks(CLEAR, data[3:4])

    def test_garbage(self) -> None:
        """What is no HTTP/2 after that ends the connection, and a last word says so."""
        for text, data in (
            ("a frame of 5,263,956 bytes", b"PRT / HTTP/2"),
            ("(ProtocolError)", b"\0\0\0\0\1\0\0\0\0"),
            ("(FlowControlError)", b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff"),
        ):
            self.start()
            self.greet()
            (key,) = self.ask()
            self.talk.outgoing()
            self.assertBreaks(text, data)
            self.talk.forget(key)

    def test_lastWord(self) -> None:
        """The server is told that it has broken the protocol."""
        self.greet()
        self.talk.outgoing()
        self.assertBreaks("breaks HTTP/2 (ProtocolError)", b"\0\0\0\0\1\0\0\0\0")
        self.assertEqual(self.talk.outgoing()[3], http2.GOAWAY)
        self.assertEqual((self.talk.over, self.talk.room), (True, 0))

    def test_ended(self) -> None:
        """An end is wrong only if it comes in the middle of an answer."""
        self.assertEqual(self.talk.ended(), "")
        self.greet()
        first, second = self.ask(2)
        self.deliver()
        self.server.reply(first)
        self.receive()
        self.assertEqual(self.talk.ended(), "")
        self.server.begin(second)
        self.server.h2.send_data(second, ANSWER)
        self.assertEqual(self.receive(), [])
        self.assertEqual(self.talk.ended(), "closed the connection in the middle of an answer")

    def test_exhausted(self) -> None:
        """When the numbers of streams run out, the talk is over as soon as nothing is under way."""
        self.patch(http2, "QUERY_LIMIT", 2)
        first, second = self.ask(2)
        self.deliver()
        self.assertEqual((self.talk.room, self.talk.over), (0, False))
        self.server.reply(first)
        self.receive()
        self.assertEqual((self.talk.room, self.talk.over), (0, False))
        self.server.reply(second)
        self.assertEqual(self.receive(), [Heard(second, ANSWER)])
        self.assertEqual((self.talk.room, self.talk.over), (0, True))

    def test_ping(self) -> None:
        """A ping is answered."""
        self.greet()
        self.talk.outgoing()
        self.server.h2.ping(b"12345678")
        self.receive()
        self.assertIn(b"12345678", self.talk.outgoing())

    def test_mutated(self) -> None:
        """3,000 mutated conversations give answers or a L{TalkError}, and nothing else."""
        chance = random.Random(5)
        keys = self.ask(3)
        self.deliver()
        for key in keys:
            self.server.reply(key, (b"age", b"17"))
        self.server.h2.ping(b"12345678")
        self.server.h2.close_connection()
        good = self.server.h2.data_to_send()
        for _ in range(3000):
            talk = HttpTalk("dns.example", "/dns-query")
            talk.begin()
            for _ in range(3):
                talk.send(WIRE)
            data = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.choice((0, 1, 4, 0xFF, 0x80))
            try:
                for each in talk.receive(bytes(data[: chance.randrange(len(data) + 1)])):
                    talk.forget(each.key)
            except TalkError:
                pass
            talk.outgoing()
            talk.ended()
            for key in keys:
                talk.forget(key)

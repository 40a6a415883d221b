"""
Tests for L{nanotun.upstream.plans}: what the engine cannot do ends as if it had never tried.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import ensureDeferred

from nanotun.interfaces import Connection
from tests.unit.upstream.plan_cases import RESETS, PlanCase
from tests.unit.upstream.upstream_cases import DESTINATION

SOCKS5_REPLY = b"\5\0\0\1\0\0\0\0\0\0"
SOCKS4_REPLY = b"\0\x5a" + bytes(6)
HTTP_REPLY = b"HTTP/1.1 200 Connection established\r\nVia: lab\r\n\r\n"
HELLO = b"220 hello"
GARBAGE = b"\x7f" + bytes(range(256)) * 20

ASKS = (
    b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=x, nonce=y, qop=auth\r\n"
    b"Connection: close\r\n\r\n"
)

Scripts = Iterable[tuple[bytes, ...]]


def http(status: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    """An answer with a body of a known length."""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


#: Of each URL without its address: what such proxies say, one piece for each read.
WORDS: dict[str, Scripts] = {
    "socks5://{}": [
        *((b"\5\0", b"\5%c\0\1\0\0\0\0\0\0" % code) for code in range(256) if code),
        *((b"\5%c" % method,) for method in (1, 2, 9, 255)),
        (b"\5\0" + SOCKS5_REPLY,),
        (b"\5\0\5",),
        (b"\5\0", b"\5\0\0\2" + bytes(9)),
        (b"\5\0", b"\5\0\0\3\3foo\0\1" + HELLO),
        (b"\5\0", b"\4\0"),
        (b"\5\0", GARBAGE),
        (GARBAGE,),
        (HTTP_REPLY,),
        (b"\0\x5a",),
    ],
    "socks5://user:secret@{}": [
        (b"\5\0", SOCKS5_REPLY + HELLO),
        (b"\5\0", b"\5\5"),
        (b"\5\2", b"\1\0", SOCKS5_REPLY + HELLO),
        (b"\5\2", b"\5\0", SOCKS5_REPLY),
        (b"\5\2", b"\1\1"),
        (b"\5\2", b"\1\0\0"),
        (b"\5\2\1\0", SOCKS5_REPLY),
        (b"\5\2", b"\1\0", b"\5\2"),
        (b"\5\xff",),
        (b"\5\1",),
    ],
    "socks5://{}?pipeline=1": [
        (b"\5\0\5\5",),
        (b"\5\0\5\0\0\2" + bytes(9),),
        (b"\5\0\4",),
        (b"\5\1",),
        (GARBAGE,),
    ],
    "socks5://user:secret@{}?pipeline=1": [
        (b"\5\0" + SOCKS5_REPLY,),
        (b"\5\2\1\1",),
        (b"\5\2\1\0\5\2",),
        (b"\5\2\1\0\5\0\0\3\3foo\0\1" + HELLO,),
    ],
    "socks4://{}": [
        *((b"\0%c" % code,) for code in range(256)),
        (b"\4\x5a" + bytes(6) + HELLO,),
        (b"\5\x5a" + bytes(6),),
        (GARBAGE,),
        (HTTP_REPLY,),
    ],
    "http://{}": [
        *((http(b"%d No" % status),) for status in (301, 400, 401, 403, 404, 405, 408, 429, 500)),
        *((http(b"%d No" % status, body=b"text"),) for status in (501, 502, 503, 504, 511)),
        (http(b"407 No", b"Proxy-Authenticate: Basic realm=x\r\n"),),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HTTP_REPLY + HELLO,),
        (b"HTTP/1.1 200 OK\nVia: x\n\n" + HELLO,),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO,),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",),
        (b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",),
        (b"HTTP/2 200 OK\r\n\r\n",),
        (b"\x15\3\3\0\2\2\x46",),
        (b"SSH-2.0-x\r\n",),
        (b"\5\0",),
        (GARBAGE,),
    ],
    "http://user:secret@{}?pipeline=1": [
        (http(b"401 No"),),
        (http(b"403 user:secret"),),
        (http(b"407 No", b"Proxy-Authenticate: Basic realm=x\r\n"),),
        (http(b"407 No", b"Proxy-Authenticate: Basic realm=x\r\n", b"no"), HTTP_REPLY),
        (http(b"407 No", b"Proxy-Authenticate: Bearer\r\n"),),
        (http(b"407 No", b"Proxy-Authenticate: Digest nonce=x\r\n"), HTTP_REPLY + HELLO),
        (http(b"407 No", b"Proxy-Authenticate: Digest nonce=x\r\n"), http(b"502 No")),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest nonce=x\r\n\r\n",),
        (GARBAGE,),
    ],
}

#: What works.
GRANTS = {
    "socks5://{}": (b"\5\0", SOCKS5_REPLY),
    "socks5://user:secret@{}": (b"\5\2", b"\1\0", SOCKS5_REPLY),
    "socks4://{}": (SOCKS4_REPLY,),
    "http://{}": (HTTP_REPLY,),
    "http://user:secret@{}?pipeline=1": (HTTP_REPLY,),
    "socks5://{}?pipeline=1": (b"\5\0" + SOCKS5_REPLY,),
    "socks5://user:secret@{}?pipeline=1": (b"\5\2\1\0" + SOCKS5_REPLY,),
}


class SameWordsTests(PlanCase):
    """
    Dials of the engine that do not go well, next to the same without it.
    """

    timeout = 60

    async def same(
        self,
        url: str,
        *scripts: tuple[bytes, ...],
        expires: bool = False,
        joins: bool | None = None,
    ) -> None:
        """
        A dial ends in the same way with the engine and without it, and the proxy hears the
        same.

        @param scripts: for one connection after the other.
        @param expires: whether it ends by its deadline.
        @param joins: whether the engine joins the flow; L{None} for either.
        """
        found, heard = [], []
        for planned in (False, True):
            text = url.format(f"127.0.0.1:{self.each(*scripts)}")
            upstream, before = self.makePlanned(text), self.sockets()
            self.kinds: list[object] = []
            dial = self.joined(upstream) if planned else upstream.connect(DESTINATION)
            told = ensureDeferred(self.told(dial))
            if expires:
                await self.expire(5.0)
            port = str(upstream._addresses.endpoint.port)
            found.append([str(each).replace(port, "PORT") for each in await told])
            await self.ended()
            self.assertEqual(self.sockets() - before, set(), scripts)
            await self.port.stopListening()
            heard.append([each.heard for each in self.scripts])
            self.scripts.clear()
        self.assertEqual(found[1], found[0], scripts)
        self.assertEqual(heard[1], heard[0], scripts)
        if joins is not None:
            self.assertEqual(self.kinds == [None], joins, scripts)
        self.assertClean()

    async def joined(self, upstream: Any) -> Connection:
        """The leg that the engine opened, or began to open."""
        connection, kind = await self.carryOut(upstream)
        self.kinds.append(kind)
        return connection  # type: ignore[no-any-return]

    async def test_words(self) -> None:
        """
        Whatever a proxy says, the error is the same word for word, and so is what is left over.
        """
        for url, scripts in WORDS.items():
            for script in scripts:
                await self.same(url, (*script, b""))

    async def test_joins(self) -> None:
        """
        The engine alone joins a flow whose proxy grants it, with the words of the destination.
        """
        for url, grant in GRANTS.items():
            await self.same(url, (*grant[:-1], grant[-1] + HELLO), joins=True)

    async def test_cut(self) -> None:
        """
        An answer that ends after any of its bytes, in order or by a reset, is the same error.
        """
        for url, grant in GRANTS.items():
            for number, whole in enumerate(grant):
                for size in range(len(whole)):
                    for end in (b"", RESETS):
                        cut = (whole[:size],) if size else ()
                        await self.same(url, (*grant[:number], *cut, end))

    async def test_silent(self) -> None:
        """
        A proxy that falls silent after any of its bytes is the same error, which tells whether
        the destination may be what is silent.
        """
        for url, grant in GRANTS.items():
            for number, whole in enumerate(grant):
                for size in (0, 1, len(whole) - 1):
                    cut = (whole[:size],) if size else ()
                    await self.same(url, (*grant[:number], *cut), expires=True)

    async def test_again(self) -> None:
        """
        A proxy that asks for a log-in and closes is given it on another connection.
        """
        self.patch(secrets, "token_hex", lambda size: "token")
        await self.same("http://user:secret@{}?pipeline=1", (ASKS,), (HTTP_REPLY + HELLO,))
        await self.same("http://user:secret@{}?pipeline=1", (ASKS,), (http(b"502 No"),))
        await self.same("http://user:secret@{}?pipeline=1", (ASKS,), (b"",))

    async def test_away(self) -> None:
        """
        A proxy that is not there is the same error, and its addresses are doubted.
        """
        for url in GRANTS:
            upstream = self.makePlanned(url.format(f"127.0.0.1:{self.closedPort()}"))
            doubted: list[bool] = []
            self.patch(upstream._addresses, "doubt", partial(doubted.append, True))
            expected = await self.told(upstream.connect(DESTINATION))
            self.assertEqual(await self.told(self.joined(upstream)), expected)
            self.assertEqual(len(doubted), 2)

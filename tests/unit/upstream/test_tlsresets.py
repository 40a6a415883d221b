"""
Tests of L{nanotun.upstream.handshakes.tlscarry}: resets, and what they leave to the app.
"""

from __future__ import annotations

import os

from twisted.internet.task import deferLater

from nanotun.linux import delivery
from tests.unit.upstream.tlscarry_cases import App, Proxy, RelayCase
from tests.unit.upstream.upstream_cases import DESTINATION

#: Bytes that the two sides take off the proxy before the app reads.
TAKEN = 350_000

#: Bytes of which some stay in the connection to the proxy until the app reads.
UNREAD = 600_000


class ResetTests(RelayCase):
    """Resets by the app and the proxy."""

    async def test_appReset(self) -> None:
        """An app's reset is a reset for the proxy: what was sent does not look complete."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        app.transport.write(b"x")
        await app.until(1)
        app.transport.abortConnection()
        (proxy,) = self.proxies
        self.assertTrue(await proxy.lost)
        self.assertFalse(proxy.server.ended)
        await self.clean()

    async def test_appResetAfterItsEnd(self) -> None:
        """An app's reset after its end is passed on once there is an answer that nobody takes."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.atEnd = app.transport.abortConnection
        app.transport.loseWriteConnection()
        await app.lost
        proxy.transport.write(proxy.server.say(b"answer"))
        self.assertTrue(await proxy.lost)
        await self.clean()

    async def test_proxyReset(self) -> None:
        """The proxy's reset is a reset for the app, after the bytes that arrived before."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.transport.write(proxy.server.say(b"half of it"))
        await app.until(10)
        proxy.transport.abortConnection()
        await self.wasReset(app)

    async def test_proxyResetAfterTheAppsEnd(self) -> None:
        """
        The proxy's reset is passed on to an app that has ended its half and waits for
        an answer.
        """
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.atEnd = proxy.transport.abortConnection
        app.transport.loseWriteConnection()
        await self.wasReset(app)

    async def test_proxyWrong(self) -> None:
        """Bytes that are not TLS, or are forged, are a reset for the app."""
        for wrong in (b"plain text, which is no record of TLS", b"\x17\3\3\0\x20" + bytes(32)):
            app = self.adopt(await self.upstream().connect(DESTINATION))
            proxy = self.proxies[-1]
            proxy.transport.write(proxy.server.say(b"half of it"))
            await app.until(10)
            proxy.transport.write(wrong)
            await self.wasReset(app)

    async def unread(self, *, ends: bool = False, size: int = UNREAD) -> tuple[App, Proxy, bytes]:
        """Have an app that does not read, for which the proxy has sent something."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        app.transport.pauseProducing()
        (proxy,) = self.proxies
        sent = os.urandom(size)
        said = proxy.server.say(sent)
        proxy.transport.write(said + (proxy.server.end() if ends else b""))
        while delivery.unsent(proxy.transport):
            await deferLater(self.reactor, 0.01)
        return app, proxy, sent

    async def isReset(self, app: App, sent: bytes) -> None:
        """The app reads after a while, and gets everything before the reset."""
        await deferLater(self.reactor, 0.2)
        app.transport.resumeProducing()
        self.assertTrue(await app.lost)
        self.assertEqual(len(app.heard), len(sent))
        self.assertEqual(app.heard == sent, True)
        self.assertFalse(app.ended.called)
        await self.clean()

    async def ends(self, app: App, sent: bytes) -> None:
        """The app reads after a while, and gets everything before an end; writing is in vain."""
        await deferLater(self.reactor, 0.2)
        app.transport.resumeProducing()
        await app.ended
        self.assertEqual(len(app.heard), len(sent))
        self.assertEqual(app.heard == sent, True)
        while not app.lost.called:
            app.transport.write(b"x")
            await deferLater(self.reactor, 0.01)
        self.assertTrue(await app.lost)
        await self.clean()

    async def test_unread(self) -> None:
        """A reset by the proxy takes nothing from an app that reads slowly."""
        for size in (TAKEN, UNREAD):
            app, proxy, sent = await self.unread(size=size)
            proxy.transport.abortConnection()
            await self.isReset(app, sent)
            self.proxies.clear()

    async def test_unreadEnd(self) -> None:
        """A reset by the proxy after its end takes neither the end nor what came before."""
        for size in (TAKEN, UNREAD):
            app, proxy, sent = await self.unread(ends=True, size=size)
            proxy.transport.abortConnection()
            await proxy.lost
            app.transport.write(b"x")
            await self.ends(app, sent)
            self.proxies.clear()

    async def test_unreadWrite(self) -> None:
        """An app that writes to a proxy that has reset still gets what came before."""
        app, proxy, sent = await self.unread()
        proxy.transport.abortConnection()
        await proxy.lost
        for _ in range(3):
            app.transport.write(b"x")
            await deferLater(self.reactor, 0.01)
        await self.isReset(app, sent)

    async def test_unreadClose(self) -> None:
        """
        A proxy that closes takes nothing from an app that goes on to write; that is told by a
        reset then.
        """
        for size, finish in ((TAKEN, self.ends), (UNREAD, self.isReset)):
            app, proxy, sent = await self.unread(size=size)
            proxy.transport.loseConnection()
            await deferLater(self.reactor, 0.1)
            for _ in range(3):
                app.transport.write(b"x")
                await deferLater(self.reactor, 0.01)
            await finish(app, sent)
            self.proxies.clear()

    async def test_takesNothing(self) -> None:
        """An app that takes nothing is reset after a while."""
        self.patch(delivery, "PATIENCE", 0.2)
        app, proxy, sent = await self.unread()
        proxy.transport.abortConnection()
        await proxy.lost
        app.transport.write(b"x")
        await deferLater(self.reactor, 0.5)
        app.transport.resumeProducing()
        self.assertTrue(await app.lost)
        self.assertLess(len(app.heard), len(sent))
        await self.clean()

    async def test_leaves(self) -> None:
        """An app that is reset itself is not waited for."""
        app, proxy, _ = await self.unread(size=TAKEN)
        proxy.transport.abortConnection()
        await deferLater(self.reactor, 0.1)
        before = len(self.reactor.getDelayedCalls())
        app.transport.abortConnection()
        await app.lost
        await deferLater(self.reactor, 3 * delivery.LOOK)
        self.assertEqual(len(self.reactor.getDelayedCalls()), before - 1)
        await self.clean()

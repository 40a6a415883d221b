"""
The contracts, against the kernel's TUN device and the native library.

Not for the host's network: L{tests.contracts.test_fakes} runs this module in a network
namespace of its own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue, inlineCallbacks
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from nanotun.addresses import GATEWAY4, GATEWAY6, KERNEL6
from nanotun.engine.native import NativeEngine
from nanotun.engine.probe import offloadWorks
from nanotun.errors import DeviceError
from nanotun.flow import Endpoint
from nanotun.interfaces import IFlowRequest, ITunOpener
from nanotun.tun.device import LinuxTunOpener
from nanotun.tun.port import TunPort
from tests.contracts.dials import GREETING, REQUEST, DialContract, Far
from tests.contracts.native import ASSOCIATION_LIMIT, UDP_TIMEOUT, NativeDatagramContract
from tests.contracts.tunnel import App, TunOpenerContract, WaitingHandler

#: How often the tests look for an address of the kernel; each look takes a millisecond or
#: two.
LOOKS = 500


def ip(*arguments: str) -> str:
    """Run ip(8)."""
    done = subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


class LinuxTunTests(TunOpenerContract, TestCase):
    """
    L{LinuxTunOpener} with the kernel.
    """

    def makeOpener(self) -> ITunOpener:
        """The real one."""
        return LinuxTunOpener(offloadWorks)

    def test_configured(self) -> None:
        """
        The device is up with its addresses, and the kernel sends nothing of its own on it.
        """
        device = self.makeOpener().open("nantest0", 1400, "auto")
        self.addCleanup(device.close)
        shown = ip("address", "show", "dev", "nantest0")
        self.assertIn(",UP,", shown)
        self.assertIn("mtu 1400", shown)
        self.assertIn("qlen 4096", shown)
        self.assertIn("inet 198.18.0.2/30 ", shown)
        self.assertIn("inet6 fdfe:dcba:9876::2/126 ", shown)
        self.assertNotIn("fe80:", shown)
        self.assertNotIn("tentative", shown)

    def test_downAndUp(self) -> None:
        """
        The addresses survive if the link is set down and up again.
        """
        device = self.makeOpener().open("nantest0", 1500, "off")
        self.addCleanup(device.close)
        ip("link", "set", "nantest0", "down")
        ip("link", "set", "nantest0", "up")
        shown = ip("address", "show", "dev", "nantest0")
        self.assertIn("inet 198.18.0.2/30 ", shown)
        self.assertIn("inet6 fdfe:dcba:9876::2/126 ", shown)

    def test_closed(self) -> None:
        """
        Nothing is left of a closed device, nor of one that could not be made.
        """
        opener = self.makeOpener()
        # The first device loads the library, which has descriptors of its own.
        opener.open("nantest0", 1500, "auto").close()
        before = set(os.listdir("/proc/self/fd"))
        opener.open("nantest0", 1500, "auto").close()
        self.assertRaises(DeviceError, opener.open, "lo", 1500, "auto")
        # The kernel refuses this MTU only once the device exists.
        self.assertRaises(DeviceError, opener.open, "nantest1", 70000, "auto")
        self.assertNotIn("nantest", ip("link", "show"))
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)

    def test_withoutIPv6(self) -> None:
        """
        If IPv6 is disabled the device carries IPv4.
        """
        setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
        with open(setting, "w") as file:
            file.write("1")
        try:
            device = self.makeOpener().open("nantest0", 1500, "off")
        finally:
            with open(setting, "w") as file:
                file.write("0")
        self.addCleanup(device.close)
        shown = ip("address", "show", "dev", "nantest0")
        self.assertIn("inet 198.18.0.2/30 ", shown)
        self.assertNotIn("inet6", shown)


class SocketApp(App, Protocol):
    """An app with a socket of the kernel's."""

    def __init__(self) -> None:
        self.result: int | None = None
        self.data = b""
        self.waiting: list[tuple[int | None, Deferred[Any]]] = []

    def outcome(self) -> Deferred[int]:
        """See L{App.outcome}."""
        return self._wait(None)

    def read(self, count: int) -> Deferred[bytes]:
        """See L{App.read}."""
        return self._wait(count)

    def say(self, request: IFlowRequest, name: str) -> None:
        """See L{App.say}."""
        if not name:
            return

        def connected(result: int) -> int:
            assert self.transport is not None
            self.transport.write(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            return result

        self.outcome().addCallback(connected)

    def close(self) -> None:
        """See L{App.close}."""
        assert self.transport is not None
        self.transport.loseConnection()

    def _wait(self, count: int | None) -> Deferred[Any]:
        waiter: Deferred[Any] = Deferred()
        self.waiting.append((count, waiter))
        self._look()
        return waiter

    def _look(self) -> None:
        for count, waiter in self.waiting[:]:
            if count is None and self.result is not None:
                self.waiting.remove((count, waiter))
                waiter.callback(self.result)
            elif count is not None and len(self.data) >= count:
                self.waiting.remove((count, waiter))
                result, self.data = self.data[:count], self.data[count:]
                waiter.callback(result)

    def settle(self, result: int) -> None:
        """The connect is over."""
        self.result = result
        self._look()

    def connectionMade(self) -> None:
        """Connected."""
        self.settle(0)

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.data += data
        self._look()


class AppFactory(ClientFactory):
    """Makes one app's protocol."""

    noisy = False

    def __init__(self, app: SocketApp) -> None:
        self.app = app

    def buildProtocol(self, addr: object) -> Protocol:
        """The app."""
        return self.app

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Tell the app."""
        self.app.settle(getattr(reason.value, "osError", None) or errno.EIO)


class SocketFar(Far, Protocol):
    """The other side of a dial, with a socket of the kernel's."""

    def __init__(self, greeted: Callable[[SocketFar], None]) -> None:
        self.greeted = greeted
        self.data = b""
        self.lost: Deferred[None] = Deferred()

    def answer(self, data: bytes) -> None:
        """See L{Far.answer}."""
        assert self.transport is not None
        if data:
            self.transport.write(data)
        else:
            self.transport.loseConnection()

    def ended(self) -> Deferred[None]:
        """See L{Far.ended}."""
        return self.lost

    def dataReceived(self, data: bytes) -> None:
        """Wait for all of the greeting."""
        self.data += data
        if self.data == GREETING + REQUEST:
            self.greeted(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has ended."""
        self.lost.callback(None)


class NativeEngineContract(NativeDatagramContract, DialContract):
    """
    An engine on a TUN device of the kernel.
    """

    timeout = 10
    stackMode = "gvisor"
    engine: NativeEngine
    offload = "auto"

    def setUp(self) -> None:
        """A device, and routes through it to the programs' destinations."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.device = LinuxTunOpener(offloadWorks).open("nantest0", 1500, self.offload)
        # The kernel adds an IPv6 address in a worker thread, and until then drops
        # packets to it.
        for _ in range(LOOKS):
            if KERNEL6.partition("/")[0] in ip("-6", "route", "show", "table", "local"):
                break
        ip("route", "add", "192.0.2.0/24", "via", GATEWAY4)
        ip("-6", "route", "add", "2001:db8::/32", "via", GATEWAY6, "dev", "nantest0")
        ip("link", "set", "lo", "up")
        ip("route", "add", "198.51.100.0/24", "via", GATEWAY4)
        self.engine = NativeEngine(reactor, self.stackMode, UDP_TIMEOUT)
        self.engine.flowLimit = self.FLOW_LIMIT
        self.engine.associationLimit = ASSOCIATION_LIMIT
        self.ends = DeferredQueue()
        self.refusals = DeferredQueue()
        self.handler = WaitingHandler()
        self.engine.start(self.device, self.handler)
        self.port = TunPort(self.device, self.engine, reactor, lambda error: None)
        self.port.startReading()
        self.connectors: list[Any] = []
        self.fars: DeferredQueue[Far] = DeferredQueue()
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: SocketFar(self.fars.put)  # type: ignore[method-assign]
        self.listening: Any = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(self.finish)

    @inlineCallbacks
    def finish(self) -> Any:
        """Take it all away."""
        for connector in self.connectors:
            connector.disconnect()
        yield self.listening.stopListening()
        yield self.engine.stop()
        self.port.stopReading()
        self.device.close()

    def dial(self, destination: Endpoint) -> App:
        """See L{EngineContract.dial}."""
        app = SocketApp()
        self.connectors.append(
            self.reactor.connectTCP(destination.host, destination.port, AppFactory(app))
        )
        return app

    def farAddress(self) -> bytes:
        """See L{DialContract.farAddress}."""
        port: int = self.listening.getHost().port
        family = struct.pack("=H", socket.AF_INET)
        return family + struct.pack("!H4s8x", port, socket.inet_aton("127.0.0.1"))

    def far(self, app: App) -> Deferred[Far]:
        """See L{DialContract.far}."""
        return self.fars.get()

    def test_ping(self) -> Deferred[None]:
        """
        The gateway answers ping, IPv4 and IPv6.
        """
        from twisted.internet.utils import getProcessValue

        done = getProcessValue("ping", ["-c1", "-W2", GATEWAY4], os.environ)
        done.addCallback(self.assertEqual, 0)
        done.addCallback(
            lambda _: getProcessValue("ping", ["-6", "-c1", "-W2", GATEWAY6], os.environ)
        )
        done.addCallback(self.assertEqual, 0)
        return done


class GVisorTests(NativeEngineContract, TestCase):
    """
    The engine on gVisor's whole netstack.
    """


class SimpleTests(NativeEngineContract, TestCase):
    """
    The engine on the simple stack.
    """

    stackMode = "simple"


class PlainTests(NativeEngineContract, TestCase):
    """
    The engine on gVisor's netstack, without segmentation offload.
    """

    offload = "off"

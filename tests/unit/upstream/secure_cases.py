"""
A proxy inside TLS, on real sockets of the loopback interface.
"""

from __future__ import annotations

import ssl
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.plan_cases import PlanCase
from tests.unit.upstream.tls_cases import CA, TlsServer
from tests.unit.upstream.upstream_cases import Script, unmarkedContext


class SecureScript(Script):
    """
    A proxy inside TLS that follows a script.

    @ivar server: its side of TLS.
    """

    def __init__(self, answers: list[bytes], server: TlsServer) -> None:
        super().__init__(answers)
        self.server = server

    def dataReceived(self, data: bytes) -> None:
        """Send the next answer to what is inside."""
        before, transport = len(self.server.heard), self.transport
        assert transport is not None
        try:
            transport.write(self.server.receive(data))
        except ssl.SSLError:
            # The certificate is not trusted.
            transport.loseConnection()
        if self.server.ended:
            transport.loseConnection()
        self.heard = self.server.heard
        if len(self.heard) > before and self.answers:
            answer = self.answers.pop(0)
            if answer:
                transport.write(self.server.say(answer))
            else:
                transport.write(self.server.end())
                transport.loseConnection()


class SecureCase(PlanCase):
    """
    Upstreams whose proxy speaks TLS.
    """

    def secured(self, *scripts: tuple[bytes, ...]) -> int:
        """
        Listen, with the next script of a L{SecureScript} for each connection, the last again
        and again; returns the port.
        """
        left, first = list(scripts), TlsServer()

        def build(address: object) -> Script:
            answers = left.pop(0) if len(left) > 1 else left[0]
            script = SecureScript(list(answers), TlsServer(context=first.context))
            self.scripts.append(script)
            return script

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.hangUp)
        return int(port.getHost().port)

    def hangUp(self) -> Deferred[None]:
        """End what is left: the library closes its side in a thread of its own."""
        for script in self.scripts:
            transport: Any = script.transport
            if transport is not None:
                transport.abortConnection()
        return deferLater(self.reactor, 0, lambda: None)

    def makeSecure(
        self, port: int, text: str = "", options: str = f"?ca={CA}", **values: Any
    ) -> Any:
        """
        The upstream of a proxy.

        @param text: the user, with an at sign, before the host.
        @param values: of the context.
        """
        context = unmarkedContext(self.reactor)._replace(mark=0, **values)
        url = parseProxyURL(f"https://{text}127.0.0.1:{port}{options}")
        (upstream,) = upstreamsFor([url], context)
        return upstream

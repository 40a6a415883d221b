"""
Tests for L{nanotun.gateway.gateway.Gateway} with DNS servers over TLS.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import GATEWAY4
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.flow import Datagram, Endpoint
from nanotun.gateway import makeGateway
from nanotun.interfaces import DnsServer
from nanotun.testing import FakeUpstream
from nanotun.upstream.tlsstream import makeContext
from tests.unit.gateway.gateway_cases import FakeEngine, FakeReactor, ask, makeDatagram
from tests.unit.upstream.tls_cases import CA, CERTIFICATES


class CertificateTests(SynchronousTestCase):
    """What a reload does about certificates."""

    def test_changed(self) -> None:
        """
        A reload after which a file holds the same certificates changes nothing; one after which
        it holds others has the server asked on a new connection.
        """
        direct = FakeUpstream()
        ways: Any = {"direct": direct, "proxy": FakeUpstream()}
        engine: Any = FakeEngine()
        settings = replace(
            makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "http://h:1")}, None),
            dns=(DnsServer("tls", "192.0.2.1", 853, ca="/ca.pem"),),
            dnsStateFile="",
        )
        gateway = makeGateway(FakeReactor(), engine, settings, makeDatagram)
        self.addCleanup(gateway.stop)
        gateway.configure(settings, ways, contexts={("/ca.pem", "tls"): makeContext(CA)})
        gateway.start()
        for number, (path, dialled) in enumerate(
            ((CA, 1), (CA, 1), (str(CERTIFICATES / "proxy.pem"), 2))
        ):
            gateway.configure(settings, ways, contexts={("/ca.pem", "tls"): makeContext(path)})
            app, place = Endpoint("127.0.0.1", 40000), Endpoint(GATEWAY4, 53)
            engine.receiver([Datagram(app, place, ask(f"a{number}"))])
            self.assertEqual(len(direct.asked), dialled)

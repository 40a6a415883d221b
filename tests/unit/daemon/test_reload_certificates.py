"""
Tests for L{nanotun.daemon.reload}: the certificates of DNS servers.
"""

from __future__ import annotations

from nanotun.errors import ConfigError
from tests.unit.daemon.test_reload import LiveCase
from tests.unit.upstream.tls_cases import CA


class CertificatesTests(LiveCase):
    """What a reload does about files of certificates."""

    def test_certificates(self) -> None:
        """Certificates of DNS servers are read anew; if they cannot be read, nothing changes."""
        self.write(f"proxy: h:1\ndns: [{{server: 'tls://192.0.2.1', ca: {CA}}}]")
        self.live.reload()
        *_, contexts, _ = self.gateway.calls[-1]
        self.assertEqual(list(contexts), [(CA, "tls")])
        self.assertIs(self.live.current.contexts, contexts)
        before = self.inForce()
        self.write("proxy: h:1\ndns: [{server: 'tls://192.0.2.1', ca: /nowhere}]")
        error = self.assertRaises(ConfigError, self.live.reload)
        self.assertIn("check ca of the DNS server tls://192.0.2.1:853", str(error))
        self.assertEqual(self.inForce(), before)

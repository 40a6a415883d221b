"""
The checks of the schemes, with pooled connections.
"""

from __future__ import annotations

from tests.e2e.case import engines
from tests.e2e.lab import tlsfront
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.topology import IPV4
from tests.e2e.schemes import CREDENTIALS, SchemeChecks
from tests.e2e.test_schemes import ALL_REFUSED
from tests.e2e.test_schemes_http import HttpServers

SIZE = 8


class PooledCase(SchemeChecks):
    """A daemon with a pool."""

    def daemon(self, **settings: object) -> Daemon:
        """The same daemon, with a pool."""
        return super().daemon(upstreamPool=SIZE, **settings)


class PooledSocks5Checks(PooledCase):
    """Dante with a password."""

    noDatagrams = ""

    def proxyURL(self) -> str:
        return self.dante(auth=True).url()


class PooledSocks4Checks(PooledCase):
    """Dante as a SOCKS4 server."""

    families = (IPV4,)
    errors = ALL_REFUSED

    def proxyURL(self) -> str:
        return self.dante().url().replace("socks5:", "socks4:")


class PooledDigestChecks(HttpServers, PooledCase):
    """Squid with a password (Digest), whose nonces are soon used up."""

    halfClose = False
    forbids = True

    def proxyURL(self) -> str:
        return f"http://{CREDENTIALS}{IPV4.proxy}:{self.squid('digest', 20)}"


class PooledHttpsChecks(HttpServers, PooledCase):
    """Squid behind TLS."""

    halfClose = False
    forbids = True

    def proxyURL(self) -> str:
        shown = tlsfront.certificate(self.directory, None)
        return f"https://{IPV4.proxy}:{self.secured(self.squid(), shown)}?insecure=1"


engines(globals(), PooledSocks5Checks)
engines(globals(), PooledSocks4Checks)
engines(globals(), PooledDigestChecks)
engines(globals(), PooledHttpsChecks)
# Otherwise trial would run the base classes, too.
del SchemeChecks, PooledCase
del PooledSocks5Checks, PooledSocks4Checks, PooledDigestChecks, PooledHttpsChecks

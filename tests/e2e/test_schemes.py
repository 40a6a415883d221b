"""
The SOCKS schemes, each with a real server.
"""

from __future__ import annotations

import errno

from tests.e2e import schemes
from tests.e2e.case import engines
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.sshd import SshD, Sshd
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.lab.unixfront import UnixFront
from tests.e2e.schemes import HOST_PORT, NET_PORT, REFUSED_PORT

ALL_REFUSED = dict.fromkeys((REFUSED_PORT, HOST_PORT, NET_PORT), errno.ECONNREFUSED)
"""The errors if the proxy reports everything that goes wrong behind it in one way."""


class Socks5Checks(schemes.SchemeChecks):
    """Dante, reached by its IPv6 address."""

    noDatagrams = ""

    def proxyURL(self) -> str:
        return self.dante().url(IPV6)


class Socks5hChecks(schemes.SchemeChecks):
    """Dante with a password, reached by C{socks5h}."""

    noDatagrams = ""

    def proxyURL(self) -> str:
        return self.dante(auth=True).url().replace("socks5:", "socks5h:")


class PipelineChecks(schemes.SchemeChecks):
    """Dante with a password, with the whole handshake sent at once."""

    noDatagrams = ""

    def proxyURL(self) -> str:
        return self.dante(auth=True).url() + "?pipeline=1"


class Socks4Checks(schemes.SchemeChecks):
    """Dante as a SOCKS4 server, which has no IPv6 and only one code for all refusals."""

    families = (IPV4,)
    errors = ALL_REFUSED

    def proxyURL(self) -> str:
        return self.dante().url().replace("socks5:", "socks4:")


class MicrosocksChecks(schemes.SchemeChecks):
    """Microsocks with a password.  It supports neither UDP nor half-closes."""

    halfClose = False
    noDatagrams = "does not carry UDP"

    def proxyURL(self) -> str:
        proxy = Microsocks(self.lab.proxy, self.directory, auth=True)
        self.started(proxy)
        return proxy.url()


class UnixSocketChecks(schemes.SchemeChecks):
    """Dante behind a unix socket."""

    def proxyURL(self) -> str:
        front = UnixFront(
            self.lab.proxy,
            self.dante(internal=("127.0.0.1",)).port,
            self.directory / "socat.log",
        )
        self.addCleanup(front.stop)
        return f"socks5://{front.path}"


class SshCase(schemes.SchemeChecks):
    """C{ssh -D}, which closes the connection whatever goes wrong behind it."""

    programs = ("ssh", "sshd", "ssh-keygen")
    errors = ALL_REFUSED

    def _port(self) -> int:
        server = Sshd(self.lab.proxy, self.directory)
        self.started(server)
        return self.started(SshD(self.lab.proxy, self.directory, server)).port


class SshSocks5Checks(SshCase):
    """C{ssh -D} with SOCKS5.  It also closes a connection that asks for UDP."""

    noDatagrams = "closes the connection when it is asked for UDP"

    def proxyURL(self) -> str:
        return f"socks5://{IPV4.proxy}:{self._port()}"


class SshSocks4aChecks(SshCase):
    """C{ssh -D} with SOCKS4."""

    families = (IPV4,)

    def proxyURL(self) -> str:
        return f"socks4a://{IPV4.proxy}:{self._port()}"


engines(globals(), Socks5Checks)
engines(globals(), Socks5hChecks)
engines(globals(), PipelineChecks)
engines(globals(), Socks4Checks)
engines(globals(), MicrosocksChecks)
engines(globals(), UnixSocketChecks)
engines(globals(), SshSocks5Checks)
engines(globals(), SshSocks4aChecks)
# Otherwise trial would run the base classes, too.
del Socks5Checks, Socks5hChecks, PipelineChecks, Socks4Checks, MicrosocksChecks
del UnixSocketChecks, SshCase, SshSocks5Checks, SshSocks4aChecks

"""
Which certificates the DNS servers of a configuration are checked by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nanotun.config.askedservers import serversOf
from nanotun.config.settings import Settings
from nanotun.interfaces import DnsServer
from nanotun.interfaces.nameserver import ENCRYPTED

if TYPE_CHECKING:
    from ssl import SSLContext

#: What is agreed on inside TLS (RFC 7301), by the server's scheme.  Nothing for C{tls}: servers
#: that do not know C{dot} may refuse it.
PROTOCOLS = {"tls": "", "https": "h2"}

#: From a server's C{ca} and scheme to how TLS is spoken with it.
TlsContexts = Mapping[tuple[str, str], "SSLContext"]


def contextsFor(settings: Settings) -> TlsContexts:
    """
    Read the certificates that the servers' own are checked by.  Servers that trust the same
    share them: to read the system's takes tens of milliseconds.

    @raise nanotun.errors.ConfigError: a C{ca} cannot be read or holds no certificate.
    """
    servers = [each for each in serversOf(settings) if each.scheme in ENCRYPTED]
    if not servers:
        return {}
    # A start without such servers need not load OpenSSL and h2, and with them no query waits for
    # that.
    from nanotun.gateway.dns import tlstalk  # noqa: F401
    from nanotun.upstream.tlsstream import makeContext

    if any(each.scheme == "https" for each in servers):
        from nanotun.gateway.dns import http2  # noqa: F401

    contexts: dict[tuple[str, str], SSLContext] = {}
    for server in servers:
        key = keyOf(server)
        if key not in contexts:
            protocol = PROTOCOLS[server.scheme]
            given = f"ca of the DNS server {server}"
            contexts[key] = makeContext(
                server.ca, protocols=(protocol,) * bool(protocol), given=given
            )
    return contexts


def trusted(contexts: TlsContexts) -> object:
    """What differs if a file has other certificates than before."""
    return {key: context.get_ca_certs(True) for key, context in contexts.items() if key[0]}


def keyOf(server: DnsServer) -> tuple[str, str]:
    """A server's key in L{TlsContexts}."""
    return server.ca, server.scheme

"""
A DNS server, as the settings name it.
"""

from __future__ import annotations

from typing import NamedTuple

#: The port of each scheme, where none is written.
PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}

#: The schemes whose servers show a certificate.
ENCRYPTED = ("tls", "https")


class DnsServer(NamedTuple):
    """
    One server.

    @ivar scheme: C{udp} (TCP where needed), C{tcp}, C{tls} (RFC 7858), C{https} (RFC 8484), or
        C{system} for the servers that this machine uses itself.
    @ivar host: a literal address in its canonical form, or a name in lower case; empty for
        C{system}.
    @ivar port: 0 for C{system}.
    @ivar path: that of C{https}, with its query; empty for all others.
    @ivar name: what the certificate has to be for, a name or an address, if that is not the
        host.
    @ivar addresses: literal addresses of a host that is a name.
    @ivar via: the upstream that it is asked through, or C{direct}; empty for that of C{dnsVia}.
    @ivar ca: the path of a file with the certificates to trust; empty for the system's.
    @ivar domains: it is asked only for these names and all below them; empty for every name.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""
    addresses: tuple[str, ...] = ()
    via: str = ""
    ca: str = ""
    domains: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it is written in the settings; the port is left out for C{https} on 443 only."""
        if self.scheme == "system":
            return "system"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme == "udp":
            return f"{host}:{self.port}"
        port = "" if self.scheme == "https" and self.port == PORTS["https"] else f":{self.port}"
        name = f"#{self.name}" if self.name else ""
        return f"{self.scheme}://{host}{port}{self.path}{name}"

    @property
    def literal(self) -> bool:
        """Whether the host is an address."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    @property
    def certifiedName(self) -> str:
        """The name or address that its certificate has to be for."""
        return self.name or self.host

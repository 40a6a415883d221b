"""
A second real DNS server that speaks TLS and HTTPS: dnsdist, in front of another server.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.lab.nameserver import HTTPS_PORT, PATH, PORT, TLS_PORT
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.servers import Server
from tests.e2e.lab.tlsfront import Certificate

_OWN_PORT = 5300
"""Where it also answers in plain; nobody else in the namespace has this port, so it shows that
it is up."""

_CONFIG = """\
setACL({{"0.0.0.0/0", "::/0"}})
setSecurityPollSuffix("")
{more}
newServer("{behind}:{port}"):setUp()
addTLSLocal("{host}:{tls}", "{cert}", "{key}")
addDOHLocal("{host}:{https}", "{cert}", "{key}", "{path}", {{serverTokens=""}})
setLocal("127.0.0.1:{own}")
"""


class Dnsdist(Server):
    """Dnsdist 1.7 or newer; older ones speak no HTTPS."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        host: str,
        behind: str,
        shown: Certificate,
        each: int = 0,
    ) -> None:
        """
        @param host: the IPv4 address to listen on.
        @param behind: the host whose plain server it asks.
        @param each: after how many queries, or one more, it closes a connection; 0 for never.
        """
        config = directory / f"dnsdist-{host}.conf"
        config.write_text(
            _CONFIG.format(
                host=host,
                behind=behind,
                port=PORT,
                tls=TLS_PORT,
                https=HTTPS_PORT,
                cert=shown.cert,
                key=shown.key,
                path=PATH,
                own=_OWN_PORT,
                more=f"setMaxTCPQueriesPerConnection({each})" if each else "",
            )
        )
        argv = ["dnsdist", "--supervised", "--disable-syslog", "-C", str(config)]
        super().__init__(namespace, argv, _OWN_PORT, directory / f"dnsdist-{host}.log")

"""
The base class of the tests of DNS servers that are asked over TLS and HTTPS.
"""

from __future__ import annotations

import time

from tests.e2e.lab import tlsfront, toydns
from tests.e2e.lab.baddns import NAME
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.nameserver import PATH, Unbound
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import IPV4, IPV6, Family
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_dns import NOWHERE, DNSCase

SCHEMES = ("tls", "https")

NAMES = (f"DNS:{NAME}", f"IP:{IPV4.world}", f"IP:{IPV6.world}", f"IP:{IPV4.direct}")
"""What the servers' certificate is for."""


class EncryptedCase(DNSCase, ProgramsCase):
    """
    A direct path to the servers is open in every test, so that a leak would succeed, and is
    watched.

    @ivar shown: the servers' certificate.
    """

    seconds = 90
    programs: tuple[str, ...] = ("openssl", "tcpdump")

    def setUp(self) -> None:
        """Open the path, and make the certificates."""
        super().setUp()
        self.lab.openDirectPath()
        self.ca = tlsfront.authority(self.directory)
        self.shown = tlsfront.certificate(self.directory, self.ca, NAMES, "dns")
        self._daemon: Daemon | None = None

    def unbound(self, *hosts: str) -> Unbound:
        """Start a server that answers over TLS and HTTPS, and nothing else."""
        return self.nameServer(*hosts, shown=self.shown, plain=False)

    def entry(
        self, scheme: str, family: Family = IPV4, host: str = "", port: int = 0, **more: object
    ) -> dict[str, object]:
        """An entry of C{dns}: the server of a family or a host, whose certificate is checked."""
        host = host or family.world
        place = f"[{host}]" if ":" in host else host
        place += f":{port}" if port else ""
        path = PATH if scheme == "https" else ""
        return {"server": f"{scheme}://{place}{path}#{NAME}", "ca": str(self.ca.cert), **more}

    def asking(self, *servers: object, **settings: object) -> Daemon:
        """Have the daemon ask these servers: start it, or reload it."""
        given: dict[str, object] = {"proxy": NOWHERE, "dnsCache": False, "dns": list(servers)}
        given |= settings
        if self._daemon is None:
            self._daemon = self.daemon(**given)
            return self._daemon
        directory = self._daemon.directory
        writeConfig(directory, {"stackMode": self.stackMode, **given})
        done = say("reload", "--run-dir", str(directory / "run"))
        self.assertEqual(done.returncode, 0, done.stderr)
        return self._daemon

    def watch(self, *what: str) -> Tcpdump:
        """Watch what leaves past the proxies from now on; by default all that may be DNS."""
        watch = Tcpdump(
            self.lab.app, self.directory, "up0", *(what or ("port 53 or port 853 or port 443",))
        )
        self.addCleanup(watch.stop)
        return watch

    def assertFinds(
        self, name: str = "host.lab", data: str = "10.1.2.3", what: object = ""
    ) -> None:
        """The relay knows a name's address."""
        got = self.ask(name, "A", wait=10)
        self.assertEqual((what, got.status, got.data), (what, "NOERROR", [data]))

    def elapsed(self, *names: str) -> float:
        """The seconds until all names are answered that the app asks for at once."""
        app = self.datagrams(53, IPV4.gateway)
        began = time.monotonic()
        for number, name in enumerate(names):
            app.send(toydns.query(name, number))
        for _ in names:
            app.recv(4096)
        return time.monotonic() - began

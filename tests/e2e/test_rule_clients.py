"""
Rules about names, by programs with ways of their own: Chromium, git and dig.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial

from tests.e2e.case import engines
from tests.e2e.lab.process import PATIENCE, Child, run, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import FAMILIES, Family
from tests.e2e.lab.udp import sink
from tests.e2e.rules_case import HTTPS, OFFICE, USUAL, RulesCase, addressOf

CORP, OTHER = OFFICE[1], USUAL[0]

GIT_PORT, GIT_TLS_PORT = 8000, 8443

IDENTITY = ("-c", "user.name=lab", "-c", "user.email=lab@lab.example")


def connects(proxy: Dante) -> int:
    """How many connections a proxy has opened."""
    return len(proxy.connects())


class ClientChecks(RulesCase):
    """Real clients whose flows have names."""

    programs = (*RulesCase.programs, "chromium", "dig", "git")

    def chromium(self, name: str, *options: str) -> list[str]:
        """A command that shows a page of the web server."""
        return [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--ignore-certificate-errors",
            f"--user-data-dir={self.directory}/chromium",
            *options,
            "--dump-dom",
            f"https://{name}/peer",
        ]

    def unasked(self, family: Family, name: str) -> str:
        """An option of Chromium for a name that it asks nobody about."""
        address = addressOf(name, family)
        host = f"[{address}]" if ":" in address else address
        return f"--host-resolver-rules=MAP {name} {host},MAP * ~NOTFOUND"

    @contextlib.contextmanager
    def allBy(self, name: str, count: Callable[[Dante], int]) -> Iterator[None]:
        """Meanwhile only the proxy that a name belongs to is asked for anything."""
        proxies = [self.office, self.usual] if name == CORP else [self.usual, self.office]
        before = [count(proxy) for proxy in proxies]
        yield
        asked, others = (count(proxy) - old for proxy, old in zip(proxies, before, strict=True))
        self.assertGreater(asked, 0, name)
        self.assertEqual(others, 0, name)

    def test_browser(self) -> None:
        """Chromium's ClientHello, which is longer than a packet, has the name."""
        witness = self.witness()
        daemon = self.ruled(sniff=True)
        for family in FAMILIES:
            for name in (CORP, OTHER):
                with self.allBy(name, connects):
                    argv = self.chromium(name, self.unasked(family, name))
                    done = self.lab.app.run(argv, timeout=40, check=False)
                self.assertIn("127.0.0.1", done.stdout, name)
        self.assertEqual(witness.destinations(), {})
        self.assertEndsWell(daemon)

    def test_browserAsks(self) -> None:
        """What Chromium's own resolver was answered is the name, too."""
        witness = self.witness()
        for mode in ("fake-ip", "normal"):
            daemon = self.ruled(dnsMode=mode)
            for name in (CORP, OTHER):
                with self.allBy(name, connects):
                    done = self.app(*self.chromium(name), timeout=40)
                self.assertIn("127.0.0.1", done.stdout, f"{mode} {name}")
            self.assertEndsWell(daemon)
        self.assertEqual(witness.destinations(), {})

    def test_quic(self) -> None:
        """The first datagrams of QUIC have the name, and reach the server by its proxy."""
        witness = self.witness()
        daemon = self.ruled(sniff=True)
        for family in FAMILIES:
            for name in (CORP, OTHER):
                server = self.udpServer(sink, family, addressOf(name, family), HTTPS)
                forced = ("--enable-quic", f"--origin-to-force-quic-on={name}:{HTTPS}")
                argv = self.chromium(name, self.unasked(family, name), *forced)
                with self.allBy(name, self.asked):
                    child = Child(self.lab.app.argv(argv), self.directory / "chromium.log")
                    self.addCleanup(child.stop)
                    waitUntil(partial(len, server.heard), PATIENCE, "a datagram")
                    child.stop()
                first, source = server.heard[0]
                # An Initial packet of QUIC, version 1 or 2, in a datagram of full size.
                self.assertEqual(first[0] & 0xC0, 0xC0)
                self.assertGreaterEqual(len(first), 1200)
                self.assertEqual(source[0], family.proxyOutside)
                server.stop()
        self.assertEqual(witness.destinations(), {})
        self.assertEndsWell(daemon)

    def repository(self) -> None:
        """Serve a repository with one file by https."""
        tree, served = self.directory / "tree", self.directory / "served"
        served.mkdir()
        run(["git", "init", "-q", str(tree)])
        (tree / "file").write_text("content\n")
        run(["git", "-C", str(tree), "add", "file"])
        run(["git", "-C", str(tree), *IDENTITY, "commit", "-q", "-m", "add a file"])
        run(["git", "clone", "-q", "--bare", str(tree), str(served / "tree.git")])
        run(["git", "-C", str(served / "tree.git"), "update-server-info"])
        argv = [sys.executable, "-m", "http.server", str(GIT_PORT), "--directory", str(served)]
        log = self.directory / "http.log"
        self.started(Server(self.lab.world, [*argv, "--bind", "::"], GIT_PORT, log))
        self.tlsFront(GIT_TLS_PORT, GIT_PORT)

    def test_git(self) -> None:
        """git clones by https from a name that its resolver was told, or that nobody was."""
        self.repository()
        witness = self.witness()
        daemon = self.ruled(dnsMode="fake-ip")
        self.clone("by-fake-ip")
        self.assertEndsWell(daemon)
        daemon = self.ruled(sniff=True, sniffPorts=[GIT_TLS_PORT])
        for family in FAMILIES:
            resolve = self.hidden(CORP, family, GIT_TLS_PORT)[1]
            self.clone(f"by-{family.name}", "-c", f"http.curloptResolve={resolve}")
        self.assertEqual(witness.destinations(), {})
        self.assertEndsWell(daemon)

    def clone(self, to: str, *options: str) -> None:
        """Clone through the second proxy."""
        path = self.directory / to
        url = f"https://{CORP}:{GIT_TLS_PORT}/tree.git"
        # Its TLS library takes no such certificates.
        options = ("-c", "http.sslVerify=false", *options)
        with self.allBy(CORP, connects):
            done = self.app("git", *options, "clone", "-q", url, str(path))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual((path / "file").read_text(), "content\n")

    def test_dig(self) -> None:
        """dig +tcp asks a server that it knows by name through that name's proxy."""
        self.nameServer(*(addressOf(name, each) for name in (CORP, OTHER) for each in FAMILIES))
        for mode in ("normal", "fake-ip"):
            daemon = self.ruled(dnsMode=mode)
            for family in FAMILIES:
                for name in (CORP, OTHER):
                    argv = ("dig", family.option, "+tcp", "+short", "+tries=1", f"@{name}")
                    with self.by(name):
                        done = self.app(*argv, "host.lab", "A")
                    self.assertEqual(done.stdout, "10.1.2.3\n", f"{mode} {name} {family.name}")
            self.assertEndsWell(daemon)


engines(globals(), ClientChecks)
# Otherwise trial would run the base class, too.
del ClientChecks

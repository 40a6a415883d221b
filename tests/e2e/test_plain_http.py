"""
Plain http through real proxies that forbid CONNECT to port 80.
"""

from __future__ import annotations

import hashlib
import socket
import sys

from tests.e2e.case import engines
from tests.e2e.lab import curl, tlsfront
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.httpproxies import FORBIDDEN, TINYPROXY_PASSWORD, Squid, Tinyproxy
from tests.e2e.lab.nameserver import PORT, ask
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError, run, waitUntil
from tests.e2e.lab.proxies import PASSWORD, USER
from tests.e2e.lab.servers import Server, WebServer
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, Family
from tests.e2e.schemes import CREDENTIALS, SAID
from tests.e2e.test_names import FAKES, NAME, world
from tests.e2e.test_schemes_http import TINYPROXY_CREDENTIALS, HttpServers

LENGTH = 20_000_000
"""Bytes of an upload."""

CHUNKED = ("-H", "Transfer-Encoding: chunked")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def hears(connection: socket.socket) -> bytes:
    """Answer one request, whose head is returned."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    connection.sendall(ANSWER)
    return head


class PlainHttpChecks(HttpServers):
    """
    What works through them, and what the user is told of the rest.
    """

    seconds = 120
    programs = ("apt-get", "curl", "openssl", "squid", "stunnel", "tcpdump", "tinyproxy", "wget")

    def stockSquid(self, auth: str = "", hosts: str = "") -> int:
        """Start squid with its own rules about ports; return its port."""
        made = Squid(self.lab.proxy, self.directory, auth, portRule=True, hosts=hosts)
        return self.started(made).port

    def strictTinyproxy(self, auth: bool = False, port: int = 8888) -> int:
        """Start a tinyproxy that allows CONNECT to port 443 only; return its port."""
        made = Tinyproxy(self.lab.proxy, self.directory, auth, port, portRule=True)
        return self.started(made).port

    def web(self) -> WebServer:
        """Start a web server on the world's port 80."""
        return self.started(WebServer(self.lab.world, self.directory, 80))

    def assertTwoFiles(self, family: Family, connects: int) -> None:
        """curl gets two files, over so many connections."""
        url = family.url(80, "/peer")
        said = curl.get(self.lab.app, url, "-w", "|%{num_connects} ", url)
        peer = family.proxyOutside
        self.assertEqual(said, f"{peer}|1 {peer}|{connects - 1} ")

    def assertTransfers(self, app: Namespace, family: Family) -> None:
        """Bodies arrive whole, up with a length and in chunks, and down by curl and wget."""
        for options in ((), CHUNKED):
            sent = curl.upload(app, family.url(80, "/upload"), LENGTH, *options)
            self.assertTrue(sent.whole, sent.error)
        got = curl.download(app, family.url(80, f"/bytes/{LENGTH}"), LENGTH)
        self.assertTrue(got.whole, got.error)
        url = family.url(80, "/peer")
        done = run(app.argv(["wget", "-qO-", "--no-proxy", url, url]))
        self.assertEqual(done.stdout, family.proxyOutside * 2)

    def said(self, daemon: Daemon) -> list[str]:
        """The sentences about destinations, which stand in file and output alike."""
        lines = daemon.log().splitlines()
        return list(dict.fromkeys(line.partition(f"{SAID} ")[2] for line in lines if SAID in line))

    def test_squid(self) -> None:
        """
        Through squid as it is delivered two files come over one connection, and bodies arrive
        whole, by IPv4 and IPv6; nothing leaves but to the proxy.
        """
        self.web()
        port = self.stockSquid()
        daemon = self.daemon(proxy=f"http://{IPV4.proxy}:{port}")
        witness = Tcpdump(self.lab.app, self.directory, "up0", "tcp or udp")
        self.addCleanup(witness.stop)
        for family in FAMILIES:
            self.assertTwoFiles(family, 1)
            self.assertTransfers(self.lab.app, family)
        self.assertEqual(set(witness.destinations()), {f"{IPV4.proxy}.{port}"})
        found = {line for line in daemon.log().splitlines() if "requests to a proxy" in line}
        self.assertEqual(len(found), 1, daemon.log())
        self.assertEqual(self.said(daemon), [])

    def test_tinyproxy(self) -> None:
        """
        Through a tinyproxy that allows CONNECT to port 443 only, which closes after each
        answer, files and bodies arrive whole.
        """
        self.web()
        port = self.strictTinyproxy()
        self.daemon(proxy=f"http://[{IPV6.proxy}]:{port}")
        for family in FAMILIES:
            self.assertTwoFiles(family, 2)
            self.assertTransfers(self.lab.app, family)

    def test_apt(self) -> None:
        """
        apt-get updates from a repository and downloads eight packages, which it asks for in
        pipelines, through squid and through a tinyproxy that closes after each answer.
        """
        repository = self.directory / "repository"
        repository.mkdir()
        names, index = [f"nanotest{number}" for number in range(8)], ""
        for number, name in enumerate(names):
            body = name.encode() * (1000 + number)
            (repository / f"{name}.deb").write_bytes(body)
            index += (
                f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\n"
                f"Filename: ./{name}.deb\nSize: {len(body)}\n"
                f"SHA256: {hashlib.sha256(body).hexdigest()}\nDescription: x\n\n"
            )
        (repository / "Packages").write_text(index)
        argv = [sys.executable, "-m", "http.server", "--bind", "::", "--protocol", "HTTP/1.1"]
        argv += ["--directory", str(repository), "80"]
        self.started(Server(self.lab.world, argv, 80, self.directory / "repository.log"))
        squid, tinyproxy = self.stockSquid(), self.strictTinyproxy()
        for port, family in ((squid, IPV4), (squid, IPV6), (tinyproxy, IPV4), (tinyproxy, IPV6)):
            daemon = self.daemon(proxy=f"http://{IPV4.proxy}:{port}")
            own = self.directory / f"apt-{port}-{family.name}"
            for each in ("lists/partial", "cache/archives/partial", "etc", "got"):
                (own / each).mkdir(parents=True)
            (own / "status").touch()
            (own / "sources").write_text(f"deb [trusted=yes] {family.url(80, '/')} ./\n")
            (own / "conf").write_text(
                f'Dir::Etc "{own}/etc"; Dir::Etc::SourceList "{own}/sources";\n'
                f'Dir::State "{own}"; Dir::State::Lists "{own}/lists";\n'
                f'Dir::State::status "{own}/status"; Dir::Cache "{own}/cache";\n'
                'APT::Sandbox::User "root"; Acquire::Retries "0"; Acquire::Languages "none";\n'
            )
            apt = self.lab.app.argv(["env", "-C", f"{own}/got", f"APT_CONFIG={own}/conf"])
            run([*apt, "apt-get", "update"], 30)
            run([*apt, "apt-get", "download", *names], 30)
            for name in names:
                (found,) = (own / "got").glob(f"{name}_*.deb")
                self.assertEqual(found.read_bytes(), (repository / f"{name}.deb").read_bytes())
            self.assertEndsWell(daemon)

    def test_https(self) -> None:
        """The same with TLS to the proxy."""
        self.web()
        ca = tlsfront.authority(self.directory)
        port = self.secured(self.stockSquid("basic"), tlsfront.certificate(self.directory, ca))
        self.daemon(proxy=f"https://{CREDENTIALS}{IPV4.proxy}:{port}?ca={ca.cert}")
        for family in FAMILIES:
            self.assertTwoFiles(family, 1)
        self.assertTransfers(self.lab.app, IPV6)

    def test_password(self) -> None:
        """
        Where the proxy wants a password every request is let in, and the web server never
        sees it: not even where the proxy wants none and passes on what it gets.
        """
        squid, strict = self.stockSquid("basic"), self.strictTinyproxy(auth=True)
        open_ = self.strictTinyproxy(port=8889)
        for url in (
            f"http://{CREDENTIALS}{IPV4.proxy}:{squid}",
            f"http://{TINYPROXY_CREDENTIALS}{IPV4.proxy}:{strict}",
            f"http://{CREDENTIALS}{IPV4.proxy}:{open_}?pipeline=1",
        ):
            daemon = self.daemon(proxy=url)
            peer = self.peer(hears, port=80)
            for family in FAMILIES:
                self.assertEqual(curl.get(self.lab.app, family.url(80, "/x")), "ok")
                head = peer.results.get(timeout=PATIENCE)
                assert isinstance(head, bytes)
                self.assertTrue(head.startswith(b"GET /x HTTP/1."), head)
                self.assertNotIn(b"authorization", head.lower())
            peer.stop()
            for secret in (PASSWORD, TINYPROXY_PASSWORD):
                self.assertNotIn(secret, daemon.log())
            self.assertEndsWell(daemon)
        self.web()
        self.daemon(proxy=f"http://{CREDENTIALS}{IPV4.proxy}:{squid}")
        self.assertTwoFiles(IPV6, 1)

    def test_notHttp(self) -> None:
        """
        TLS, a greeting of SSH and a WebSocket on port 80 are reset, each with one line that
        names the destination and the proxy.
        """
        self.web()
        url = f"http://{IPV4.proxy}:{self.stockSquid()}"
        daemon = self.daemon(proxy=url)
        for family in FAMILIES:
            error = self.assertRaises(
                LabError, curl.get, self.lab.app, family.url(80, "/").replace("http", "https")
            )
            self.assertIn("reset", str(error).lower())
            for sent in (
                b"SSH-2.0-OpenSSH_9.2\r\n",
                b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ):
                with self.lab.app.connect((family.world, 80), 10.0) as sock:
                    sock.sendall(sent)
                    self.assertRaises(ConnectionResetError, sock.recv, 1)
        waitUntil(lambda: len(self.said(daemon)) >= 5, PATIENCE, "the lines")
        begins = "The connection to {} was reset: the proxy " + url + " forbids CONNECT to port 80"
        for family in FAMILIES:
            where = f"[{family.world}]:80" if family is IPV6 else f"{family.world}:80"
            lines = [line for line in self.said(daemon) if line.startswith(begins.format(where))]
            self.assertEqual(
                [line.partition("the app ")[2].split(";")[0] for line in lines],
                [
                    "sent something else",
                    "asked to change to another protocol, as WebSocket does",
                    "asked there for another port or address (Host)",
                ][: len(lines)],
            )
            self.assertGreaterEqual(len(lines), 2)

    def test_forbidden(self) -> None:
        """
        A destination that the proxy forbids on every port is refused as before, and so is
        each where the log-in is by Digest, with a sentence about that.
        """
        daemon = self.daemon(proxy=f"http://{IPV4.proxy}:{self.stockSquid()}")
        for family in FAMILIES:
            self.assertRaises(
                ConnectionRefusedError, self.lab.app.connect, (FORBIDDEN[family], 80), 10.0
            )
        waitUntil(lambda: len(self.said(daemon)) == 2, PATIENCE, "the lines")
        self.assertIn("does not allow connections to 10.77.9.9:80", self.said(daemon)[0])

    def test_digest(self) -> None:
        """
        With a log-in by Digest the app is refused, and one line says why and what to do.
        """
        self.web()
        port = self.stockSquid("digest")
        daemon = self.daemon(proxy=f"http://{CREDENTIALS}{IPV4.proxy}:{port}")
        for family in FAMILIES:
            self.assertRaises(
                ConnectionRefusedError, self.lab.app.connect, (family.world, 80), 10.0
            )
        waitUntil(lambda: self.said(daemon), PATIENCE, "the line")
        self.assertEqual(
            self.said(daemon),
            [
                f"The proxy http://{USER}:***@{IPV4.proxy}:{port} forbids CONNECT to port 80 "
                "(status 403) and wants a log-in by Digest, with which nanotun cannot send plain "
                "http; allow CONNECT to port 80 in the proxy's configuration, or let it offer "
                "Basic alone."
            ],
        )

    def test_byName(self) -> None:
        """
        A flow to a fake address asks the proxy for the name, also where the request names no
        host or the fake address.
        """
        web = self.web()
        port = self.stockSquid(hosts=f"{IPV4.world} {NAME}\n")
        self.lab.openDirectPath()
        self.udpServer(world, IPV4, IPV4.world, PORT)
        state = self.directory / "fakeip.json"
        self.daemon(
            proxy=f"http://{IPV4.proxy}:{port}",
            dns=[IPV4.world],
            dnsMode="fake-ip",
            dnsStateFile=str(state),
        )
        for family, kind in ((IPV4, "A"), (IPV6, "AAAA")):
            fake = FAKES[family]
            self.assertEqual(ask(self.lab.app, IPV4.gateway, NAME, kind).data, [fake])
            url = f"http://{NAME}/peer"
            resolve = f"{NAME}:80:{fake}"
            said = curl.get(self.lab.app, url, "--resolve", resolve)
            self.assertEqual(said, IPV4.proxyOutside)
            self.assertEqual(curl.get(self.lab.app, family.url(80, "/peer", fake)), said)
            self.assertEqual(
                curl.get(self.lab.app, url, "--resolve", resolve, "-0", "-H", "Host:"), said
            )
        self.assertEqual(len(web.requests()), 6)


engines(globals(), PlainHttpChecks)
# Otherwise trial would run the base class, too.
del PlainHttpChecks

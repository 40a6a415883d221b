"""
C{nanotun dns}, C{nanotun status} and C{nanotun doctor}: what they say of the relay's steps and of
its servers.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

from tests.e2e.dns_case import EncryptedCase
from tests.e2e.lab import tlsfront, udp
from tests.e2e.lab.baddns import NAME
from tests.e2e.lab.console import nanotun, say
from tests.e2e.lab.daemon import Daemon, environment, writeConfig
from tests.e2e.lab.nameserver import PATH, TTL
from tests.e2e.lab.topology import IPV4


class CommandTests(EncryptedCase):
    """One daemon, whose settings change.  It makes no difference which engine runs."""

    def command(self, daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
        """Run C{nanotun}, for this daemon."""
        return say(*words, "--run-dir", str(daemon.directory / "run"))

    def dns(self, daemon: Daemon, *words: str, status: int = 0) -> list[str]:
        """The lines of C{nanotun dns}."""
        done = self.command(daemon, "dns", *words)
        self.assertEqual((done.returncode, done.stderr), (status, ""), done.stdout)
        return done.stdout.splitlines()

    def found(self, daemon: Daemon, *words: str, status: int = 0) -> dict[str, Any]:
        """What C{nanotun dns --json} says of one type."""
        (line,) = self.dns(daemon, "--json", *words, status=status)
        report: dict[str, Any] = json.loads(line)
        return report

    def asked(self, daemon: Daemon) -> list[dict[str, Any]]:
        """What C{nanotun status --json} says of the servers."""
        servers: list[dict[str, Any]] = json.loads(self.command(daemon, "status", "--json").stdout)[
            "dns"
        ]["asked"]
        return servers

    def test_server(self) -> None:
        """
        An answer of a server, and the same from the cache: in text and in JSON, each with the
        server and its way; status counts both.
        """
        self.unbound(IPV4.world)
        place = f"tls://{IPV4.world}:853#{NAME}"
        settings = {"proxy": self.dante().url(), "dnsVia": "proxy", "dnsCache": True}
        daemon = self.asking(self.entry("tls"), **settings)
        first = self.dns(daemon, "host.lab", "a")
        self.assertEqual(
            first[:3],
            [
                "host.lab A",
                f"  NOERROR  10.1.2.3 ({TTL} s)",
                f"  by       {place}, through the proxy",
            ],
        )
        self.assertRegex(first[3], r"^  took     [0-9.]+ m?s$")
        again = self.dns(daemon, "host.lab", "A")
        self.assertRegex(again[2], rf"^  by       the cache, [0-9] s old; {place} gave it$")
        # What the C library asks for a program has put it there as well.
        self.ask("+noedns", "+noadflag", "any.lab", "A")
        report = self.found(daemon, "any.lab", "A")
        self.assertEqual((report["stage"], report["cached"], report["tries"]), ("cache", True, []))
        self.assertEqual((report["server"], report["via"]), (place, "proxy"))
        (server,) = self.asked(daemon)
        self.assertEqual((server["server"], server["via"], server["state"]), (place, "proxy", "up"))
        counts = server["queries"], server["answers"], server["errors"], server["hits"]
        self.assertEqual((counts, server["trouble"]), ((2, 2, 0, 2), ""))
        self.assertTrue(0 < server["latency"] < 2, server)
        text = " ".join(self.command(daemon, "status").stdout.split())
        self.assertRegex(
            text, f" {place} through the proxy: up, [0-9]+ ms, 2 asked, 2 from the cache "
        )

    def test_types(self) -> None:
        """Without a type there are two answers; a denial is one, and large answers are whole."""
        self.unbound(IPV4.world)
        daemon = self.asking(self.entry("https"))
        lines = [json.loads(line) for line in self.dns(daemon, "host.lab", "--json")]
        records = [(each["type"], each["records"][0]["data"]) for each in lines]
        self.assertEqual(records, [("A", "10.1.2.3"), ("AAAA", "fd00::123")])
        report = self.found(daemon, "big.lab", "TXT")
        self.assertEqual((report["status"], len(report["records"])), ("NOERROR", 10))
        self.assertEqual(self.found(daemon, "absent.lab", "MX")["status"], "NXDOMAIN")
        self.assertIn("  NOERROR  no data", self.dns(daemon, "host.lab", "MX"))
        self.assertIn("  NXDOMAIN there is no such name", self.dns(daemon, "absent.lab", "A"))

    def test_failing(self) -> None:
        """
        Servers that fail are named with what is wrong, before the one that answers, or alone
        with status 1; status says so of each, too.
        """
        self.toy(udp.sink, IPV4.direct)
        self.unbound(IPV4.world)
        wrong = f"tls://{IPV4.world}:9#{NAME}"
        silent = f"{IPV4.direct}:53"
        failing = (IPV4.direct, self.entry("tls", port=9))
        daemon = self.asking(*failing, self.entry("tls"))
        lines = self.dns(daemon, "host.lab", "A")
        self.assertEqual(lines[2], f"  asked    {silent}, past the proxy: no answer (1.5 s)")
        self.assertIn(f"           {wrong}, past the proxy: cannot be reached: ", lines[3])
        self.assertIn(f"  by       tls://{IPV4.world}:853#{NAME}, past the proxy", lines)
        self.asking(*failing)
        lines = self.dns(daemon, "host.lab", "A", status=1)
        self.assertEqual(lines[1], "  SERVFAIL no server answered")
        self.assertIn("  by       nobody", lines)
        report = self.found(daemon, "host.lab", "A", status=1)
        self.assertEqual((report["stage"], report["server"]), ("server", ""))
        self.assertEqual({each["server"] for each in report["tries"]}, {silent, wrong})
        self.assertTrue(all(each["trouble"] for each in report["tries"]), report)
        first, second = self.asked(daemon)
        self.assertEqual((first["state"], first["latency"]), ("down", None))
        self.assertEqual(first["trouble"], f"The DNS server {silent} does not answer.")
        self.assertIn(f"The DNS server {wrong} cannot be reached", second["trouble"])
        self.assertIn(f"{silent}: down", self.command(daemon, "status").stdout)

    def test_rules(self) -> None:
        """
        A rule is named that gives the answer, rejects the name or has servers of its own; status
        has those, too.
        """
        self.unbound(IPV4.world)
        self.nameServer(IPV4.direct)
        rules = [
            {"domains": ["any.lab"], "servers": [IPV4.direct]},
            {"domains": ["printer.lab"], "answer": "10.7.7.7"},
        ]
        daemon = self.asking(
            self.entry("tls"),
            dnsRules=rules,
            rules=[{"domains": ["ads.lab"], "to": "reject"}],
            dnsRejected="refuse",
        )
        tls, plain = f"tls://{IPV4.world}:853#{NAME}", f"{IPV4.direct}:53"
        for name, status, stage, server, rule in (
            ("host.lab", "NOERROR", "server", tls, ""),
            ("a.any.lab", "NOERROR", "server", plain, "dnsRules 1"),
            ("printer.lab", "NOERROR", "rule", "", "dnsRules 2"),
            ("x.ads.lab", "REFUSED", "rejected", "", "rule 1"),
        ):
            report = self.found(daemon, name, "A", status=int(status == "REFUSED"))
            said = report["status"], report["stage"], report["server"]
            self.assertEqual(said, (status, stage, server), name)
            where = rf"{rule} \({daemon.directory}/nanotun.yaml, line [0-9]+\)" if rule else ""
            self.assertRegex(report["rule"], rf"\A{where}\Z")
        lines = self.dns(daemon, "a.any.lab", "A")
        self.assertIn(f"  by       {plain}, past the proxy", lines)
        self.assertIn("  rule     dnsRules 1 (", "\n".join(lines))
        self.assertIn("  by       dnsRules 2 (", "\n".join(self.dns(daemon, "printer.lab", "A")))
        (by,) = [each for each in self.dns(daemon, "ads.lab", "A", status=1) if "  by " in each]
        self.assertTrue(by.endswith("), as dnsRejected says"), by)
        self.assertEqual([each["state"] for each in self.asked(daemon)], ["up", "up"])

    def test_fakeIP(self) -> None:
        """Under fake-ip the answer is an address of nanotun's, and it is said whose it is."""
        proxy = self.dante().url()
        daemon = self.daemon(proxy=proxy, dns=[IPV4.world], dnsMode="fake-ip", dnsStateFile="")
        report = self.found(daemon, "www.example.org", "A")
        self.assertEqual((report["stage"], report["server"]), ("fake", ""))
        self.assertRegex(report["records"][0]["data"], r"^198\.1[89]\.")
        lines = self.dns(daemon, "www.example.org", "AAAA")
        self.assertIn(
            "  by       dnsMode: fake-ip, which gives the name addresses of its own", lines
        )

    def test_script(self) -> None:
        """The script's answer is told, and the script hears of the query."""
        path = self.directory / "names.py"
        path.write_text(
            "def query(query):\n"
            "    if query.name == 'scripted.lab' and query.source == '127.0.0.1':\n"
            "        return '192.0.2.80'\n"
        )
        os.chmod(path, 0o600)
        self.unbound(IPV4.world)
        daemon = self.asking(self.entry("tls"), script=str(path))
        self.assertIn("  by       the script", self.dns(daemon, "scripted.lab", "A"))
        self.assertEqual(self.found(daemon, "host.lab", "A")["stage"], "server")


class DoctorTests(EncryptedCase):
    """C{nanotun doctor}, which needs no daemon."""

    def setUp(self) -> None:
        """Start a server for every protocol."""
        super().setUp()
        self.unbound(IPV4.world)
        self.nameServer(IPV4.direct)
        self.proxy = self.dante().url()

    def findings(self, *dns: object, **settings: object) -> list[tuple[str, str]]:
        """Level and text of what is found about DNS servers."""
        given = {"proxy": self.proxy, "dns": list(dns), **settings}
        config = writeConfig(self.directory / "doctor", given)
        argv = [*nanotun("doctor", "--json", "--target", "host.lab:9", "--config", str(config))]
        done = subprocess.run(
            self.lab.app.argv(argv), capture_output=True, text=True, timeout=60, env=environment()
        )
        found = [each for each in json.loads(done.stdout) if each["check"] == "DNS"]
        return [(each["level"], f"{each['text']} {each['cure']}".strip()) for each in found]

    def test_well(self) -> None:
        """A server that answers is fine, over each protocol, past the proxy and through it."""
        dns = [IPV4.direct, f"tcp://{IPV4.direct}", self.entry("tls"), self.entry("https")]
        names = [
            f"{IPV4.direct}:53",
            f"tcp://{IPV4.direct}:53",
            f"tls://{IPV4.world}:853#{NAME}",
            f"https://{IPV4.world}{PATH}#{NAME}",
        ]
        for via, way in (("direct", ""), ("proxy", " through the proxy")):
            expected = [("ok", f"The server {name} answers{way}.") for name in names]
            self.assertEqual(self.findings(*dns, dnsVia=via), expected)
        mixed = self.findings(self.entry("tls", via="proxy"), {"server": IPV4.direct})
        self.assertEqual(
            mixed,
            [
                ("ok", f"The server {names[2]} answers through the proxy."),
                ("ok", f"The server {names[0]} answers."),
            ],
        )

    def test_bad(self) -> None:
        """What is wrong is said of the layer that fails, with a cure."""
        strange = str(tlsfront.authority(self.directory, "strange").cert)
        tls, https = self.entry("tls"), self.entry("https")
        path = {**https, "server": f"https://{IPV4.world}/nowhere#{NAME}"}
        for via, way in (("direct", ""), ("proxy", " through the proxy")):
            found = self.findings(
                f"{IPV4.direct}:54",
                f"tcp://{IPV4.world}",
                {**tls, "server": f"tls://{IPV4.world}#other.lab"},
                {**tls, "ca": strange},
                {**tls, "server": f"tls://{IPV4.direct}:53"},
                path,
                {"server": "tls://nowhere.lab", "ca": tls["ca"]},
                IPV4.direct,
                dnsVia=via,
            )
            self.assertEqual([level for level, _ in found], ["fail"] * 7 + ["ok"], found)
            for (_, text), words in zip(
                found,
                (
                    f"{IPV4.direct}:54",
                    f"tcp://{IPV4.world}:53",
                    "has a certificate for another name",
                    "has a certificate that is not trusted",
                    f"tls://{IPV4.direct}:53",
                    "answers with HTTP status 404 (Not Found); check the path in its URL.",
                    "because nowhere.lab cannot be looked up (",
                    f"The server {IPV4.direct}:53 answers{way}.",
                ),
                strict=True,
            ):
                self.assertIn(words, text)

    def test_system(self) -> None:
        """It is said what the machine's own servers are, and each of them is asked."""
        (self.directory / "resolv.conf").write_text(f"nameserver {IPV4.direct}\n")
        resolver = f"mount --bind {self.directory}/resolv.conf /etc/resolv.conf && exec"
        config = writeConfig(self.directory / "doctor", {"proxy": self.proxy, "dns": ["system"]})
        argv = shlex.join(nanotun("doctor", "--json", "--config", str(config)))
        done = subprocess.run(
            self.lab.app.argv(["unshare", "--mount", "sh", "-c", f"{resolver} {argv}"]),
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        found = [each for each in json.loads(done.stdout) if each["check"] == "DNS"]
        self.assertEqual(
            [(each["level"], each["text"]) for each in found],
            [
                ("info", f"system stands for {IPV4.direct}:53."),
                ("ok", f"The server {IPV4.direct}:53 answers."),
            ],
        )

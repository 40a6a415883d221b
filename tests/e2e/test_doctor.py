"""
C{nanotun doctor} on machines that are broken in every respect that it knows: each time the
finding is named, and never if all is well.
"""

from __future__ import annotations

import fcntl
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.case import LabCase
from tests.e2e.lab import badsocks, toydns
from tests.e2e.lab.cell import Running, nanotun, traces
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.httpproxies import FORBIDDEN, Tinyproxy
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.topology import IPV4
from tests.e2e.lab.udp import Address, UDPServer

LIMIT = 60.0
"""Seconds for the whole examination, whatever hangs."""


class Finding(NamedTuple):
    """A finding, as in the JSON."""

    check: str
    level: str
    text: str
    cure: str


class DoctorCase(LabCase):
    """A healthy machine, until a test breaks it."""

    def setUp(self) -> None:
        """Make a proxy, a DNS server and a default route."""
        super().setUp()
        self.lab.openDirectPath()
        self.lab.app.ip("route add default via 10.77.1.1 dev up0")
        self.nameServer(IPV4.world)
        self.runDir = self.directory / "run"
        self.runDir.mkdir()
        self._proxy = ""

    def proxy(self) -> str:
        """The proxy that works, which one test starts once."""
        self._proxy = self._proxy or self.dante().url()
        return self._proxy

    def examine(
        self,
        *options: str,
        proxy: str = "",
        dns: str = IPV4.world,
        prefix: Sequence[str] = (),
        script: str = "",
    ) -> list[Finding]:
        """
        Run the doctor.

        @param prefix: a command that runs it.
        @param script: run before, in a mount namespace of its own.
        """
        argv = [
            *prefix,
            nanotun(),
            "doctor",
            "--json",
            *("--proxy", proxy or self.proxy(), "--dns", dns),
            *("--run-dir", str(self.runDir), *options),
        ]
        if script:
            argv = ["unshare", "--mount", "sh", "-c", f"{script} && exec {shlex.join(argv)}"]
        running = Running(self.lab.app, argv, self.directory)
        self.addCleanup(running.kill)
        done = running.done(timeout=LIMIT)
        self.assertEqual(done.err, "")
        found = [Finding(**each) for each in json.loads(done.out)]
        levels = {finding.level for finding in found}
        self.assertEqual(done.status, 2 if "fail" in levels else 1 if "warn" in levels else 0)
        return found

    def bad(self, found: list[Finding]) -> list[tuple[str, str]]:
        """Level and check of the findings that are problems."""
        return [(each.level, each.check) for each in found if each.level in ("warn", "fail")]

    def assertFound(self, found: list[Finding], level: str, check: str, *words: str) -> None:
        """Exactly one problem is found, in these words."""
        named = [each for each in found if each.level not in ("ok", "info")]
        if level == "info":
            self.assertEqual(named, [])
            named = [each for each in found if each.level == "info"]
        self.assertEqual([(each.level, each.check) for each in named], [(level, check)], named)
        for word in words:
            self.assertIn(word, f"{named[0].text} {named[0].cure}")


class WellTests(DoctorCase):
    """Nothing is wrong."""

    def test_well(self) -> None:
        """
        On a healthy machine nothing is found, including UDP and a target, and nothing
        changes.
        """
        proxy = self.proxy()
        web = self.webServer()
        before = traces(self.lab.app)
        found = self.examine("--target", f"{IPV4.world}:{web.port}", proxy=proxy)
        self.assertEqual([each for each in found if each.level != "ok"], [])
        texts = " ".join(each.text for each in found)
        self.assertIn(f"It connects to {IPV4.world}:{web.port}.", texts)
        self.assertIn(f"UDP works: {IPV4.world}:53 answers through it.", texts)
        self.assertIn("with segmentation offload", texts)
        self.assertEqual(traces(self.lab.app), before)

    def test_text(self) -> None:
        """Without --json the report is text of at most 80 columns, without colours."""
        argv = [nanotun(), "doctor", "--proxy", "socks5://10.77.1.1:9", "--dns", IPV4.world]
        running = Running(self.lab.app, argv, self.directory)
        self.addCleanup(running.kill)
        done = running.done(timeout=LIMIT)
        self.assertEqual((done.status, done.err), (2, ""))
        self.assertRegex(done.out, r"(?m)^fail  proxy +The proxy socks5://10\.77\.1\.1:9 cannot")
        self.assertTrue(done.out.endswith("1 failure.\n"), done.out)
        self.assertLessEqual(max(map(len, done.out.splitlines())), 80)
        self.assertNotIn("\x1b", done.out)

    def test_wrongLine(self) -> None:
        """A wrong command line gives one sentence and status 64."""
        for flags in (["--nonsense"], ["--target", "nowhere"]):
            running = Running(self.lab.app, [nanotun(), "doctor", *flags], self.directory)
            self.addCleanup(running.kill)
            done = running.done(timeout=LIMIT)
            self.assertEqual((done.status, done.out), (64, ""))
            self.assertRegex(done.err, r"\Ananotun( doctor)?: .*\n\Z")


class RightsTests(DoctorCase):
    """Missing privileges."""

    def test_notRoot(self) -> None:
        """Without root, the report says so."""
        needReadable()
        found = self.examine(prefix=["setpriv", "--reuid=65534", "--clear-groups"])
        bad = self.bad(found)
        self.assertIn(("fail", "privileges"), bad)
        self.assertIn("sudo", next(f.cure for f in found if f.check == "privileges"))

    def test_noNetAdmin(self) -> None:
        """A container without CAP_NET_ADMIN is reported."""
        found = self.examine(prefix=["setpriv", "--bounding-set", "-net_admin"])
        self.assertIn(("fail", "privileges"), self.bad(found))
        self.assertIn("CAP_NET_ADMIN", next(f.text for f in found if f.check == "privileges"))

    def test_noSysAdmin(self) -> None:
        """Without CAP_SYS_ADMIN the daemon works and C{nanotun run} does not, which is reported."""
        found = self.examine(prefix=["setpriv", "--bounding-set", "-sys_admin"])
        self.assertEqual(self.bad(found), [])
        infos = {each.check: each.text for each in found if each.level == "info"}
        self.assertIn("'nanotun run' does not", infos["privileges"])
        self.assertIn("'nanotun run' cannot work here", infos["trial device"])

    def test_noDevice(self) -> None:
        """Without /dev/net/tun, the cure says how to get it."""
        found = self.examine(script="mount -t tmpfs tmpfs /dev/net")
        self.assertEqual(
            self.bad(found), [("fail", "/dev/net/tun"), ("fail", "trial device")], found
        )
        self.assertIn("modprobe tun", found[3].cure)

    def test_files(self) -> None:
        """A low limit of open files is found."""
        found = self.examine(script="ulimit -n 1024")
        self.assertFound(found, "warn", "open files", "At most 1024", "LimitNOFILE")


class ProxyTests(DoctorCase):
    """Problems of the proxy."""

    def test_down(self) -> None:
        """A proxy that is down is found."""
        found = self.examine(proxy=f"socks5://{IPV4.proxy}:9")
        self.assertFound(found, "fail", "proxy", "cannot be reached", "Connection refused")

    def test_silent(self) -> None:
        """A proxy whose packets are dropped is found, and does not delay the other checks."""
        self.lab.filter(1080, "drop", "drop", self.lab.proxy)
        found = self.examine(proxy=f"socks5://{IPV4.proxy}:1080")
        self.assertFound(found, "fail", "proxy", f"{IPV4.proxy}:1080")

    def test_unknownName(self) -> None:
        """A proxy with an unknown name is found."""
        found = self.examine(proxy="socks5://proxy.invalid")
        self.assertFound(found, "fail", "proxy", "proxy.invalid")

    def test_wrongPassword(self) -> None:
        """A wrong password is found."""
        url = self.dante(auth=True).url(password="wrong")
        config = self._config(f"proxy: {url}\n")
        found = self.examine("--config", str(config), proxy=url)
        self.assertIn(("fail", "proxy"), self.bad(found))
        self.assertNotIn("wrong:", " ".join(each.text for each in found))

    def test_httpLogIn(self) -> None:
        """That an HTTP proxy wants a log-in is found, although no destination is named."""
        server = Tinyproxy(self.lab.proxy, self.directory, auth=True)
        self.addCleanup(server.stop)
        found = self.examine(proxy=f"http://{IPV4.proxy}:{server.port}")
        self.assertFound(found, "fail", "proxy", "wants a user name and password")
        self.assertNotIn("claim to reach", " ".join(each.text for each in found))

    def _config(self, text: str) -> Path:
        path = self.directory / "nanotun.yaml"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def test_noDatagrams(self) -> None:
        """A proxy that refuses UDP ASSOCIATE is found."""
        server = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        found = self.examine(proxy=server.url())
        self.assertFound(found, "warn", "proxy", "UDP ASSOCIATE")

    def test_relayBlocked(self) -> None:
        """A UDP relay of the proxy whose datagrams a firewall drops is found."""
        self.lab.proxy.nft(
            "table inet block {\nchain input {\ntype filter hook input priority -300;\n"
            'iifname "down0" meta l4proto udp udp dport != 53 drop\n}\n}\n'
        )
        found = self.examine()
        self.assertFound(found, "warn", "proxy", "did not answer through it", "firewalls")

    def test_acceptsEarly(self) -> None:
        """A proxy that grants every request before it connects is found."""
        proxy = self.peer(badsocks.replies(0), self.lab.proxy)
        found = self.examine(proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
        self.assertIn(("warn", "proxy"), self.bad(found))
        texts = [each.text for each in found if each.check == "proxy"]
        self.assertIn("it accepts before it connects.", " ".join(texts))

    def test_http(self) -> None:
        """It is reported that an HTTP proxy carries no UDP, but not as a fault."""
        server = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        found = self.examine(proxy=f"http://{IPV4.proxy}:{server.port}")
        self.assertFound(found, "info", "proxy", "carries no UDP")

    def test_target(self) -> None:
        """A proxy that does not connect to the target is found."""
        found = self.examine("--target", f"{IPV4.world}:9")
        self.assertFound(found, "fail", "proxy", f"It does not connect to {IPV4.world}:9")

    def test_passwordShown(self) -> None:
        """A password on the command line is found, and not shown."""
        found = self.examine(proxy=self.dante(auth=True).url())
        self.assertFound(found, "warn", "configuration", "password is on the command line")

    def test_unsafeFile(self) -> None:
        """A configuration file that others may write is found."""
        config = self._config("proxy: direct://\n")
        config.chmod(0o666)
        found = self.examine("--config", str(config))
        self.assertFound(found, "fail", "configuration", "can be written by others", "chmod go-w")

    def test_killSwitchAlone(self) -> None:
        """A setting that does nothing without another one is found."""
        found = self.examine("--kill-switch", "true")
        self.assertFound(found, "warn", "configuration", "killSwitch does nothing", "true, or rem")

    def test_noServer(self) -> None:
        """A DNS server that does not answer, or cannot be reached, is found."""
        found = self.examine(dns=f"{IPV4.world}:54")
        self.assertIn(("fail", "DNS"), self.bad(found))
        self.lab.app.ip("route add unreachable 192.0.2.0/24")
        found = self.examine(dns="192.0.2.1", proxy=f"socks5://{IPV4.proxy}:1080")
        text = next(each.text for each in found if each.check == "DNS")
        self.assertIn("192.0.2.1:53", text)

    def test_question(self) -> None:
        """
        A server that answers for its own names only passes if it is asked for one of them, and
        is found if it refuses or fails; with C{dnsVia: proxy} as well.
        """
        proxy = self.proxy()
        rcodes = {b"host.lab": 0, b"none.lab": 3, b"broken.lab": 2}

        def answer(server: UDPServer, query: bytes, client: Address) -> None:
            rcode = rcodes.get(toydns.asked(query)[0], 5)
            server.sock.sendto(query[:2] + bytes([0x81, 0x80 | rcode]) + query[4:], client)

        server = self.udpServer(answer, IPV4)
        for way, through in (("direct", ""), ("proxy", " through the proxy")):
            for host, level, words in (
                ("host.lab", "ok", f"answers{through}."),
                ("none.lab", "ok", f"answers{through}."),
                ("broken.lab", "warn", f"answers{through}, but cannot look up broken.lab (SERV"),
                (IPV4.world, "fail", f"refuses queries{through or ' from this machine'} (REF"),
            ):
                found = self.examine(
                    *("--target", f"{host}:9", "--dns-via", way),
                    proxy=proxy,
                    dns=f"{IPV4.world}:{server.port}",
                )
                (dns,) = [each for each in found if each.check == "DNS"]
                self.assertEqual(dns.level, level, dns)
                self.assertIn(words, dns.text)
        self.assertNotIn(b"", [toydns.asked(query)[0] for query, _ in server.heard])

    def test_dnsVia(self) -> None:
        """With dnsVia: proxy the servers are asked through it; what forbids that is found."""
        found = self.examine("--dns-via", "proxy", proxy=self.proxy())
        (dns,) = [each for each in found if each.check == "DNS"]
        self.assertEqual((dns.level, dns.text[-26:]), ("ok", "answers through the proxy."))
        server = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        proxy = f"http://{IPV4.proxy}:{server.port}"
        found = self.examine("--dns-via", "proxy", proxy=proxy, dns=FORBIDDEN[IPV4])
        (dns,) = [each for each in found if each.check == "DNS"]
        self.assertEqual(dns.level, "fail")
        self.assertIn(
            "(status 403 'Filtered'), and dnsVia sends the DNS queries through it", dns.text
        )


class NetworkTests(DoctorCase):
    """Problems of the machine's network."""

    def test_nameTaken(self) -> None:
        """A device of our name that no process has open is found, and may be deleted."""
        self.lab.app.ip("tuntap add dev nano0 mode tun", "link set nano0 up")
        found = self.examine()
        self.assertFound(
            found, "fail", "addresses", "nano0 exists already", "nobody uses it", "ip link delete"
        )

    def test_liveDevice(self) -> None:
        """
        The device of a live daemon with another runDir is never to be deleted; the command
        that ends that daemon is named.
        """
        other = self.directory / "other"
        proxy = f"socks5://{IPV4.proxy}:9"
        daemon = Daemon(self.lab.app, other, proxy=proxy, tunName="nano0")
        self.addCleanup(daemon.kill)
        for down in (False, True):
            if down:
                self.lab.app.ip("link set nano0 down")
            found = self.examine()
            (text,) = [f"{f.text} {f.cure}" for f in found if f.check == "addresses" and f.cure]
            self.assertIn(f"process {daemon.pid} (", text)
            self.assertIn(f"'nanotun stop --run-dir {other}/run'", text)
            self.assertNotIn("delete", text)

    def test_addressesTaken(self) -> None:
        """Our addresses in use by another program are found."""
        self.lab.app.ip("addr add 198.18.0.1/16 dev up0")
        found = self.examine()
        self.assertFound(found, "fail", "addresses", "198.18.0.0/16 on up0")

    def test_vpn(self) -> None:
        """Another VPN with the default route is found, as of wg-quick and OpenVPN."""
        self.lab.app.ip(
            "tuntap add dev vpn0 mode tun",
            "link set vpn0 up",
            "addr add 10.5.5.5/32 dev vpn0",
            "route add 128.0.0.0/1 dev vpn0",
            "tuntap add dev vpn1 mode tun",
            "link set vpn1 up",
            "addr add 10.5.5.6/32 dev vpn1",
            "route add default dev vpn1 table 51820",
        )
        found = self.examine()
        self.assertEqual(self.bad(found), [("warn", "other VPN")] * 2, found)
        texts = " ".join(each.text for each in found)
        self.assertIn("128.0.0.0/1 leads into vpn0 (tun)", texts)
        self.assertIn("0.0.0.0/0 in table 51820 leads into vpn1 (tun)", texts)

    def test_noRoute(self) -> None:
        """A missing default route is found."""
        self.lab.app.ip("route del default")
        self.assertFound(self.examine(), "warn", "MTU", "no default route")

    def test_narrow(self) -> None:
        """An uplink whose MTU is smaller than ours is reported."""
        self.lab.app.ip("link set up0 mtu 1400")
        self.assertFound(self.examine(), "info", "MTU", "up0 carries 1400", "set mtu to 1400")

    def test_ipv6(self) -> None:
        """It is reported that IPv6 is disabled."""
        self.lab.app.run(["sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1"])
        self.assertFound(self.examine(), "info", "IPv6", "IPv6 is disabled")

    def test_reversePath(self) -> None:
        """Strict rp_filter is found, unless src_valid_mark makes it harmless."""
        self.lab.app.run(["sysctl", "-q", "-w", "net.ipv4.conf.up0.rp_filter=1"])
        self.assertFound(self.examine(), "warn", "rp_filter", "strict on up0", "src_valid_mark=1")
        self.lab.app.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.src_valid_mark=1"])
        self.assertEqual(self.bad(self.examine(proxy=f"socks5://{IPV4.proxy}:1080")), [])


class NeighbourTests(DoctorCase):
    """Other programs."""

    def test_running(self) -> None:
        """A running nanotun is reported, and its device is no fault."""
        self.lab.app.ip("tuntap add dev nano0 mode tun")
        with (self.runDir / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertFound(self.examine(), "info", "nanotun", "runs already", str(self.runDir))

    def test_leftovers(self) -> None:
        """What a killed nanotun left behind is found, unless the machine has rebooted since."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        journal = self.runDir / "journal.json"
        journal.write_text(json.dumps({"boot": boot, "changes": []}))
        proxy = self.proxy()
        self.assertFound(self.examine(proxy=proxy), "warn", "nanotun", "nanotun recover")
        journal.write_text(json.dumps({"boot": "another", "changes": []}))
        self.assertEqual(self.bad(self.examine(proxy=proxy)), [])

    def test_realDaemon(self) -> None:
        """
        A daemon that has taken the default route is reported; after a kill, its remains are
        found.
        """
        proxy = self.proxy()
        daemon = Daemon(
            self.lab.app,
            self.directory / "daemon",
            proxy=proxy,
            runDir=str(self.runDir),
            autoDefaultRoute=True,
        )
        self.addCleanup(daemon.kill)
        found = self.examine(proxy=proxy)
        self.assertEqual(self.bad(found), [], found)
        self.assertIn(("info", "nanotun"), [(each.level, each.check) for each in found])
        daemon.kill()
        self.assertFound(self.examine(proxy=proxy), "warn", "nanotun", "nanotun recover")

    def test_noFirewall(self) -> None:
        """If neither nft nor iptables exists, which autoDefaultRoute needs, that is found."""
        hide = "touch none; for p in nft iptables; do f=$(command -v $p || true); "
        hide += '[ -z "$f" ] || mount --bind none $f; done'
        proxy = self.proxy()
        found = self.examine("--auto-route", proxy=proxy, script=hide)
        self.assertFound(found, "fail", "nft, iptables", "neither", "nftables")
        self.assertFound(self.examine(proxy=proxy, script=hide), "info", "nft, iptables")

    def test_managers(self) -> None:
        """NetworkManager, systemd-resolved and Docker are reported, but not as a fault."""
        self.lab.app.ip("link add docker0 type bridge")
        found = self.examine(
            script="mount -t tmpfs tmpfs /run && mkdir -p /run/NetworkManager "
            "/run/systemd/resolve && touch /run/systemd/resolve/stub-resolv.conf"
        )
        self.assertEqual(self.bad(found), [])
        texts = " ".join(each.text for each in found if each.level == "info")
        for name in ("NetworkManager", "systemd-resolved", "Docker"):
            self.assertIn(name, texts)

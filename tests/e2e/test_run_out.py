"""
The proxy of a command of C{nanotun run}, and what its user is told while it does not work.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from tests.e2e.lab.httpproxies import Tinyproxy
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import RunCase, callers
from tests.e2e.test_truthful import SILENT_PORT

SECONDS_TO_SAY = 20.0
"""Seconds within which a user is told why the command waits, but for the start."""

START_SECONDS = 20.0
"""Seconds that the start of nanotun and of the command takes at most."""


class EnvironmentChecks(RunCase):
    """The variables that programs take their proxy from."""

    def runScript(self, script: str, *flags: str, **variables: str) -> tuple[int, str, str]:
        """Run a shell script without C{--proxy}."""
        given = [f"{name}={value}" for name, value in variables.items()]
        argv = ["env", *given, *self.program, "run", *flags, "--", "sh", "-c", script]
        return self.launch(argv).done()

    def test_proxyVariable(self) -> None:
        """Without --proxy the proxy is that of ALL_PROXY, and the command does not see it."""
        url = IPV4.url(self.webServer().port, "/bytes/100")
        http = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(http.stop)
        socks = self.dante().url()
        for text in (socks, socks.replace("socks5", "socks") + "/", f"{IPV4.proxy}:{http.port}"):
            for name in ("ALL_PROXY", "all_proxy"):
                status, out, err = self.runScript(f"env >env; curl -qsS {url}", **{name: text})
                self.assertEqual((status, len(out), err), (0, 100, ""), text)
                self.assertNotRegex((self.directory / "env").read_text(), "(?im)^all_proxy=")

    def test_helper(self) -> None:
        """The helper does not have them either, unless they are to be kept."""
        variables = {"ALL_PROXY": self.dante().url(), "http_proxy": "http://x:1", "NO_PROXY": "y"}
        script = "tr '\\0' '\\n' </proc/$PPID/environ; env"
        # An ordinary user's command may not even look.
        times = 2 if self.byRoot else 1
        for flags, kept in (((), []), (("--keep-proxy-env",), sorted([*variables] * times))):
            status, out, err = self.runScript(script, *flags, **variables)
            self.assertEqual(status, 0, err)
            self.assertEqual("Permission denied" in err, not self.byRoot, err)
            names = [line.partition("=")[0] for line in out.splitlines()]
            found = sorted(name for name in names if name.lower().endswith("_proxy"))
            self.assertEqual(found, kept)

    def test_none(self) -> None:
        """Without any the error says what sudo does, as it is run without the variable."""
        status, _, err = self.runScript("true")
        self.assertEqual(status, 125)
        self.assertIn("sudo --preserve-env=ALL_PROXY", err)


class DirectChecks(RunCase):
    """What goes past the proxy by a rule."""

    def test_direct(self) -> None:
        """
        Rules count, and one that leads past the proxy is refused before anything runs, unless a
        flag allows it; then the first line says so, and this machine itself connects.
        """
        self.openDirectPath()
        web = self.webServer()
        url = f"http://{IPV4.direct}:{web.port}/peer"
        proxy = self.dante().url()
        upstreams = ("--upstream", "home=direct://")
        for options, needed in (
            (("--rule", f"{{to: direct, ports: {web.port}, lan: true}}"), "Rule 1 (--rule) sends"),
            ((*upstreams, "--rule", f"{{to: home, ports: {web.port}, lan: true}}"), "upstreams"),
        ):
            done = self.call("curl", "-qsS", url, proxy=proxy, options=options)
            self.assertEqual((done.status, done.out), (125, ""))
            self.assertIn(needed, done.err)
            self.assertIn("give --allow-direct if that is meant", done.err)
            self.assertEqual(web.peers(), [])
        for options, peer in (
            (("--rule", f"{{to: direct, ports: {web.port}, lan: true}}"), IPV4.app),
            ((*upstreams, "--rule", f"{{to: home, ports: {web.port}, lan: true}}"), IPV4.app),
            (("--rule", "{to: direct, ports: 1}"), IPV4.proxyOutside),
        ):
            allowed = ("--allow-direct", *options)
            done = self.call("curl", "-qsS", url, proxy=proxy, options=allowed)
            self.assertEqual((done.status, done.out.strip()), (0, peer), done.err)
            self.assertIn("send direct (--allow-direct)", done.err)


class TellChecks(RunCase):
    """What a command and its user hear."""

    seconds = 90

    def told(self, command: Sequence[str], proxy: str, *options: str) -> tuple[str, float]:
        """The first sentence of nanotun's, and the seconds until it came."""
        argv = [*self.program, "run", "--proxy", proxy, *options, "--", *command]
        started = time.monotonic()
        running = self.launch(["sh", "-c", 'exec "$@" 2>&1', "sh", *argv])
        line = running.line()
        took = time.monotonic() - started
        running.kill()
        return line, took

    def assertTold(self, told: tuple[str, float], sign: str) -> None:
        """A sentence came in time and says this."""
        line, took = told
        self.assertRegex(line, f"^nanotun: .*{sign}")
        self.assertLess(took, SECONDS_TO_SAY + START_SECONDS, line)

    def test_linkLocal(self) -> None:
        """A link-local address is refused at once."""
        curl = ("curl", "-qsS", "-w", "%{time_total}", "http://169.254.169.254/")
        done = self.call(*curl, proxy=self.dante().url())
        self.assertEqual(done.status, 7, done.err)
        self.assertLess(float(done.out), 1.5)

    def test_noOutsideDNS(self) -> None:
        """On a network without outside DNS names work, because the proxy gets them."""
        web = self.webServer()
        self.lab.proxy.nft(
            "table inet nodns {\nchain forward {\ntype filter hook forward priority 0;\n"
            "meta l4proto { tcp, udp } th dport 53 drop\n}\nchain input {\n"
            'type filter hook input priority 0;\niifname "down0" udp dport 53 drop\n}\n}\n'
        )
        proxy = self.dante(hosts={"web.example": [IPV4.world]}).url()
        started = time.monotonic()
        done = self.call("curl", "-qsS", f"http://web.example:{web.port}/bytes/100", proxy=proxy)
        self.assertEqual((done.status, len(done.out), done.err), (0, 100, ""))
        self.assertLess(time.monotonic() - started, SECONDS_TO_SAY)

    def test_silentProxy(self) -> None:
        """Of a proxy that is silent it is said in time, with its name."""
        listener = self.lab.proxy.makeSocket(socket.AF_INET)
        self.addCleanup(listener.close)
        listener.bind((IPV4.proxy, 1091))
        listener.listen()
        proxy = f"socks5://{IPV4.proxy}:1091"
        told = self.told(["curl", "-qsS", IPV4.url(80, "/")], proxy)
        self.assertTold(told, rf"{IPV4.proxy}:1091 did not answer")

    def test_silentDestination(self) -> None:
        """If the proxy answers and the destination does not, the destination is named."""
        self.lab.filter(SILENT_PORT, "drop", "drop")
        proxy = self.dante().url()
        told = self.told(["curl", "-qsS", IPV4.url(SILENT_PORT, "/")], proxy)
        self.assertTold(
            told,
            rf"connection to {IPV4.world}:{SILENT_PORT} has waited 4 s for {proxy}, which answers",
        )


callers(globals(), EnvironmentChecks, DirectChecks, TellChecks)
del EnvironmentChecks, DirectChecks, TellChecks

"""Tests of L{nanotun.console.explain} and its command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.console import main
from nanotun.console.explain import answer
from nanotun.daemon.described import DescribedOwner
from nanotun.daemon.explain import MEANINGS
from nanotun.errors import NotRunning, RunningError
from nanotun.flow import Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.interfaces import IOwners
from tests.countryfile import countries


class FakeDaemon:
    """A daemon that answers every question the same way, or not at all."""

    asked: list[Any] = []
    error: Exception | None = None

    def __init__(self, runDir: str, timeout: float) -> None:
        if self.error is not None:
            raise self.error

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def ask(self, name: str, arguments: Any) -> Any:
        """Answer one question."""
        self.asked.append((name, arguments))
        if arguments["host"] == "example.org":
            return {"lookUp": True}
        return {
            "protocol": "tcp",
            "destination": f"{arguments['host']}:443",
            "source": "",
            "process": "",
            "verdict": "proxy",
            "meaning": "through the proxy",
            "rule": "default",
            "reason": "no other rule applies",
            "trouble": "",
            "notes": [],
            "by": "daemon",
            "pid": 4711,
            "config": "/n.yaml",
        }


class ExplainCase(SynchronousTestCase):
    """Types the command."""

    def typed(self, *words: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of C{nanotun explain}."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["explain", *words])
        return status, out.getvalue(), err.getvalue()

    def found(self, *words: str) -> dict[str, Any]:
        """The object that C{--json} prints."""
        status, out, err = self.typed("--json", "--tun", "nosuch0", *words)
        self.assertEqual((status, err), (0, ""))
        found = json.loads(out)
        assert isinstance(found, dict)
        return found

    def assertRule(self, expected: str, *words: str) -> None:
        """The answer has this verdict and rule."""
        found = self.found(*words)
        self.assertEqual(f"{found['verdict']} {found['rule']}", expected, words)

    def assertWrong(self, sentence: str, *words: str) -> None:
        """The exit status is 2, and stderr has one line with this sentence."""
        status, out, err = self.typed(*words)
        self.assertEqual((status, out, err.count("\n")), (2, "", 1), err)
        self.assertIn(sentence, err)
        self.assertTrue(err.startswith("nanotun explain: "))


class ExplainTests(ExplainCase):
    """The command, as typed."""

    def test_control(self) -> None:
        """No control character of a process's name reaches the terminal."""
        for words in (("tcp", "192.0.2.1:80", "--process", "a\x1b[31m\nb"),):
            status, out, _ = self.typed(*words)
            self.assertEqual(status, 0)
            self.assertNotIn("\x1b", out)
            self.assertIn("a\\x1b[31m\\nb", out)

    def test_text(self) -> None:
        """The answer for people, line by line."""
        words = ("tcp", "192.168.1.1:80", "--proxy", "proxy.example", "--tun", "lo")
        status, out, _ = self.typed(*words, "--process", "curl")
        self.assertEqual(status, 0)
        self.assertEqual(
            out.splitlines(),
            [
                "tcp 192.168.1.1:80 of curl",
                "  DIRECT   past the proxy, from this machine itself",
                "  rule     reserved",
                "  because  192.168.0.0/16 (private use, RFC 1918) is not on the Internet, and lan "
                "is direct",
                "  by       the options given",
            ],
        )

    def test_lanOnlyPort(self) -> None:
        """Where a port is refused because it is for local networks, the cure is named."""
        cure = "with lanOnlyPorts: [] they would go through the proxy."
        words = ("tcp", "1.1.1.1:445", "--proxy", "proxy.example")
        status, out, _ = self.typed(*words)
        self.assertEqual(status, 0)
        self.assertRegex(out, rf"(?m)^  log      Flows to TCP port 445 .*{re.escape(cure)}$")
        _, out, _ = self.typed(*words, "--json")
        self.assertIn(cure, json.loads(out)["trouble"])

    def test_lists(self) -> None:
        """Rules know what is in the files that they name; a file that is missing is an error."""
        networks, country = (Path(self.mktemp()).resolve() for _ in range(2))
        networks.write_text("192.0.2.0/24\n")
        country.write_bytes(countries({"203.0.113.0/24": "DE"}))
        words = (
            *("--proxy", "h", "--country-file", str(country)),
            *("--rule", f"{{to: reject, networks: 'file:{networks}'}}"),
            *("--rule", "{to: direct, countries: DE}"),
        )
        self.assertRule("reject #1", "tcp", "192.0.2.7:443", *words)
        self.assertRule("direct #2", "tcp", "203.0.113.7:443", *words)
        self.assertRule("proxy default", "tcp", "1.1.1.1:443", *words)
        networks.unlink()
        status, _, err = self.typed("tcp", "192.0.2.7:443", *words)
        self.assertEqual(status, 2)
        self.assertIn(f"The list file {networks} cannot be read", err)

    def test_order(self) -> None:
        """Options may precede and follow the flow."""
        for words in (
            ("--lan", "proxy", "tcp", "10.0.0.1:80"),
            ("tcp", "10.0.0.1:80", "--lan", "proxy"),
            ("tcp", "--lan=proxy", "10.0.0.1:80", "--lan-only-ports", ""),
        ):
            self.assertRule("proxy default", *words)

    def test_families(self) -> None:
        """Both IP versions and both protocols are understood."""
        self.assertRule("proxy default", "udp", "[2606:4700::1]:443")
        self.assertRule("direct reserved", "tcp", "[FD00:0::1]:443")
        self.assertRule("serve dns-override", "udp", "1.1.1.1:53", "--dns-override", "true")
        self.assertRule("direct lan-only-port", "UDP", "10.0.0.1:5353")
        self.assertRule("reject lan-only-port", "UDP", "1.1.1.1:5353")

    def test_process(self) -> None:
        """Every option that describes a process matches the selectors of its kind."""
        for excluded, words in (
            ("curl", ("--process", "CURL.exe")),
            ("curl", ("--process", "/opt/x/curl")),
            ("/opt/x/curl", ("--process", "/opt/x/curl")),
            ("uid:0", ("--uid", "root")),
            ("uid:root", ("--uid", "0")),
            ("cgroup:/system.slice", ("--cgroup", "/system.slice/x.service")),
            ("unit:x.service", ("--cgroup", "/system.slice/x.service")),
        ):
            flow = ("tcp", "1.1.1.1:443", "--exclude", excluded)
            self.assertRule("direct excluded-process", *flow, *words)
            self.assertRule("proxy default", *flow, "--process", "wget")

    def test_pid(self) -> None:
        """A running process is examined."""
        pid, name = str(os.getpid()), os.path.basename(os.path.realpath(sys.executable))
        for excluded in (f"pid:{pid}", name, os.path.realpath(sys.executable)):
            words = ("tcp", "1.1.1.1:443", "--pid", pid, "--exclude", excluded)
            self.assertRule("direct excluded-process", *words)
        self.assertIn(f"(pid {pid})", self.found("tcp", "1.1.1.1:443", "--pid", pid)["process"])
        self.assertWrong("no process 4194305", "tcp", "1.1.1.1:1", "--pid", "4194305")

    def test_scanned(self) -> None:
        """For a running process, the scan finds out that it is the proxy, or whose child it is."""
        pid = str(os.getpid())
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            proxy = f"127.0.0.1:{listener.getsockname()[1]}"
            words = ("tcp", "1.1.1.1:443", "--pid", pid, "--proxy", proxy)
            self.assertRule("direct local-proxy", *words)
        self.assertRule("proxy default", *words)
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            flow = ("tcp", "1.1.1.1:443", "--pid", str(child.pid), "--exclude", f"pid:{pid}")
            self.assertRule("proxy default", *flow)
            self.assertRule("direct excluded-process", *flow, "--exclude-children", "true")
            child.communicate(b"\n")

    def test_from(self) -> None:
        """A flow of another machine has no process here."""
        words = ("tcp", "169.254.169.254:80", "--from", "192.0.2.77")
        self.assertRule("reject forwarded", *words)
        self.assertRule("direct link-local", *words[:2])
        self.assertWrong("no process", *words, "--process", "curl")
        self.assertWrong("one IP version", "tcp", "1.1.1.1:1", "--from", "::1")
        self.assertWrong("IP address", "tcp", "1.1.1.1:1", "--from", "here")
        # This machine's own address according to the kernel, not to the table of processes.
        self.assertRule("direct link-local", *words[:3], "127.0.0.1")

    def test_notes(self) -> None:
        """Notes say what might change the answer."""
        notes = self.found("tcp", "1.1.1.1:443", "--exclude", "curl")["notes"]
        self.assertIn("(curl)", notes[0])
        self.assertEqual(len(notes), 1)
        notes = self.found("tcp", "10.1.1.1:443", "--proxy", "proxy.example")["notes"]
        self.assertEqual(len(notes), 1)
        self.assertIn("no nosuch0", notes[0])
        self.assertEqual(self.found("tcp", "1.1.1.1:443", "--proxy", "p.example")["notes"], [])
        self.patch(os, "environ", {**os.environ, "NANOTUN_PROXY": "p.example"})
        self.assertEqual(self.found("tcp", "1.1.1.1:443")["notes"], [])

    def test_localProxy(self) -> None:
        """With a proxy on this machine processes matter even if none is excluded."""
        notes = self.found("tcp", "1.1.1.1:443", "--proxy", "127.0.0.1:1080")["notes"]
        self.assertIn("the proxy on this machine", notes[0])

    def test_configuration(self) -> None:
        """The daemon's file is read like the daemon does, and needs a proxy."""
        path = Path(self.mktemp())
        path.touch(mode=0o600)
        path.write_text("proxy: p.example\nlan: proxy\n")
        self.assertRule("proxy default", "tcp", "10.0.0.1:1", "-c", str(path))
        self.assertRule("direct reserved", "tcp", "10.0.0.1:1", "-c", str(path), "--lan", "direct")
        path.write_text("lan: proxy\n")
        self.assertWrong("no proxy is set", "tcp", "10.0.0.1:1", "-c", str(path))
        self.assertWrong("cannot be read", "tcp", "10.0.0.1:1", "-c", "/nonexistent")

    def test_wrong(self) -> None:
        """The error for a wrong command line is one sentence."""
        for sentence, words in (
            ("give a protocol and a destination", ()),
            ("give a protocol and a destination", ("tcp",)),
            ("give a protocol and a destination", ("tcp", "1.1.1.1:1", "x")),
            ("must be tcp or udp, not 'icmp'", ("icmp", "1.1.1.1:1")),
            ("example.org:443 or", ("tcp", "1.2.3:443")),
            ("example.org:443 or", ("tcp", "[example.org]:443")),
            ("example.org:443 or", ("tcp", "exa mple:443")),
            ("example.org:443 or", ("tcp", "x-.example:443")),
            ("such as 192.0.2.1:443", ("tcp", "1.1.1.1")),
            ("such as 192.0.2.1:443", ("tcp", "1.1.1.1:0")),
            ("such as 192.0.2.1:443", ("tcp", "1.1.1.1:65536")),
            ("such as 192.0.2.1:443", ("tcp", "2001:db8::1:443")),
            ("--bogus", ("tcp", "1.1.1.1:1", "--bogus")),
            ("--lan needs a value", ("tcp", "1.1.1.1:1", "--lan")),
            ("must be direct or proxy", ("tcp", "1.1.1.1:1", "--lan", "x")),
            ("no user 'nosuchuser'", ("tcp", "1.1.1.1:1", "--uid", "nosuchuser")),
            ("no user 'roott'; did you mean root? See", ("tcp", "1.1.1.1:1", "--uid", "roott")),
            ("--pid must be", ("tcp", "1.1.1.1:1", "--pid", "x")),
            ("--cgroup must be", ("tcp", "1.1.1.1:1", "--cgroup", "x")),
            (
                "no user nosuchuser",
                ("tcp", "1.1.1.1:1", "--uid", "0", "--exclude", "uid:nosuchuser"),
            ),
        ):
            self.assertWrong(sentence, *words)

    def test_by(self) -> None:
        """The answer says by what it was given."""
        words = ("tcp", "192.0.2.1:443")
        self.patch(os, "environ", {**os.environ, "NANOTUN_RUNDIR": "/nowhere"})
        defaults = "the defaults, as no daemon was asked and there is no /etc/nanotun.yaml"
        path = Path(self.mktemp())
        path.touch(mode=0o600)
        path.write_text("proxy: p.example\n")
        for flags, by in (
            ((), defaults),
            (("--lan", "proxy"), f"the options given and {defaults}"),
            (("--run-dir", "/none"), defaults),
            (("--proxy", "p.example"), "the options given"),
            (("--config", str(path)), f"{path}"),
            (("--config", str(path), "--lan", "proxy"), f"{path} and the options given"),
        ):
            self.assertBy(by, *words, *flags)
        self.patch(Options, "defaultFile", str(path))
        self.assertBy(f"{path}", *words)
        self.assertBy(f"{path} and the options given", *words, "--lan", "proxy")
        self.patch(Options, "defaultFile", "")
        self.patch(os, "environ", {**os.environ, "NANOTUN_PROXY": "p.example"})
        self.assertBy("the environment's variables", *words)

    def assertBy(self, by: str, *words: str) -> None:
        """The answer says that it goes by this."""
        status, out, _ = self.typed(*words)
        self.assertEqual((status, re.findall("(?m)^  by       (.*)$", out)), (0, [by]))

    def test_name(self) -> None:
        """A host name is looked up, and each of its addresses is judged; equal ones together."""

        def getaddrinfo(host: str, port: int, type: int) -> list[Any]:
            self.assertEqual((host, port), ("example.org", 443))
            found = ["1.1.1.1", "192.168.0.9", "9.9.9.9", "2620:fe::fe"]
            return [(0, 0, 0, "", (address, port)) for address in found]

        self.patch(socket, "getaddrinfo", getaddrinfo)
        words = ("tcp", "example.org:443", "--proxy", "p.example", "--exclude-ip", "2620:fe::/48")
        found = self.found(*words)
        self.assertEqual(found["destination"], "example.org:443")
        self.assertEqual(len(found["addresses"]), 4)
        blocks = [(each["rule"], each["addresses"]) for each in found["answers"]]
        self.assertEqual(
            blocks,
            [
                ("default", ["1.1.1.1", "9.9.9.9"]),
                ("reserved", ["192.168.0.9"]),
                ("excluded-ip", ["2620:fe::fe"]),
            ],
        )
        self.assertEqual(found["rule"], "default")
        _, out, _ = self.typed(*words)
        self.assertIn("  1.1.1.1, 9.9.9.9:\n  PROXY    through", out)
        found = self.found(*words[:2], "--from", "2001:db8::1", "--proxy", "h")
        self.assertEqual(found["addresses"], ["2620:fe::fe"])

    def test_unknownName(self) -> None:
        """A name that cannot be looked up is one sentence."""

        def getaddrinfo(host: str, port: int, type: int) -> list[Any]:
            raise socket.gaierror(-2, "Name or service not known")

        self.patch(socket, "getaddrinfo", getaddrinfo)
        self.assertEqual(
            self.typed("tcp", "nosuch.example:443", "--lan", "proxy"),
            (
                1,
                "",
                "nanotun explain: nosuch.example cannot be looked up (Name or service not known); "
                "give an address to leave DNS out of it.\n",
            ),
        )

    def test_fakeName(self) -> None:
        """With fake-ip a name is judged without being looked up, unless it is left alone."""
        self.patch(socket, "getaddrinfo", None)
        words = ["--dns-mode", "fake-ip", "--proxy", "p.example"]
        words += ["--fake-ip-exclude", "corp.example"]
        words += ["--dns-rule", "{domains: office.example, servers: 192.0.2.1}"]
        found = self.found("tcp", "www.example.org:443", *words)
        self.assertEqual((found["rule"], found["destination"]), ("default", "www.example.org:443"))
        self.assertIn("The relay gives the name an address of its own", found["notes"][0])
        for name in ("a.corp.example", "p.example", "short", "a.office.example"):
            self.assertRaises(TypeError, self.found, "tcp", f"{name}:443", *words)

    def test_owner(self) -> None:
        """The described process owns every flow; without one, questions are counted."""
        flow = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 1), Endpoint("1.1.1.1", 1))
        owner = Owner(1, 2)
        described = DescribedOwner(owner)
        verifyObject(IOwners, described)
        self.assertIs(described.ownerOf(flow), owner)
        nobody = DescribedOwner(None)
        self.assertIsNone(nobody.ownerOf(flow))
        self.assertEqual((described.misses, nobody.misses), (0, 1))

    def test_health(self) -> None:
        """Every proxy by which the flow would leave has a line, with what is known of it."""
        _, out, _ = self.typed(
            "tcp", "1.1.1.1:443", "--proxy", "a,http://b", "--proxy-via", "o", "--upstream", "o=h"
        )
        self.assertIn(
            "  proxy    socks5://a:1080 through o\n  proxy    http://b:80 through o\n", out
        )
        one = {"url": "socks5://b:1", "via": None, "login": None, "udp": None, "latency": None}
        known = [
            {**one, "health": "up", "trouble": "", "latency": 0.0123, "login": "curl"},
            {**one, "health": "down", "trouble": "It is off."},
            {**one, "health": "unknown", "trouble": ""},
        ]
        fake = FakeDaemon("", 1.0).ask("", {"host": "1.1.1.1"})
        shown = answer.text({**fake, "upstream": "tor", "health": known}, "")
        self.assertIn(
            "  tor      socks5://b:1, as curl, up, 12 ms\n"
            "  tor      socks5://b:1, down: It is off.\n"
            "  tor      socks5://b:1, not asked yet\n",
            shown,
        )

    def test_meanings(self) -> None:
        """Every verdict is explained."""
        self.assertEqual(set(MEANINGS), set(Verdict))


class DaemonTests(ExplainCase):
    """The same, where a daemon runs."""

    def setUp(self) -> None:
        """Have a daemon."""
        self.asked: list[Any] = []
        self.patch(FakeDaemon, "asked", self.asked)
        self.patch(answer, "Client", FakeDaemon)

    def test_daemonFirst(self) -> None:
        """The daemon is asked if nothing but the flow and the place of the daemon is given."""
        for words in ((), ("--run-dir", "/run/x"), ("--process", "curl"), ("--from", "192.0.2.9")):
            status, out, _ = self.typed("tcp", "192.0.2.1:443", *words)
            self.assertEqual(status, 0)
            self.assertIn("  by       the daemon that runs (process 4711)", out)
        self.assertEqual([name for name, _ in self.asked], ["explain"] * 4)
        self.assertEqual(self.asked[2][1]["process"]["names"], ["curl"])
        self.assertEqual(self.asked[3][1]["source"], "192.0.2.9")
        json.dumps(self.asked)

    def test_daemonsName(self) -> None:
        """The daemon says whether a name has to be looked up."""
        found = [(0, 0, 0, "", ("192.0.2.7", 443))]
        self.patch(socket, "getaddrinfo", lambda *words, **more: found)
        _, out, _ = self.typed("tcp", "example.org:443")
        self.assertTrue(out.startswith("tcp example.org:443 (192.0.2.7)\n"), out)
        self.assertEqual([each["host"] for _, each in self.asked], ["example.org", "192.0.2.7"])

    def test_optionsDoNotAsk(self) -> None:
        """Options ask about other settings than the daemon's."""
        for words in (("--lan", "proxy"), ("--proxy", "h"), ("--no-dns-cache",)):
            self.assertEqual(self.typed("tcp", "192.0.2.1:443", *words)[0], 0)
        self.assertEqual(self.asked, [])

    def test_cannotAsk(self) -> None:
        """Where the daemon cannot be asked, the settings answer, and a note says why."""
        self.patch(FakeDaemon, "error", RunningError("Only root may ask."))
        status, out, _ = self.typed("tcp", "192.0.2.1:443")
        self.assertEqual(status, 0)
        self.assertIn("  note     The daemon was not asked: Only root may ask.", out)
        self.patch(FakeDaemon, "error", NotRunning("None."))
        self.assertNotIn("The daemon was not", self.typed("tcp", "192.0.2.1:443")[1])

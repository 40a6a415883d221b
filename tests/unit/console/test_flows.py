"""Tests of L{nanotun.console.flows} against a daemon on a real control socket."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from typing import Any

from nanotun.console import flows
from nanotun.console.flows import close, looks, top
from nanotun.console.flows.client import PAGE
from nanotun.console.flows.looks import Looker
from nanotun.console.flows.options import FlowsOptions
from nanotun.console.flows.rows import Row
from nanotun.console.flows.shown import Shown, show
from nanotun.console.flows.text import FLOW_COLUMNS
from nanotun.flow import Protocol
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.together import FlowProcess, FlowProcesses
from tests import ROOT
from tests.unit.console.flow_cases import NOW, AnotherClient, FlowsCase, described, undecided

#: What is listed of the flows of L{FlowsCase}, with nothing known but what the daemon says.
TEXT = """\
ID  PROTOCOL  STATE    AGE  IDLE  PROCESS    USER  UNIT             FROM              TO         \
          ADDRESS         RULE     UPSTREAM  BY                        UP  DOWN  UP/S  DOWN/S
 1  tcp       open     10s    0s  curl 4711  root  session-3.scope  198.18.0.2:40001  www.example\
.org:443  192.0.2.80:443  #2       office    socks5://10.0.0.5:1080  1.0K  195K  100B   19.5K
 2  tcp       open     10s    0s  curl 4711  root  session-3.scope  198.18.0.2:40002  [2001:db8::\
7]:22                     default  office    socks5://10.0.0.5:1080  1.0K  195K  100B   19.5K
 5  tcp       waiting  10s    0s  -          -                      198.18.0.2:40005  192.0.2.80:\
443                       -        -         -                         0B    0B     -       -
 9  udp       open     10s    0s  curl 4711  root  session-3.scope  198.18.0.2:40009  www.example\
.org:443  192.0.2.80:443  #1       direct    direct                    7B    0B    1B       -
"""


#: What docs/flows.md calls the types of JSON.
TYPES = {
    int: "integer", float: "number", str: "string", type(None): "null", dict: "object",
}  # fmt: skip


def fields(value: dict[str, Any], path: str = "") -> dict[str, set[str]]:
    """The fields of an object and of those in it, with their types."""
    found: dict[str, set[str]] = {}
    for name, each in value.items():
        place = f"{path}{name}[]" if isinstance(each, list) else f"{path}{name}"
        for one in each if isinstance(each, list) else [each]:
            found.setdefault(place, set()).add(TYPES[type(one)])
            if isinstance(one, dict):
                for inner, types in fields(one, f"{place}.").items():
                    found.setdefault(inner, set()).update(types)
    return found


def documented(word: str) -> dict[str, set[str]]:
    """The fields that docs/flows.md has for C{--json} of a word, with their types."""
    text = (ROOT / "docs" / "flows.md").read_text()
    table = text.partition(f"| field of `{word}` |")[2].partition("\n\n")[0]
    found: dict[str, set[str]] = {}
    for line in table.splitlines()[2:]:
        _, names, types, _ = line.split("|", 3)
        for name in re.findall("`(.*?)`", names):
            found[name] = set(types.strip().split(" or "))
    return found


class FlowsTests(FlowsCase):
    """C{nanotun flows}."""

    def listed(self, *words: str) -> list[int]:
        """The ids that C{--json} lists."""
        result, said, error = self.say(flows.main, "--json", *self.where(), *words)
        self.assertEqual((result, error), (0, ""))
        return [flow["id"] for flow in json.loads(said)["flows"]]

    def test_text(self) -> None:
        """Each flow has a line, with a dash for what is not known."""
        self.assertEqual(self.say(flows.main, *self.where()), (0, TEXT, ""))

    def test_json(self) -> None:
        """With --json there is one object: the daemon's clock, and its flows with their rates."""
        result, said, _ = self.say(flows.main, "--json", *self.where())
        found = json.loads(said)
        self.assertEqual((result, set(found), found["now"]), (0, {"now", "flows"}, NOW))
        rates = [(100, 20_000), (100, 20_000), (0, 0), (1, 0)]
        expected = [
            {**flow, "rateUp": up, "rateDown": down}
            for flow, (up, down) in zip(self.daemon.flows, rates, strict=True)
        ]
        self.assertEqual(found["flows"], expected)
        # For tools that read lines.
        self.assertEqual(len(said.splitlines()), 2 + len(expected))

    def test_schema(self) -> None:
        """docs/flows.md has every field of the JSON, with its type."""
        _, said, _ = self.say(flows.main, "--json", *self.where())
        told = fields(json.loads(said))
        # What the daemon says of a flow is documented, and tested, with the daemon.
        for name in (*described(1), *(f"process.{each}" for each in described(1)["process"])):
            del told[f"flows[].{name}"]
        self.assertEqual(told, documented("flows"))
        _, said, _ = self.say(top.main, "--json", *self.where())
        self.assertEqual(fields(json.loads(said)), documented("top"))

    def test_pages(self) -> None:
        """All pages are asked for, each after the last flow of the one before."""
        self.daemon.flows = [undecided(each) for each in range(3, 3 + 2 * PAGE + 1)]
        self.assertEqual(self.listed(), [flow["id"] for flow in self.daemon.flows])
        asked = [(name, arguments["after"]) for name, arguments in self.daemon.asked]
        self.assertEqual(asked, [("flows", 0), ("flows", 2 + PAGE), ("flows", 2 + 2 * PAGE)])

    def test_filters(self) -> None:
        """Of filters of one kind any has to be met, of several kinds all."""
        for words, ids in (
            (("--protocol", "udp"), [9]),
            (("--state", "waiting"), [5]),
            (("--state", "waiting", "--protocol", "UDP"), []),
            (("--state", "waiting", "--state", "open"), [1, 2, 5, 9]),
            (("--to", "192.0.2.0/24"), [1, 5, 9]),
            (("--to", "2001:db8::/32", "--protocol", "tcp"), [2]),
            (("--upstream", "office", "--rule", "default"), [2]),
            (("--rule", "1", "--rule", "#2"), [1, 9]),
            (("--domain", "example.org"), [1, 9]),
            (("--process", "curl", "--upstream", "direct"), [9]),
            (("--process", "4711", "--process", "wget"), [1, 2, 9]),
            (("--process", "wget"), []),
        ):
            self.assertEqual(self.listed(*words), ids, words)

    def test_nothing(self) -> None:
        """That no flow is meant, or that none is open, is a sentence and no failure."""
        result = self.say(flows.main, *self.where(), "--process", "wget")
        self.assertEqual(result, (0, "No flow meets the filters; 4 are open.\n", ""))
        self.daemon.flows = self.daemon.flows[:1]
        result = self.say(flows.main, *self.where(), "--state", "waiting")
        self.assertEqual(result, (0, "No flow meets the filters; 1 is open.\n", ""))
        self.daemon.flows = []
        self.assertEqual(self.say(flows.main, *self.where()), (0, "No flow is open.\n", ""))
        self.assertEqual(self.listed(), [])

    def test_sorted(self) -> None:
        """
        --sort takes the name of a column; numbers begin with the largest, and a dash turns the
        order.  What is not known comes last.
        """
        self.daemon.flows[0]["down"] = 100
        for sort, ids in (
            ("down", [2, 1, 5, 9]),
            ("-down", [5, 9, 1, 2]),
            ("rule", [9, 1, 2, 5]),
            ("-RULE", [2, 1, 9, 5]),
            ("to", [5, 2, 1, 9]),
            ("id", [1, 2, 5, 9]),
            ("-id", [9, 5, 2, 1]),
        ):
            self.assertEqual(self.listed("--sort", sort), ids, sort)

    def test_programs(self) -> None:
        """What the daemon does not know of this machine's flows is found out here."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        port = server.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as app:
            connection, (_, source) = server.accept()
            self.addCleanup(connection.close)
            flow = described(
                3, source=f"127.0.0.1:{source}", destination=f"127.0.0.1:{port}", process=None
            )
            stranger = described(4, source=f"10.9.9.9:{source}", process=None)
            # The other end is this process's, which is the daemon.
            own = described(
                5, source=f"127.0.0.1:{port}", destination=f"127.0.0.1:{source}", process=None
            )
            self.daemon.flows = [flow, stranger, own]
            _, said, _ = self.say(flows.main, "--json", *self.where())
            self.assertEqual(self.listed("--process", str(app.pid)), [3])
            app.communicate(b"\n")
        process, *others = (each["process"] for each in json.loads(said)["flows"])
        self.assertEqual((process["pid"], process["uid"]), (app.pid, os.geteuid()))
        self.assertEqual(process["path"], os.readlink("/proc/self/exe"))
        self.assertEqual(set(process), {"pid", "uid", "name", "path", "unit"})
        self.assertEqual(others, [None, None])

    def test_onlyUser(self) -> None:
        """Where only the user is known, as the process has ended, the rest are dashes."""
        process = {"pid": 0, "uid": 0, "name": "", "path": "", "unit": None}
        self.daemon.flows = [described(3, process=process)]
        _, said, _ = self.say(flows.main, *self.where())
        self.assertRegex(said, r"\n 3  tcp       open   10s    0s  -        root  198\.18")
        _, said, _ = self.say(top.main, "--json", *self.where())
        self.assertIs(json.loads(said)["totals"][0]["name"], None)

    def test_noPrograms(self) -> None:
        """Where the kernel does not tell of sockets, flows are listed without their programs."""

        def start(sockets: KernelSockets) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(KernelSockets, "start", start)
        self.daemon.flows = [described(3, process=None)]
        result, said, error = self.say(flows.main, "--json", *self.where())
        self.assertEqual((result, json.loads(said)["flows"][0]["process"]), (0, None))
        self.assertIn("found out here whose flows are whose (Operation not permitted).\n", error)

    def test_noAnswer(self) -> None:
        """If the kernel does not answer about sockets, all is listed but the programs."""

        def everything(sockets: KernelSockets, protocol: Protocol) -> Any:
            raise OSError(errno.ENOENT, "No such file or directory")

        self.patch(KernelSockets, "everything", everything)
        self.daemon.flows = [described(1, process=None)]
        self.assertEqual(self.listed(), [1])
        result = self.say(flows.main, *self.where(), "--process", "curl")
        sentence = "It cannot be found out here whose flows are whose (No such file or directory)."
        self.assertEqual(result, (1, "", f"nanotun: {sentence}\n"))

    def test_control(self) -> None:
        """Names that others choose do not control the terminal."""
        wild = {**described(1)["process"], "name": "a\x1b[2J", "unit": "b\x1b.service"}
        self.daemon.flows = [described(1, domain="c\x1b.example", process=wild)]
        _, said, _ = self.say(flows.main, *self.where())
        self.assertNotIn("\x1b", said)
        self.assertIn("a\\x1b[2J 4711", said)

    def test_failing(self) -> None:
        """Without a daemon the status is 3; what the daemon refuses is its own sentence."""
        for main in (flows.main, top.main, lambda words: close.main(["7", *words])):
            result, _, error = self.say(main, "--run-dir", "/run/none")
            self.assertEqual(result, 3)
            self.assertEqual(error, "nanotun: No nanotun runs with runDir /run/none.\n")
        self.daemon.trouble = "Not now."
        for main in (flows.main, top.main, lambda words: close.main(["7", *words])):
            self.assertEqual(self.say(main, *self.where()), (1, "", "nanotun: Not now.\n"))

    def test_wrong(self) -> None:
        """A wrong command line is one sentence that says what is right."""
        columns = (
            "id, protocol, state, age, idle, process, user, unit, from, to, address, rule, "
            "upstream, by, up, down, up/s, down/s"
        )
        for words, sentence in (
            (("7",), "there is no argument '7'"),
            (
                ("--state", "shut"),
                "--state must be waiting, dialling, open or half-closed, not 'shut'",
            ),
            (("--protocol", "icmp"), "--protocol must be tcp or udp, not 'icmp'"),
            (("--sort", "size"), f"--sort must be one of {columns}, not 'size'"),
            (
                ("--process", "a/b"),
                "--process must be a name, a path or a process's number, not 'a/b'",
            ),
            (("--watch", "0"), "--watch takes 0.2 to 3600 seconds, not '0'"),
        ):
            expected = 2, "", f"nanotun flows: {sentence}; see 'nanotun flows --help'.\n"
            self.assertEqual(self.say(flows.main, *words), expected)
        self.assertEqual(self.daemon.asked, [])

    def test_watched(self) -> None:
        """
        With --watch and no terminal, each look is a text, or an object in one line, and rates are
        those since the last look.
        """
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise KeyboardInterrupt
            self.daemon.flows[0] = described(1, age=10.0 + 2 * len(pauses), up=5000)

        def watch(*words: str) -> tuple[int, str]:
            self.daemon.flows = [described(1)]
            pauses.clear()
            options = FlowsOptions()
            options.parseOptions([*words, *self.where()])
            with Looker(str(self.runDir), options.filter()) as looker:
                what: Shown[Row] = Shown(FLOW_COLUMNS, options.sorted, list, {}, "flows")
                result, said, _ = self.say(lambda _: show(what, looker, options, sleep))
            return result, said

        result, said = watch("--json", "--watch", "0.5")
        self.assertEqual((result, pauses), (0, [0.5] * 3))
        rates = [look["flows"][0]["rateUp"] for look in self.objects(said)]
        self.assertEqual(rates, [100, 2000, 0])
        _, said = watch("--watch")
        self.assertEqual((said.count("DOWN/S\n"), pauses), (3, [2.0] * 3))
        self.assertIn("2.0K", said)

    def test_another(self) -> None:
        """What is known of flows is nothing to those of the next daemon, which has the same ids."""
        self.daemon.flows = [described(1, process=None)]
        process = FlowProcess(4711, 0, "curl", "/usr/bin/curl", "", frozenset())
        self.patch(FlowProcesses, "find", lambda *_: {1: process})
        with Looker(str(self.runDir), FlowsOptions().filter()) as looker:
            ((flow, *_),) = looker.look().rows
            self.assertEqual(flow["process"]["name"], "curl")
            self.patch(FlowProcesses, "find", lambda *_: {})
            self.patch(looks, "Client", AnotherClient)
            self.daemon.flows = [described(1, process=None, age=20.0, up=0, down=0)]
            (row,) = looker.look().rows
        self.assertEqual((row.flow["process"], row.rateDown), (None, 0.0))


class TopTests(FlowsCase):
    """C{nanotun top}."""

    def totals(self, *words: str) -> list[tuple[Any, ...]]:
        """What C{--json} sums up, as tuples."""
        result, said, error = self.say(top.main, "--json", *self.where(), *words)
        self.assertEqual((result, error), (0, ""))
        found = json.loads(said)
        self.assertEqual((set(found), found["now"]), ({"now", "by", "totals"}, NOW))
        names = ["name", "flows", "up", "down", "rateUp", "rateDown"]
        for each in found["totals"]:
            self.assertEqual(list(each), names)
        return [tuple(each.values()) for each in found["totals"]]

    def test_sums(self) -> None:
        """Flows are summed up by program or by what --by says; the most bytes come first."""
        none = (None, 1, 0, 0, 0, 0)
        for by, expected in (
            ("process", [("curl", 3, 2007, 400_000, 201, 40_000), none]),
            ("upstream", [
                ("office", 2, 2000, 400_000, 200, 40_000), ("direct", 1, 7, 0, 1, 0), none,
            ]),
            ("rule", [
                ("#2", 1, 1000, 200_000, 100, 20_000),
                ("default", 1, 1000, 200_000, 100, 20_000),
                ("#1", 1, 7, 0, 1, 0),
                none,
            ]),
            ("domain", [
                ("www.example.org", 2, 1007, 200_000, 101, 20_000),
                ("2001:db8::7", 1, 1000, 200_000, 100, 20_000),
                ("192.0.2.80", 1, 0, 0, 0, 0),
            ]),
        ):  # fmt: skip
            key = lambda total: (-total[3], str(total[0]))  # noqa: E731
            self.assertEqual(sorted(self.totals("--by", by), key=key), sorted(expected, key=key))

    def test_text(self) -> None:
        """The sums are a table, sorted as --sort says, of the flows that meet the filters."""
        result, said, _ = self.say(top.main, *self.where(), "--protocol", "tcp", "--sort", "flows")
        expected = [
            "PROCESS  FLOWS    UP  DOWN  UP/S  DOWN/S",
            "curl         2  2.0K  391K  200B   39.1K",
            "-            1    0B    0B     -       -",
        ]
        self.assertEqual((result, said.splitlines()), (0, expected))
        result, said, _ = self.say(top.main, *self.where(), "--process", "wget")
        self.assertEqual(said, "No flow meets the filters; 4 are open.\n")

    def test_wrong(self) -> None:
        """What cannot be summed up by is said with what can."""
        result, _, error = self.say(top.main, "--by", "port")
        self.assertEqual(result, 2)
        self.assertIn("--by must be process, domain, upstream or rule, not 'port'; see", error)

"""Tests of L{nanotun.console.history}."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from datetime import datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console import history
from nanotun.console.history.options import LIMIT, HistoryOptions
from nanotun.console.history.times import spanOf
from nanotun.history.store import Store
from tests import ROOT
from tests.unit.console.test_console import ConsoleCase
from tests.unit.history.cases import DAY, NOON, RECORD, some

#: The fields of a flow, and what each may be.
FLOW: dict[str, tuple[type, ...]] = {
    "ended": (float,),
    "seconds": (float,),
    "protocol": (str,),
    "source": (str,),
    "destination": (str,),
    "domain": (str, type(None)),
    "verdict": (str, type(None)),
    "rule": (str, type(None)),
    "upstream": (str, type(None)),
    "by": (str, type(None)),
    "process": (dict, type(None)),
    "up": (int,),
    "down": (int,),
    "end": (str,),
}
PROCESS: dict[str, tuple[type, ...]] = {
    "pid": (int,),
    "uid": (int,),
    "name": (str,),
    "path": (str,),
    "unit": (str, type(None)),
}
TOTAL: dict[str, tuple[type, ...]] = {
    "name": (str, type(None)),
    "flows": (int,),
    "up": (int,),
    "down": (int,),
}
NUMBER = (float, type(None))
FLOWS: dict[str, tuple[type, ...]] = {
    "since": NUMBER,
    "until": NUMBER,
    "more": (bool,),
    "flows": (list,),
}
TOTALS: dict[str, tuple[type, ...]] = {
    "since": NUMBER,
    "until": NUMBER,
    "by": (str,),
    "wholeDays": (bool,),
    "more": (bool,),
    "totals": (list,),
}

UNKNOWN = RECORD._replace(
    ended=NOON + 10,
    domain="",
    verdict="",
    rule="",
    upstream="",
    proxy="",
    uid=-1,
    pid=0,
    name="",
    path="",
    unit="",
)


class HistoryCase(ConsoleCase):
    """A file with two flows, and the clock of this machine in UTC, an hour after them."""

    def setUp(self) -> None:
        self.addCleanup(time.tzset)
        self.setVariable("TZ", "UTC")
        self.setVariable("NANOTUN_FLOWLOG", "")
        time.tzset()
        self.path = os.path.abspath(self.mktemp())
        self.patch(time, "time", lambda: NOON + 3600)
        self.patch(HistoryOptions, "defaultFile", "/nonexistent/nanotun.yaml")
        self.store = Store(self.path, 1 << 24, 7, lambda: NOON)
        self.store.makeFile()
        self.connection = sqlite3.connect(self.path)
        self.addCleanup(self.connection.close)
        self.store.prepare(self.connection)
        self.store.write(self.connection, [RECORD, UNKNOWN])

    def setVariable(self, name: str, value: str) -> None:
        """Set an environment variable until the test ends."""
        before = os.environ.get(name)
        os.environ[name] = value
        if before is None:
            self.addCleanup(os.environ.pop, name)
        else:
            self.addCleanup(os.environ.__setitem__, name, before)

    def history(self, *words: str) -> str:
        """What the command prints."""
        result, said, error = self.say(history.main, "--file", self.path, *words)
        self.assertEqual((result, error), (0, ""))
        return said

    def json(self, *words: str) -> dict[str, Any]:
        """What the command prints with C{--json}."""
        found: dict[str, Any] = json.loads(self.history("--json", *words))
        return found

    def ends(self, *words: str) -> list[float]:
        """When the flows ended that are shown, in seconds after L{NOON}."""
        return [each["ended"] - NOON for each in self.json(*words)["flows"]]


class HistoryCommandTests(HistoryCase):
    """The command."""

    def test_text(self) -> None:
        """Each flow has a line, the last one first, with a dash for what is not known."""
        head, first, second = self.history().splitlines()
        self.assertEqual(
            head.split(),
            "ENDED TOOK PROTOCOL PROCESS USER UNIT FROM TO ADDRESS RULE UPSTREAM BY UP DOWN "
            "END".split(),
        )
        self.assertEqual(
            first.split(),
            "2026-11-29 12:00:10 1s tcp - - 198.18.0.2:40000 192.0.2.1:443 - - - 100B 4.9K "
            "closed".split(),
        )
        self.assertIn("2026-11-29 12:00:00    1s  tcp       curl 4711  ", second)
        self.assertIn("user@1000.service  198.18.0.2:40000  example.com:443  192.0.2.1:443", second)
        self.assertTrue(second.endswith("100B  4.9K  closed"), second)

    def test_sums(self) -> None:
        """With --by there is a line for each sum."""
        self.assertEqual(
            self.history("--by", "domain"),
            "DOMAIN       FLOWS    UP  DOWN\n"
            "192.0.2.1        1  100B  4.9K\n"
            "example.com      1  100B  4.9K\n",
        )
        for by in ("process", "upstream", "rule"):
            self.assertIn("\n-    ", self.history("--by", by))
        self.assertIn("2026-11-29      2  200B  9.8K", self.history("--by", "day"))

    def test_limit(self) -> None:
        """The last flows are shown, as many as --limit says, and that there are more."""
        self.store.write(self.connection, some(LIMIT))
        lines = self.history().splitlines()
        self.assertEqual(
            (len(lines), lines[-1]), (LIMIT + 2, "These are the last 50; --limit shows more.")
        )
        self.assertEqual(len(self.history("-n", "60").splitlines()), LIMIT + 3)
        self.assertTrue(
            self.history("--by", "domain", "-n1").endswith(
                "There are 1 more; --limit shows them.\n"
            )
        )

    def test_filters(self) -> None:
        """Filters are those of 'nanotun flows'; of several of one kind any is enough."""
        for words, ends in (
            (("--process", "CURL"), [0]),
            (("--process", "/usr/bin/curl"), [0]),
            (("--process", "4711"), [0]),
            (("--process", "wget", "--process", "curl"), [0]),
            (("--process", "wget"), []),
            (("--domain", "example.com"), [0]),
            (("--domain", "com"), [0]),
            (("--domain", "*.example.com"), []),
            (("--domain", "~^exam"), [0]),
            (("--upstream", "proxy"), [0]),
            (("--upstream", "direct"), []),
            (("--rule", "default"), [0]),
            (("--rule", "2"), []),
            (("--domain", "com", "--process", "wget"), []),
        ):
            self.assertEqual(sorted(self.ends(*words)), ends, words)

    def test_times(self) -> None:
        """--since and --until take how long ago it was, a time, a day, or both."""
        for words, ends in (
            (("--since", "2h"), [10, 0]),
            (("--since", "59m55s"), [10]),
            (("--since", "1m"), []),
            (("--since", "11:59"), [10, 0]),
            (("--since", "12:00:05"), [10]),
            (("--since", "today"), [10, 0]),
            (("--since", "yesterday", "--until", "yesterday"), []),
            (("--until", "2026-11-29"), [10, 0]),
            (("--until", "2026-11-28"), []),
            (("--since", "2026-11-29 12:00:05", "--until", "2026-11-29T12:01"), [10]),
        ):
            self.assertEqual(self.ends(*words), ends, words)

    def test_nothing(self) -> None:
        """That there is nothing is no failure, but one sentence."""
        said = self.history("--process", "wget")
        self.assertEqual(said, "No flow that was recorded is meant by that.\n")
        self.connection.execute("DELETE FROM flows")
        self.assertEqual(self.history(), "No flow has been recorded yet.\n")
        self.assertEqual(self.json()["flows"], [])

    def test_wholeDays(self) -> None:
        """Sums of a time whose flows are not kept any more say that they are of whole days."""
        self.store.write(self.connection, some(5, NOON - 10 * DAY))
        self.store.tidy(self.connection)
        said = self.history("--by", "process")
        self.assertIn("curl         6", said)
        self.assertTrue(said.endswith(f"{history.WHOLE_DAYS}\n"))
        self.assertNotIn("Whole days", self.history("--by", "process", "--since", "2h"))
        result, _, error = self.say(
            history.main, "--file", self.path, "--by", "rule", "--process", "4711"
        )
        self.assertEqual(result, 1)
        self.assertIn("know programs by their names", error)

    def test_wrong(self) -> None:
        """A wrong command line is one sentence that says what is right."""
        see = "; see 'nanotun history --help'."
        for words, sentence in (
            (
                ("--by", "hour"),
                "--by must be one of process, domain, upstream, rule, day, not 'hour'",
            ),
            (("--limit", "0"), "--limit must be a number of lines, not '0'"),
            (("--domain", "a b"), "--domain must be a name, such as example.org"),
            (("x",), "there is no argument 'x'"),
            (("--since", "noon"), "--since must be a time, such as 2h, 90m, 7d, 14:30, today"),
            (("--until", "2026-02-30"), "--until must be a time"),
            (("--since", "1h", "--until", "2h"), "--since must be earlier than --until"),
        ):
            result, said, error = self.say(history.main, "--file", self.path, *words)
            self.assertEqual((result, said), (2, ""), words)
            self.assertIn(sentence, error)
            self.assertTrue(error.endswith(f"{see}\n"), error)


class SchemaTests(HistoryCase):
    """What C{--json} prints, which docs/history.md explains."""

    def check(self, found: dict[str, Any], expected: dict[str, tuple[type, ...]]) -> None:
        """All fields are there, each of its type, and documented."""
        with open(ROOT / "docs" / "history.md") as file:
            text = file.read()
        self.assertEqual(list(found), list(expected))
        for name, value in found.items():
            self.assertIn(type(value), expected[name], name)
            self.assertIn(f"`{name}[]`" if isinstance(value, list) else f"`{name}`", text)

    def test_flows(self) -> None:
        """An object has the time, and flows with all that is known of each."""
        found = self.json("--since", "2h")
        self.check(found, FLOWS)
        for each in found["flows"]:
            self.check(each, FLOW)
        self.assertEqual([each["process"] is None for each in found["flows"]], [True, False])
        self.check(found["flows"][1]["process"], PROCESS)
        self.assertEqual(
            found["flows"][1],
            {
                "ended": NOON,
                "seconds": 1.5,
                "protocol": "tcp",
                "source": "198.18.0.2:40000",
                "destination": "192.0.2.1:443",
                "domain": "example.com",
                "verdict": "proxy",
                "rule": "default",
                "upstream": "proxy",
                "by": "socks5://192.0.2.9:1080",
                "process": {
                    "pid": 4711,
                    "uid": 1000,
                    "name": "curl",
                    "path": "/usr/bin/curl",
                    "unit": "user@1000.service",
                },
                "up": 100,
                "down": 5000,
                "end": "closed",
            },
        )

    def test_totals(self) -> None:
        """Sums have the time, what they are by, and each its name and numbers."""
        found = self.json("--by", "process")
        self.check(found, TOTALS)
        for each in found["totals"]:
            self.check(each, TOTAL)
        self.assertEqual([each["name"] for each in found["totals"]], [None, "curl"])

    def test_lines(self) -> None:
        """Each flow is on a line of its own, for tools that read lines."""
        self.assertEqual(len(self.history("--json").splitlines()), 4)


class PathTests(HistoryCase):
    """Which file is read."""

    def config(self, text: str) -> str:
        """A configuration file."""
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def test_configured(self) -> None:
        """Without --file it is the flowLog of the variable, of --config, or of /etc."""
        config = self.config(f"flowLog: {self.path}\nproxy: socks5://192.0.2.1\n")
        for words in ((), ("--config", config)):
            if not words:
                self.patch(HistoryOptions, "defaultFile", config)
            result, said, error = self.say(history.main, *words)
            self.assertEqual((result, error), (0, ""))
            self.assertIn("curl", said)
        self.setVariable("NANOTUN_FLOWLOG", "/nonexistent/flows.db")
        result, _, error = self.say(history.main, "--config", config)
        self.assertEqual(result, 1)
        self.assertIn("/nonexistent/flows.db", error)

    def test_none(self) -> None:
        """Where none is set, that is said, and what to do."""
        for words in ((), ("--config", self.config("proxy: socks5://192.0.2.1\n"))):
            result, said, error = self.say(history.main, *words)
            self.assertEqual((result, said), (1, ""))
            self.assertIn("flowLog is not set; set it, or name a file after --file", error)

    def test_wrongSetting(self) -> None:
        """A setting that is no path is named with its place."""
        config = self.config("flowLog: flows.db\n")
        _, _, error = self.say(history.main, "--config", config)
        self.assertIn(f"{config}, line 1", error)


class SpanTests(SynchronousTestCase):
    """L{spanOf}."""

    def test_accepted(self) -> None:
        """Each form is the moment that it says."""
        now = datetime(2026, 11, 30, 15, 0).timestamp()
        for text, then in (
            ("90s", now - 90),
            ("1d2h", now - DAY - 7200),
            ("1w", now - 7 * DAY),
            ("9:05", datetime(2026, 11, 30, 9, 5).timestamp()),
            ("14:30:15", datetime(2026, 11, 30, 14, 30, 15).timestamp()),
            ("2026-11-01 08:00", datetime(2026, 11, 1, 8).timestamp()),
        ):
            self.assertEqual(spanOf(text, now), (then, then), text)
        day = datetime(2026, 11, 29).timestamp(), datetime(2026, 11, 30).timestamp()
        self.assertEqual(spanOf("yesterday", now), day)
        self.assertEqual(spanOf("2026-11-29", now), day)

    def test_refused(self) -> None:
        """Anything else is an error that names the forms."""
        for text in ("", "2", "h", "25:00", "2026-13-01", "2026-11-29 25:00", "9999999d9999999d"):
            error = self.assertRaises(ValueError, spanOf, text, NOON)
            self.assertIn("must be a time, such as 2h", str(error))

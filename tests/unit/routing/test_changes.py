"""
Tests for L{nanotun.routing.changes}.
"""

from __future__ import annotations

import errno
import json

from zope.interface.verify import verifyObject

from nanotun.errors import RoutingError
from nanotun.routing import changes as module
from nanotun.routing.changes import SysctlChange
from nanotun.routing.interfaces import IChange
from nanotun.routing.values import Route, Rule, Sysctl
from tests.unit.routing.routing_cases import RoutingCase

RULE = Rule(4, 7430, "goto", 7499, uids=(7, 7))
LAST = Rule(4, 7499, "nop")
CATCH = Rule(4, 7450, "lookup", 28276, mark=0x6E74, invert=True)
BEHIND = Rule(4, 7421, "goto", 7499, source="172.17.0.2/32")
ROUTE = Route(6, "nano0")
SETTING = Sysctl("net/ipv4/conf/up0/rp_filter", "2", "1")


class ChangeTests(RoutingCase):
    """Each kind of change."""

    def test_readOnlySysctls(self) -> None:
        """A container that may not change a filter is told which option does it."""

        def refuse(self: SysctlChange, value: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        self.patch(SysctlChange, "_write", refuse)
        change = self.changes().make(SETTING)
        for contained, said in ((True, "--sysctl net.ipv4.conf.all.rp_filter=2"), (False, "/proc")):
            self.patch(module, "inContainer", lambda contained=contained: contained)
            self.assertIn(said, str(self.assertRaises(RoutingError, change.apply)))

    def test_roundTrip(self) -> None:
        """Each is applied and holds, until another process undoes it from its record."""
        self.sysctl("up0").write_text("1\n")
        changes = self.changes()
        for value in (RULE, BEHIND, ROUTE, SETTING):
            change = changes.make(value)
            verifyObject(IChange, change)
            self.assertFalse(change.holds())
            change.apply()
            change.apply()
            self.assertTrue(change.holds())
            record = json.loads(json.dumps(change.record()))
            other = self.changes().fromRecord(change.kind, record)
            self.assertEqual(other.describe(), change.describe())
            self.assertEqual(other.describeUndo(), change.describeUndo())
            other.undo()
            self.assertFalse(self.changes().make(value).holds())
            other.undo()
        self.assertEqual(self.sysctl("up0").read_text(), "1")

    def test_olderRecord(self) -> None:
        """A rule in a journal from before rules had sources is still undone."""
        record = json.loads(json.dumps(self.changes().make(RULE).record()))
        del record["source"]
        self.assertEqual(
            self.changes().fromRecord("rule", record).describeUndo(), RULE.command("del")
        )

    def test_errors(self) -> None:
        """If the kernel refuses a change, the error is one sentence with the command to type."""
        changes = self.changes()
        for value in (RULE, ROUTE):
            self.kernel.fails[value.command("add")] = errno.EPERM
            error = self.assertRaises(RoutingError, changes.make(value).apply)
            self.assertIn(value.command("add"), str(error))
            changes.make(value)
            self.kernel.fails[value.command("del")] = errno.EPERM
            error = self.assertRaises(RoutingError, changes.make(value).undo)
            self.assertIn(value.command("del"), str(error))

    def test_foreignRoute(self) -> None:
        """Another program's default route in our table is an error, and is kept."""
        self.kernel.foreignDefault.add(6)
        error = self.assertRaises(RoutingError, self.changes().make(ROUTE).apply)
        self.assertIn("28276 is in use", str(error))

    def test_settingOfSomebodyElse(self) -> None:
        """A setting that somebody has changed since is left alone."""
        self.sysctl("up0").write_text("1\n")
        change = self.changes().make(SETTING)
        change.apply()
        self.sysctl("up0").write_text("0\n")
        change.undo()
        self.assertEqual(self.sysctl("up0").read_text(), "0\n")

    def test_settingGone(self) -> None:
        """A setting that has vanished with its interface is no error."""
        change = self.changes().make(Sysctl("net/ipv4/conf/gone0/rp_filter", "2", "1"))
        change.apply()
        change.undo()
        self.assertFalse(change.holds())

    def test_settingReadOnly(self) -> None:
        """If a setting cannot be written, the error is one sentence."""
        self.sysctl("up0").unlink()
        self.sysctl("up0").mkdir()
        error = self.assertRaises(RoutingError, self.changes().make(SETTING).apply)
        self.assertIn("net/ipv4/conf/up0/rp_filter", str(error))

    def test_badRecords(self) -> None:
        """An invalid record, or one with a path outside of the settings, is refused."""
        changes = self.changes()
        for kind, record in (
            ("unheard", {}),
            ("rule", {"family": 4}),
            ("route", {"nonsense": 1}),
            ("sysctl", {"name": "../../etc/passwd", "value": "", "before": ""}),
            ("sysctl", {"name": "/etc/passwd", "value": "", "before": ""}),
            ("sysctl", {"name": "net/ipv4/ip_forward", "value": "2", "before": "1"}),
            ("sysctl", {"name": "net/ipv4/conf/all/rp_filter", "value": "2", "before": "1"}),
            ("sysctl", {"name": "net/ipv4/conf/default/rp_filter", "value": "2", "before": "1"}),
            ("sysctl", {"name": "net/ipv4/conf/../rp_filter", "value": "2", "before": "1"}),
            ("sysctl", {"name": "net/ipv4/conf/up0/rp_filter", "value": "1", "before": "2"}),
            ("sysctl", {"name": "net/ipv4/conf/up0/rp_filter", "value": "2", "before": "3"}),
            ("sysctl", {"name": "net/ipv4/conf/up0/rp_filter", "value": "2", "before": "1\n0"}),
        ):
            self.assertRaises((KeyError, TypeError, ValueError), changes.fromRecord, kind, record)

    def test_tagged(self) -> None:
        """Rules with our number are undone with those first that catch traffic."""
        for rule in (LAST, RULE, CATCH):
            self.kernel.addRule(rule)
        self.kernel.addRoute(ROUTE)
        self.assertEqual(
            [change.describeUndo() for change in self.changes().tagged()],
            [each.command("del") for each in (ROUTE, CATCH, RULE, LAST)],
        )

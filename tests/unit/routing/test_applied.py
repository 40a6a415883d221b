"""
Tests for L{nanotun.routing.applied}.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.errors import RoutingError
from nanotun.routing.applied import Applied
from nanotun.routing.interfaces import IFollowingChange
from nanotun.routing.values import Sysctl
from tests.unit.routing.routing_cases import FakeChange, RoutingCase


class AppliedTests(RoutingCase):
    """Tests for L{Applied}."""

    def wanted(self, names: str) -> list[FakeChange]:
        """One change for each letter."""
        return [self.fake(name) for name in names]

    def crashed(self, names: str, killSwitch: bool = False) -> Applied:
        """The changes in a new process after a crash of one that had applied C{names}."""
        self.applied().reconcile(self.wanted(names), killSwitch)
        applied = self.applied()
        applied.load()
        return applied

    def test_order(self) -> None:
        """Changes are applied in order, and undone in the reverse order."""
        applied = self.applied()
        self.assertEqual(applied.reconcile(self.wanted("abc"), False), (3, 0))
        self.assertEqual(self.there, ["a", "b", "c"])
        undone: list[str] = []

        class Watched(list[str]):
            def remove(self, name: str) -> None:
                undone.append(name)
                super().remove(name)

        for change in applied.made:
            assert isinstance(change, FakeChange)
            change.there = Watched(self.there)
        self.assertTrue(applied.undoAll())
        self.assertEqual(undone, ["c", "b", "a"])

    def test_aheadOfEach(self) -> None:
        """The journal names every change before the first is applied, until the last is undone."""
        seen = []
        change = self.fake("b")
        change.apply = lambda: seen.append(self.written())  # type: ignore[method-assign]
        change.undo = lambda: seen.append(self.written())  # type: ignore[method-assign]
        applied = self.applied()
        applied.reconcile([self.fake("a"), change], False)
        applied.undoAll()
        self.assertEqual(seen, [["do a", "do b"]] * 2)
        self.assertEqual(self.written(), [])

    def test_failure(self) -> None:
        """If a change fails, the new ones before it are undone and older ones are kept."""
        applied = self.applied()
        applied.reconcile(self.wanted("ab"), False)
        self.fails.add("do y")
        self.assertRaises(RoutingError, applied.reconcile, self.wanted("axybz"), True)
        self.assertEqual(self.there, ["a", "b"])
        self.assertEqual(self.written(), ["do a", "do b"])
        self.assertFalse(applied.killSwitch)

    def test_follows(self) -> None:
        """New changes are applied, unwanted ones are undone, and the others are left alone."""
        applied = self.applied()
        applied.reconcile(self.wanted("abc"), False)
        self.assertEqual(applied.reconcile(self.wanted("axc"), False), (1, 0))
        self.assertEqual(self.there, ["a", "c", "x"])
        self.assertEqual(self.written(), ["do a", "do x", "do c"])
        self.assertEqual(applied.reconcile(self.wanted("axc"), False), (0, 0))

    def test_takenAway(self) -> None:
        """A change that somebody has taken away is applied again, and counted."""
        applied = self.applied()
        applied.reconcile(self.wanted("abc"), False)
        self.there.remove("b")
        self.assertEqual(applied.broken(), [applied.made[1]])
        self.assertEqual(applied.reconcile(self.wanted("abc"), False), (0, 1))
        self.assertEqual(sorted(self.there), ["a", "b", "c"])

    def test_afterCrash(self) -> None:
        """A wanted change that a crash left is applied again only if it is missing."""
        applied = self.crashed("abc")
        self.there.remove("b")
        self.assertEqual(applied.reconcile(self.wanted("bcd"), False), (2, 0))
        self.assertEqual(self.there, ["c", "b", "d"])
        self.assertTrue(applied.undoAll())
        self.assertEqual(self.there, [])
        self.assertEqual(self.written(), [])

    def test_settingAfterCrash(self) -> None:
        """A setting gets back its value from before the crash."""
        self.sysctl("up0").write_text("1\n")
        name = "net/ipv4/conf/up0/rp_filter"
        self.applied().reconcile([self.changes().make(Sysctl(name, "2", "1"))], False)
        applied = self.applied()
        applied.load()
        self.assertEqual(applied.valuesBefore(), {name: "1"})
        applied.reconcile([self.changes().make(Sysctl(name, "2", "2"))], False)
        applied.undoAll()
        self.assertEqual(self.sysctl("up0").read_text(), "1")

    def test_undoFails(self) -> None:
        """A change that cannot be undone is logged and stays in the journal; others are undone."""
        applied = self.applied()
        applied.reconcile(self.wanted("abc"), True)
        self.fails.add("undo b")
        self.assertFalse(applied.undoAll())
        self.assertEqual(self.there, ["b"])
        self.assertEqual(self.written(), ["do b"])
        self.assertTrue(applied.killSwitch)
        self.fails.clear()
        self.assertTrue(applied.undoAll())

    def test_surplusFails(self) -> None:
        """An unwanted change that cannot be undone is tried again the next time."""
        applied = self.applied()
        applied.reconcile(self.wanted("ab"), False)
        self.fails.add("undo a")
        applied.reconcile(self.wanted("b"), False)
        self.assertEqual(self.written(), ["do a", "do b"])
        self.fails.clear()
        applied.reconcile(self.wanted("b"), False)
        self.assertEqual((self.there, self.written()), (["b"], ["do b"]))

    def test_othersAreRepaired(self) -> None:
        """A change other than a rule that cannot be made again does not stop the ones after it."""
        applied = self.applied()
        applied.reconcile(self.wanted("abc"), False)
        self.there.clear()
        self.fails.add("do a")
        self.assertRaises(RoutingError, applied.reconcile, self.wanted("abc"), False)
        self.assertEqual(self.there, ["b", "c"])
        self.assertEqual(self.written(), ["do a", "do b", "do c"])
        self.fails.clear()
        self.assertEqual(applied.reconcile(self.wanted("abc"), False), (0, 1))

    def test_bothFail(self) -> None:
        """If a change fails and one before it cannot be undone, the latter stays in the journal."""
        applied = self.applied()
        applied.reconcile(self.wanted("a"), False)
        self.fails |= {"do y", "undo x"}
        self.assertRaises(RoutingError, applied.reconcile, self.wanted("axy"), False)
        self.assertEqual((self.there, self.written()), (["a", "x"], ["do a", "do x"]))
        self.fails.clear()
        self.assertTrue(applied.undoAll())
        self.assertEqual((self.there, self.written()), ([], []))

    def test_killSwitch(self) -> None:
        """The journal says whether a kill switch is in force."""
        applied = self.crashed("ab", killSwitch=True)
        self.assertTrue(applied.killSwitch)
        applied.reconcile(self.wanted("ab"), False)
        applied = self.applied()
        applied.load()
        self.assertFalse(applied.killSwitch)

    def test_unknownKind(self) -> None:
        """A journal of a newer nanotun is left alone."""
        change = self.fake("a")
        change.kind = "newer"
        self.applied().reconcile([change], False)
        error = self.assertRaises(RoutingError, self.applied().load)
        self.assertIn("does not know", str(error))

    def test_journalFails(self) -> None:
        """Without a journal there is nothing to do."""
        self.directory.mkdir(exist_ok=True)
        self.runDir.write_text("a file")
        self.assertRaises(RoutingError, self.applied().reconcile, self.wanted("ab"), False)
        self.assertEqual(self.there, [])

    def test_outdated(self) -> None:
        """What is to be made otherwise is made again, and does not count as taken away."""

        @implementer(IFollowingChange)
        class Following(FakeChange):
            outdated = False

            def apply(self) -> None:
                super().apply()
                self.outdated = False

        applied, change = self.applied(), Following("a", self.there, self.fails)
        applied.reconcile([change], False)
        for outdated, missing in ((True, 0), (False, 1)):
            change.undo()
            change.outdated = outdated
            self.assertEqual(applied.reconcile([change], False), (0, missing))
            self.assertTrue(change.holds())

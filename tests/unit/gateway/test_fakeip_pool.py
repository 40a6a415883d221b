"""
Tests for L{nanotun.gateway.fakeip.pool}.
"""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address, ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import FAKE4, FAKE6
from nanotun.gateway.fakeip.pool import HOLD, SIZE, FakePool, addresses, numberOf


class AddressTests(SynchronousTestCase):
    """Tests for numbers and addresses."""

    def test_both(self) -> None:
        """A number has an address in both networks, and each address leads back to it."""
        for number in (1, 2, 255, 256, 65533, SIZE):
            for host, network in zip(addresses(number), (FAKE4, FAKE6), strict=True):
                self.assertIn(ip_address(host), ip_network(network))
                self.assertEqual(str(ip_address(host)), host)
                self.assertEqual(numberOf(host), number)
        self.assertEqual(addresses(1), ("198.19.0.1", "fdfe:dcba:9876:1::1"))
        self.assertEqual(SIZE, 65534)

    def test_others(self) -> None:
        """No other address has a number, and neither end of a network has a name."""
        pool = FakePool()
        for host in (
            "198.18.0.1",
            "198.20.0.1",
            "198.19.0.0",
            "198.19.255.255",
            "fdfe:dcba:9876::1",
            "fdfe:dcba:9876:1::",
            "fdfe:dcba:9876:11::1",
            "fdfe:dcba:9876:1:1::1",
            "2001:db8::1",
        ):
            self.assertIsNone(pool.find(host), host)


class PoolFile:
    """What the pool's file says: what was saved last, and what was noted since."""

    def __init__(self) -> None:
        self.spare = 0
        self.names: list[tuple[int, str]] = []

    def note(self, number: int, name: str) -> None:
        """See L{FakePool}."""
        unused = self.names[: self.spare]
        gone = [each for each in self.names if number == each[0] or name == each[1]]
        self.names = [each for each in self.names if each not in gone] + [(number, name)]
        self.spare -= len([each for each in unused if each in gone])


class PoolTests(SynchronousTestCase):
    """Tests for L{FakePool}."""

    def number(self, pool: FakePool, name: str, now: float = 0, *clients: str) -> int:
        """The number that a name gets; 0 for none."""
        fake = pool.give(name, now, clients)
        return 0 if fake is None else fake.number

    def test_kept(self) -> None:
        """A name keeps its number, and its address leads to it."""
        pool = FakePool()
        self.assertEqual([self.number(pool, each) for each in "abab"], [1, 2, 1, 2])
        fake = pool.find("fdfe:dcba:9876:1::2")
        assert fake is not None
        self.assertEqual(fake.name, "b")
        self.assertIsNone(pool.find("198.19.0.3"))

    def test_oldest(self) -> None:
        """A full pool gives away the number of the name that was not used for longest."""
        pool = FakePool(3)
        for now, name in enumerate("abca"):
            self.number(pool, name, now)
        self.assertEqual(self.number(pool, "d", 1000), 2)
        self.assertEqual(self.number(pool, "b", 1000), 3)
        self.assertEqual(len(pool), 3)

    def test_exhausted(self) -> None:
        """When all numbers are in use no name loses its own; later one is free again."""
        pool = FakePool(2)
        self.number(pool, "a", 0)
        self.number(pool, "b", 10)
        self.assertEqual(self.number(pool, "c", HOLD - 1), 0)
        self.assertEqual([self.number(pool, "a", 20), self.number(pool, "b", 20)], [1, 2])
        self.assertEqual(self.number(pool, "c", 20 + HOLD), 1)

    def test_flows(self) -> None:
        """A number is in use until its flows have ended, and for a while longer."""
        pool = FakePool(1)
        self.number(pool, "a", 0)
        pool.flowJoined("198.19.0.1")
        pool.flowJoined("fdfe:dcba:9876:1::1")
        self.assertEqual(self.number(pool, "b", 10 * HOLD), 0)
        pool.flowClosed("198.19.0.1", 10 * HOLD)
        self.assertEqual(self.number(pool, "b", 20 * HOLD), 0)
        pool.flowClosed("fdfe:dcba:9876:1::1", 20 * HOLD)
        self.assertEqual(self.number(pool, "b", 21 * HOLD - 1), 0)
        self.assertEqual(self.number(pool, "b", 21 * HOLD), 1)
        pool.flowJoined("192.0.2.1")
        pool.flowClosed("198.19.0.9", 0)

    def test_manyHeld(self) -> None:
        """A number past its time is found however many in use are before it."""
        pool = FakePool(5001)
        for number in range(5001):
            self.number(pool, f"n{number}", number / 1e6)
            if number < 5000:
                pool.flowJoined(addresses(number + 1)[0])
        self.assertEqual(self.number(pool, "new", 2 * HOLD), 5001)
        self.assertEqual(self.number(pool, "newer", 2 * HOLD), 0)

    def test_share(self) -> None:
        """A client at its share gets no new name, others do, and its own names stay."""
        pool = FakePool(10, (3,))
        numbers = [self.number(pool, name, 0, "a") for name in "abcd"]
        self.assertEqual(numbers, [1, 2, 3, 0])
        self.assertEqual(pool.atShare(("a",)), "a")
        self.assertIsNone(pool.atShare(("b",)))
        self.assertEqual(self.number(pool, "d", 0, "b"), 4)
        self.assertEqual([self.number(pool, name, 1, "a") for name in "abcd"], [1, 2, 3, 4])

    def test_shareReturned(self) -> None:
        """When its names are past their time a client gets new ones, but not while a flow is
        open."""
        pool = FakePool(10, (2,))
        self.number(pool, "a", 0, "x")
        self.number(pool, "b", 0, "x")
        pool.flowJoined("198.19.0.1")
        self.assertEqual(self.number(pool, "c", HOLD - 1, "x"), 0)
        self.assertEqual(self.number(pool, "c", HOLD, "x"), 3)
        self.assertEqual(self.number(pool, "d", HOLD, "x"), 0)
        pool.flowClosed("198.19.0.1", HOLD)
        self.assertEqual(self.number(pool, "d", 2 * HOLD, "x"), 4)

    def test_firstPays(self) -> None:
        """A name asked for again by another client keeps its number, and is charged to the
        first; once it is in no use, whoever asks for it is charged, if at all."""
        pool = FakePool(10, (1,))
        self.assertEqual(self.number(pool, "a", 0, "x"), 1)
        self.assertEqual(self.number(pool, "a", 50, "y"), 1)
        self.assertEqual(self.number(pool, "b", 50, "y"), 2)
        self.assertEqual(self.number(pool, "c", HOLD, "x"), 0)
        self.assertEqual(self.number(pool, "c", 50 + HOLD, "x"), 3)
        self.assertEqual(self.number(pool, "a", 50 + HOLD, "x"), 0)
        self.assertEqual(self.number(pool, "a", 50 + HOLD, "y"), 1)

    def test_revived(self) -> None:
        """Who keeps names in use by flows that begin after their time does not escape the
        share: they are charged again to the client that asked for them."""
        for revive in (
            lambda pool, fake: pool.hold(fake, 2 * HOLD),
            lambda pool, fake: pool.flowJoined(addresses(fake.number)[1]),
        ):
            pool = FakePool(10, (2,))
            for name in "ab":
                self.number(pool, name, 0, "x")
            self.number(pool, "other", 2 * HOLD, "y")
            self.assertIsNone(pool.atShare(("x",)))
            for host in ("198.19.0.1", "198.19.0.2"):
                revive(pool, pool.find(host))
            self.assertEqual(self.number(pool, "c", 2 * HOLD, "x"), 0)
            self.assertEqual(self.number(pool, "c", 2 * HOLD, "z"), 4)

    def test_kinds(self) -> None:
        """Each kind of client has a share of its own."""
        pool = FakePool(10, (2, 3))
        given = [self.number(pool, f"n{each}", 0, f"socket{each}", "user") for each in range(4)]
        self.assertEqual(given, [1, 2, 3, 0])
        self.assertEqual(pool.atShare(("socket9", "user")), "user")

    def test_spareAgain(self) -> None:
        """A spare number whose name is used again, by a query or a flow, is not given away."""
        pool = FakePool(4)
        for name in "abc":
            self.number(pool, name)
        self.number(pool, "x", 2 * HOLD)
        self.assertEqual(pool.inUse, 1)
        self.assertEqual(self.number(pool, "b", 2 * HOLD), 2)
        pool.flowJoined("198.19.0.1")
        fake = pool.find("198.19.0.3")
        assert fake is not None
        self.assertFalse(pool.renew(fake, 2 * HOLD))
        pool.hold(fake, 2 * HOLD)
        self.assertTrue(pool.renew(fake, 2 * HOLD))
        self.assertEqual(self.number(pool, "d", 2 * HOLD), 0)
        self.assertEqual(pool.inUse, 4)

    def test_restart(self) -> None:
        """Saved names are restored in the same order, and are in use for a while."""
        pool = FakePool(3)
        for now, name in enumerate("abca"):
            self.number(pool, name, now)
        self.assertTrue(pool.changed)
        spare, saved = pool.saved()
        self.assertEqual(spare, 0)
        again = FakePool(3)
        again.restore(saved, 0, spare)
        self.assertEqual(again.saved(), (0, saved))
        self.assertEqual(self.number(again, "d", HOLD - 1), 0)
        self.assertEqual([self.number(again, each, HOLD) for each in "dac"], [2, 1, 3])

    def test_fullRestart(self) -> None:
        """After a restart with as many names as there are numbers, new names still get a
        number, of those that were in no use for longest, but never one that was in use."""
        for spare, given in ((8, [1, 2, 0]), (1, [1, 0, 0]), (0, [0, 0, 0])):
            again = FakePool(8)
            again.restore([(each + 1, name) for each, name in enumerate("abcdefgh")], 0, spare)
            self.assertEqual([self.number(again, name) for name in "xyz"], given)
            self.assertEqual([self.number(again, name) for name in "cdefgh"], [3, 4, 5, 6, 7, 8])

    def test_savedOrder(self) -> None:
        """What is saved begins with the numbers in no use, longest first, and tells how many."""
        pool = FakePool(8)
        for now, name in enumerate("abcd"):
            self.number(pool, name, now)
        pool.flowJoined(addresses(1)[0])
        self.number(pool, "e", HOLD + 2)
        self.assertEqual(pool.saved(), (2, [(2, "b"), (3, "c"), (4, "d"), (5, "e"), (1, "a")]))

    def test_noted(self) -> None:
        """Whatever comes into use is told first: new, recycled, asked for again, or dialled."""
        told: list[tuple[int, str]] = []
        pool = FakePool(2, note=lambda number, name: told.append((number, name)))

        def expect(*names: tuple[int, str]) -> None:
            self.assertEqual(told, list(names))
            told.clear()

        self.number(pool, "a")
        self.number(pool, "b", HOLD / 2)
        expect((1, "a"), (2, "b"))
        self.number(pool, "a", HOLD / 2)
        pool.flowJoined(addresses(1)[0])
        expect()
        pool.flowClosed(addresses(1)[0], HOLD / 2)
        self.number(pool, "c", 3 * HOLD)
        expect((2, "c"))
        pool.flowJoined(addresses(1)[1])
        expect((1, "a"))
        pool.flowClosed(addresses(1)[0], 3 * HOLD)
        self.number(pool, "b", 5 * HOLD)
        expect((2, "b"))
        fake = pool.find(addresses(1)[0])
        assert fake is not None
        pool.hold(fake, 5 * HOLD)
        expect((1, "a"))
        pool.changed = False
        self.number(pool, "x", 7 * HOLD)
        told.clear()
        self.number(pool, "b", 7 * HOLD)
        self.assertTrue(pool.changed)

    def test_free(self) -> None:
        """After a restore, new names get the numbers that are left."""
        pool = FakePool(3)
        pool.restore([(2, "b")], 0, 1)
        self.assertEqual([self.number(pool, each) for each in "abc"], [1, 2, 3])

    def test_nonsense(self) -> None:
        """Invalid names and numbers are refused, and nothing changes."""
        for saved in (
            [(0, "a")],
            [(4, "a")],
            [(1, "")],
            [(1, "A")],
            [(1, "a b")],
            [(1, "127.0.0.1")],
            [(1, "b\u00fc")],
            [(1, "a"), (1, "b")],
            [(1, "a"), (2, "a")],
            [(1, "a"), (2, "b"), (1, "b")],
        ):
            pool = FakePool(3)
            self.number(pool, "kept")
            self.assertRaises(ValueError, pool.restore, saved, 0, 1)
            self.assertEqual(self.number(pool, "kept"), 1)

    def test_property(self) -> None:
        """
        Whatever happens, and after a crash, a name never has two numbers, no two names share
        one, and a name keeps a number that is in use.
        """
        chance = random.Random(7)
        file = PoolFile()
        pool, now = FakePool(20, (8,), file.note), 0.0
        held: dict[str, tuple[int, float]] = {}
        flows: list[tuple[str, int]] = []
        for _ in range(20_000):
            now += chance.random() * 10
            name = f"n{chance.randrange(40)}.example"
            step = chance.randrange(10)
            if step < 6:
                client = chance.choice("xyz")
                number = self.number(pool, name, now, client)
                if number:
                    held[name] = number, now + HOLD
                elif pool.atShare((client,)) is None:
                    last = {each for each, (_, until) in held.items() if until > now}
                    self.assertEqual(len(last | {each for each, _ in flows}), 20)
            elif step < 8 and name in held and held[name][1] > now and len(flows) < 25:
                flows.append((name, held[name][0]))
                pool.flowJoined(addresses(held[name][0])[chance.randrange(2)])
            elif flows:
                gone, number = flows.pop(chance.randrange(len(flows)))
                pool.flowClosed(addresses(number)[0], now)
                held[gone] = number, now + HOLD
            if chance.randrange(300) == 0:
                file.spare, file.names = pool.saved()
            if chance.randrange(500) == 0:
                # The flows ended with the process; what apps were told did not.
                told = {each: number for each, (number, until) in held.items() if until > now}
                told.update(flows)
                pool = FakePool(20, (8,), file.note)
                pool.restore(file.names, now, file.spare)
                inUse = {each: fake.number for each, fake in pool._byName.items() if fake.queued}
                self.assertEqual({**inUse, **told}, inUse)
                held = {each: (number, now + HOLD) for each, number in inUse.items()}
                flows.clear()
            used = [fake for fake in pool._byName.values() if fake.name not in pool._spare]
            charges = Counter(each for fake in used for each in fake.charged)
            self.assertEqual(pool._taken, dict(charges))
            self.assertTrue(all(count <= 8 for count in charges.values()))
            numbers = [number for number, _ in pool.saved()[1]]
            self.assertEqual(len(numbers), len(set(numbers)))
            mine = {each: number for each, (number, until) in held.items() if until > now}
            for each, number in [*mine.items(), *flows]:
                fake = pool.find(addresses(number)[0])
                self.assertTrue(fake is not None and fake.name == each, (each, number))

"""
Tests for L{nanotun.gateway.dns.records}.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.message import HEADER_SIZE, matches
from nanotun.gateway.dns.records import aged, readLifetime, truncate
from tests.unit.gateway.gateway_cases import (
    CNAME,
    NS,
    TXT,
    A,
    answer,
    ask,
    edns,
    isTruncated,
    question,
    read,
    record,
    soa,
)

WIRE = ask()
QUERY = read(WIRE)


class LifetimeTests(SynchronousTestCase):
    """Tests for L{readLifetime}."""

    def seconds(
        self,
        answers: list[bytes],
        authorities: list[bytes] | None = None,
        additionals: list[bytes] | None = None,
        flags: int = 0x8180,
    ) -> int | None:
        """For how many seconds an answer with these sections may be kept."""
        life = readLifetime(answer(WIRE, answers, authorities, additionals, flags), QUERY)
        return life and life.seconds

    def test_smallest(self) -> None:
        """An answer is kept for the smallest TTL of its records."""
        self.assertEqual(self.seconds([record(A, 300), record(A, 200)]), 200)
        self.assertEqual(self.seconds([record(A, 300)], [record(NS, 100, b"\0")]), 100)
        self.assertEqual(self.seconds([record(CNAME, 50, b"\1a\0"), record(A, 300)]), 50)
        self.assertEqual(self.seconds([record(A, 999_999)]), 86_400)

    def test_denial(self) -> None:
        """A denial is kept for the lesser of its SOA's times, which is also its TTL."""
        alias = record(CNAME, 900, b"\0")
        cases: list[tuple[int, list[bytes]]] = [(0x8183, []), (0x8180, []), (0x8180, [alias])]
        for flags, answers in cases:
            self.assertEqual(self.seconds(answers, [soa(600, 60)], flags=flags), 60)
            self.assertEqual(self.seconds(answers, [soa(40, 60)], flags=flags), 40)
            self.assertIsNone(self.seconds(answers, flags=flags))
        life = readLifetime(answer(WIRE, [], [soa(600, 60)]), QUERY)
        assert life is not None
        self.assertEqual([ttl for _, ttl in life.ttls], [60])
        # An alias to a name that does not exist is none, also for who asks for the alias.
        wire = ask(kind=CNAME)
        gone = readLifetime(answer(wire, [alias], [soa(600, 60)], flags=0x8183), read(wire))
        assert gone is not None
        self.assertEqual((gone.seconds, gone.positive), (60, False))
        self.assertEqual(self.seconds([], [soa(90_000, 90_000)]), 10_800)

    def test_referral(self) -> None:
        """A message with neither an answer nor a SOA is not kept; one elsewhere is none."""
        self.assertIsNone(self.seconds([], [record(NS, 300, b"\0")]))
        self.assertIsNone(self.seconds([], [], [soa(600, 60)], flags=0x8183))
        self.assertIsNone(self.seconds([soa(600, 60)], flags=0x8183))

    def test_notKept(self) -> None:
        """Errors, truncated answers, options, signatures, and TTLs of 0 or less are not kept."""
        for flags in (0x8182, 0x8185, 0x8380, 0x8980):
            self.assertIsNone(self.seconds([record(A, 300)], flags=flags))
        good = [record(A, 300)]
        self.assertEqual(self.seconds(good, [], [edns()]), 300)
        self.assertIsNone(self.seconds(good, [], [edns(options=b"\0\x08\0\0")]))
        self.assertIsNone(self.seconds(good, [], [edns(flags=0x01000000)]))
        # TSIG, and SIG(0).
        for kind in (250, 24):
            self.assertIsNone(self.seconds(good, [], [record(kind, 300)]))
        self.assertIsNone(self.seconds([record(A, 0)]))
        self.assertIsNone(self.seconds([record(A, 0x80000000)]))
        self.assertIsNone(self.seconds([record(TXT, 300)]))
        self.assertIsNone(self.seconds([record(A, 300)] * 201))

    def test_broken(self) -> None:
        """An answer that ends too early or too late is not kept."""
        good = answer(WIRE)
        self.assertIsNotNone(readLifetime(good, QUERY))
        for end in range(HEADER_SIZE + len(QUERY.question), len(good)):
            self.assertIsNone(readLifetime(good[:end], QUERY))
        self.assertIsNone(readLifetime(good + b"\0", QUERY))

    def test_mutatedAnswers(self) -> None:
        """10,000 mutated answers are kept or not, and cause no error."""
        chance = random.Random(2)
        seeds = [
            answer(WIRE, [record(CNAME, 9, b"\1a\xc0\x0c"), record(A, 9)], [], [edns()]),
            answer(WIRE, [], [soa(600, 60)], flags=0x8183),
        ]
        for _ in range(10_000):
            message = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(1, 6)):
                place = chance.randrange(HEADER_SIZE + len(QUERY.question), len(message))
                message[place] = chance.choice((0, 0xC0, 0xFF, 12, chance.randrange(256)))
            wire = bytes(message[: chance.randrange(len(message) + 1)])
            if matches(wire, WIRE[:2], QUERY):
                life = readLifetime(wire, QUERY)
                self.assertTrue(life is None or life.seconds >= 1)
                self.assertLessEqual(len(truncate(wire + bytes(600), QUERY, 512)), 512)


class AgedTests(SynchronousTestCase):
    """Tests for L{aged}."""

    def test_aged(self) -> None:
        """Every record has less time left, none less than 0, and EDNS is as it was."""
        extension = edns(flags=0x8000)
        given = answer(WIRE, [record(A, 300), record(A, 9)], [soa(60, 60)], [extension])
        expected = answer(WIRE, [record(A, 283), record(A, 0)], [soa(43, 60)], [extension])
        self.assertEqual(aged(given, QUERY, 17), expected)
        self.assertEqual(aged(given, QUERY, 0), given)
        longest = answer(WIRE, [record(A, 0xFFFFFFFF)])
        self.assertEqual(aged(longest, QUERY, 1 << 31), answer(WIRE, [record(A, 0x7FFFFFFF)]))

    def test_noQuestion(self) -> None:
        """An error without the question is read all the same."""
        bare = WIRE[:2] + b"\x81\x82" + bytes(7) + b"\1" + record(A, 300, owner=b"\0")
        expected = WIRE[:2] + b"\x81\x82" + bytes(7) + b"\1" + record(A, 299, owner=b"\0")
        self.assertEqual(aged(bare, QUERY, 1), expected)

    def test_broken(self) -> None:
        """An answer that cannot be read is left alone."""
        good = answer(WIRE)
        for end in range(HEADER_SIZE + len(QUERY.question), len(good)):
            self.assertEqual(aged(good[:end], QUERY, 17), good[:end])
        many = answer(WIRE, [record(A, 300)] * 201)
        self.assertEqual(aged(many, QUERY, 17), many)


class TruncateTests(SynchronousTestCase):
    """Tests for L{truncate}."""

    def test_fits(self) -> None:
        """An answer that fits is not changed."""
        self.assertEqual(truncate(answer(WIRE), QUERY, 512), answer(WIRE))

    def test_tooLarge(self) -> None:
        """An answer that does not fit is cut to header, question and EDNS, with TC set."""
        large = answer(WIRE, [record(A, 300)] * 100, [], [edns(4096)])
        short = truncate(large, QUERY, 512)
        self.assertTrue(isTruncated(short))
        self.assertEqual(short[4:12], b"\0\1\0\0\0\0\0\1")
        self.assertEqual(short[12:], question("www.example.com") + edns(4096))

    def test_notRead(self) -> None:
        """Records that cannot be read are left out as well."""
        short = truncate(answer(WIRE) + bytes(600), QUERY, 512)
        self.assertTrue(isTruncated(short))
        self.assertEqual(short[4:], b"\0\1" + bytes(6) + QUERY.question)

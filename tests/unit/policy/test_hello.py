"""
Tests for L{nanotun.policy.hello}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.policy.hello import PUBLIC_NAMES, nameIn


class NameTests(SynchronousTestCase):
    """
    Tests for L{nameIn}.
    """

    def test_names(self) -> None:
        """
        A name is in lower case, without a final dot, as long as names may be.
        """
        longest = ".".join(["a" * 63] * 3 + ["a" * 61])
        for text, name in (
            (b"www.example.org", "www.example.org"),
            (b"WWW.Example.ORG.", "www.example.org"),
            (b"_x-y.example", "_x-y.example"),
            (b"localhost", "localhost"),
            (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
            (longest.encode(), longest),
        ):
            self.assertEqual(nameIn(text, False), name)
            self.assertEqual(nameIn(text, True), name)

    def test_noNames(self) -> None:
        """
        Addresses and whatever else an app may write are no names.
        """
        for text in (
            b"",
            b".",
            b"a..b",
            b".a",
            b"192.0.2.1",
            b"2001:db8::1",
            b"fd00::1%eth0",
            b"a b",
            b"a\nb",
            b"a.example\n",
            b"a.example:443",
            b"b\xfccher.example",
            "b\u00fccher.example".encode(),
            b"a" * 64,
            b".".join([b"a" * 63] * 4),
            b"\0",
        ):
            self.assertEqual(nameIn(text, False), "", text)

    def test_outer(self) -> None:
        """
        What stands for an encrypted name is none, unless it is meant itself.
        """
        for public in PUBLIC_NAMES:
            self.assertEqual(nameIn(public.encode(), True), "")
            self.assertEqual(nameIn(public.encode(), False), public)

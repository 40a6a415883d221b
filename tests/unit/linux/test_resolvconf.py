"""Tests of L{nanotun.linux.resolvconf}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.resolvconf import ResolvConf, readResolvConf


class ResolvConfTests(SynchronousTestCase):
    """L{readResolvConf}."""

    def read(self, text: str) -> ResolvConf:
        """What a file with this text says."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(text.encode("latin-1"))
        return readResolvConf(path)

    def test_servers(self) -> None:
        """Servers come in the order of the file, each once, in one form."""
        found = self.read(
            "# nameserver 192.0.2.1\n"
            "; nameserver 192.0.2.2\n"
            "nameserver 9.9.9.9 # behind it\n"
            "nameserver\t2001:DB8:0::53\n"
            "nameserver fe80::1%eth0\n"
            "nameserver 9.9.9.9\n"
            "nameserver 2001:db8::53\r\n"
            "options ndots:5\n"
        )
        self.assertEqual(found, ResolvConf(("9.9.9.9", "2001:db8::53", "fe80::1%eth0")))

    def test_notUnderstood(self) -> None:
        """Lines that are not understood are passed over, and those behind them are read."""
        found = self.read(
            "nameserver\nnameserver dns.example\nnameserver 1.2.3.4.5\n nameserver 9.9.9.9\n"
            "\xff\xfe\nsearch\nNAMESERVER 9.9.9.9\nnameserver 1.1.1.1"
        )
        self.assertEqual(found, ResolvConf(("1.1.1.1",)))

    def test_search(self) -> None:
        """The last line with domains counts: all of search, the first word of domain."""
        self.assertEqual(
            self.read("search A.example b.example. .\n").search, ("a.example", "b.example")
        )
        self.assertEqual(self.read("search a b\ndomain c d\n").search, ("c",))
        self.assertEqual(self.read("domain c\nsearch a b a\n").search, ("a", "b"))
        self.assertEqual(self.read("search a\nsearch .\n").search, ())

    def test_missing(self) -> None:
        """A file that cannot be read says nothing."""
        self.assertEqual(readResolvConf(self.mktemp()), ResolvConf())
        self.assertEqual(readResolvConf("/"), ResolvConf())

    def test_large(self) -> None:
        """Of a file without end only the beginning is read."""
        found = self.read("nameserver 1.1.1.1\n" + "#" * (1 << 16) + "\nnameserver 9.9.9.9\n")
        self.assertEqual(found.servers, ("1.1.1.1",))

"""Tests of L{nanotun.cell.naming}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.naming import nsswitchConf, resolvConf

SERVERS = (
    "# Made by 'nanotun run' for this command.\n"
    "nameserver 198.18.0.1\nnameserver fdfe:dcba:9876::1\n"
)


class ResolvConfTests(SynchronousTestCase):
    """L{resolvConf}."""

    def test_servers(self) -> None:
        """The gateway's two addresses replace the machine's servers."""
        text = "nameserver 127.0.0.53\nnameserver 192.0.2.1\n; nameserver 1.1.1.1\n"
        self.assertEqual(resolvConf(text), SERVERS)
        self.assertEqual(resolvConf(""), SERVERS)

    def test_kept(self) -> None:
        """Only search lists and options are kept, and no control character."""
        text = "search a.example b.example\noptions edns0\ndomain c\nsortlist x\nsearch \x1b[1m\n"
        self.assertEqual(
            resolvConf(text), f"{SERVERS}search a.example b.example\noptions edns0\ndomain c\n"
        )

    def test_dots(self) -> None:
        """However many dots the machine wants, a whole name is asked for before any other."""
        for options, kept in (
            ("options ndots:5 edns0 timeout:1", "options edns0 timeout:1\n"),
            ("options edns0 ndots:0", "options edns0\n"),
            ("options ndots:5", ""),
        ):
            self.assertEqual(resolvConf(f"search a\n{options}\n"), f"{SERVERS}search a\n{kept}")

    def test_wholeFirst(self) -> None:
        """Under fake-ip a name without a dot is asked for as it is first."""
        for text, kept in (
            ("search a\noptions ndots:5 edns0\n", "search a\noptions edns0\n"),
            ("", ""),
        ):
            expected = f"{SERVERS}{kept}options ndots:0\n"
            self.assertEqual(resolvConf(text, wholeFirst=True), expected)


class NsswitchTests(SynchronousTestCase):
    """L{nsswitchConf}."""

    def test_harmless(self) -> None:
        """A file whose sources all stay inside the cell is unchanged."""
        for line in ("hosts: files dns", "hosts:\tfiles dns myhostname # comment"):
            self.assertEqual(nsswitchConf(f"passwd: files\n{line}\n"), f"passwd: files\n{line}\n")

    def test_sources(self) -> None:
        """Sources that ask a daemon are dropped, together with all conditions."""
        for line, expected in (
            ("hosts: files resolve [!UNAVAIL=return] dns", "hosts: files dns"),
            ("hosts: mymachines mdns4_minimal [NOTFOUND=return] files myhostname",
             "hosts: files myhostname dns"),
            ("  hosts:  wins  ", "  hosts: dns"),
            ("hosts: files [SUCCESS=merge] dns", "hosts: files dns"),
            ("hosts:", "hosts: dns"),
        ):  # fmt: skip
            self.assertEqual(nsswitchConf(f"a: b\n{line}\nc: d\n"), f"a: b\n{expected}\nc: d\n")

    def test_others(self) -> None:
        """Databases other than hosts are unchanged."""
        text = "passwd: files sss\nnetworks: files resolve\n"
        self.assertEqual(nsswitchConf(text), text)

"""Tests of L{nanotun.console.run.ports}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.passages import LOOPBACKS, Port
from nanotun.console.run.ports import checkApart, hostPort, openedBy, published
from nanotun.errors import ConfigError


class ReadTests(SynchronousTestCase):
    """L{published} and L{hostPort}."""

    def test_published(self) -> None:
        """An address and another port may stand before the command's."""
        for text, hosts, entry in (
            ("3000", LOOPBACKS, 3000),
            ("3000/tcp", LOOPBACKS, 3000),
            ("8080:3000", LOOPBACKS, 8080),
            ("192.0.2.1:3000", ("192.0.2.1",), 3000),
            ("0.0.0.0:8080:3000", ("0.0.0.0",), 8080),
            ("[::]:8080:3000", ("::",), 8080),
            ("[0::0]:8080:3000", ("::",), 8080),
        ):
            expected = Port(f"--publish {text}", hosts, entry, 3000, True)
            self.assertEqual(published(text), expected)

    def test_hostPort(self) -> None:
        """Another port of the command's may stand before the machine's."""
        for text, entry in (("5432", 5432), ("80:5432", 80)):
            self.assertEqual(
                hostPort(text), Port(f"--host-port {text}", LOOPBACKS, entry, 5432, False)
            )

    def test_wrong(self) -> None:
        """Anything else is one sentence with an example."""
        for text in (
            *("", "x", "1:2:3", "127.0.0.1", "300.1.1.1:80", "[zz]:1:2", "::1:80", "1 "),
            "\uff18\uff10",
        ):
            error = self.assertRaises(ConfigError, published, text)
            self.assertEqual(
                str(error),
                "--publish must be [ADDRESS:][PORT:]PORT, as 3000 or 127.0.0.1:8080:3000, not "
                f"{text!a}.",
            )
        for text in ("127.0.0.1:80", "-1", "1:", "\u0663"):
            error = self.assertRaises(ConfigError, hostPort, text)
            self.assertIn("must be [PORT:]PORT, as 5432 or 5432:15432, not", str(error))
        for text in ("0", "65536", "0:1", "1:99999"):
            for read in (published, hostPort):
                error = self.assertRaises(ConfigError, read, text)
                self.assertIn("must be a port from 1 to 65535", str(error))

    def test_udp(self) -> None:
        """UDP is told apart from nonsense."""
        error = self.assertRaises(ConfigError, published, "3000/udp")
        self.assertEqual(
            str(error), "--publish is for TCP only, and '3000/udp' is not; leave it out."
        )

    def test_apart(self) -> None:
        """No address is taken twice; the two networks have ports of their own."""
        checkApart([published("3000"), hostPort("80:3000"), published("192.0.2.1:3000")])
        checkApart([published("5432:3000"), hostPort("5432")])
        wanted = [published("80:3000"), published("127.0.0.1:80:3001")]
        error = self.assertRaises(ConfigError, checkApart, wanted)
        self.assertEqual(
            str(error),
            "--publish 127.0.0.1:80:3001 and --publish 80:3000 are about the same port 80; leave "
            "one out.",
        )

    def test_overlap(self) -> None:
        """Whoever listens at all addresses has each of them."""
        for one, other in (
            ("0.0.0.0:80", "80"),
            ("80", "[::]:80"),
            ("0.0.0.0:80", "[::]:80"),
            ("[2001:db8::1]:80", "[::]:80"),
            ("[2001:db8::1]:80", "[2001:DB8:0::1]:80"),
        ):
            error = self.assertRaises(ConfigError, checkApart, map(published, (one, other)))
            self.assertIn(
                f"--publish {other} and --publish {one} are about the same port 80", str(error)
            )
        checkApart(map(published, ("0.0.0.0:80", "[2001:db8::1]:80", "[::]:81")))

    def test_circle(self) -> None:
        """No port leads to one that the other option takes, from where it might lead back."""
        for ports, published_, taker in (
            ([published("3000"), hostPort("3000")], "3000", "3000"),
            ([hostPort("80:3000"), published("8080:80")], "8080:80", "80:3000"),
        ):
            error = self.assertRaises(ConfigError, checkApart, ports)
            exit = published_.split(":")[-1]
            self.assertEqual(
                str(error),
                f"--publish {published_} leads to port {exit} of COMMAND's network, which "
                f"--host-port {taker} takes; choose another one there, as in --host-port "
                "PORT:3000.",
            )

    def test_opened(self) -> None:
        """What is open is told with the option that opens it."""
        self.assertEqual(
            list(openedBy([published("3000"), hostPort("80:5432")])),
            [
                "connections to 127.0.0.1:3000 and [::1]:3000 (--publish 3000)",
                "port 5432 of this machine (--host-port 80:5432)",
            ],
        )

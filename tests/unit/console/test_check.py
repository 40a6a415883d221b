"""Tests of L{nanotun.console.check}."""

from __future__ import annotations

from pathlib import Path

from nanotun.console import check
from tests.unit.console.test_console import ConsoleCase


class CheckTests(ConsoleCase):
    """L{check}."""

    def write(self, text: str) -> str:
        """Write a configuration file."""
        path = Path(self.mktemp())
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def test_good(self) -> None:
        """A good file is reported as OK, with a summary that contains no password."""
        path = self.write("proxy: [socks5://ann:hunter2@h, direct://]\nexcludedProcesses: curl\n")
        result, said, error = self.say(check.main, path)
        self.assertEqual((result, error), (0, ""))
        self.assertIn(f"OK: {path}\n", said)
        self.assertIn("socks5://ann:***@h:1080, direct:// (failover)", said)
        self.assertIn("processes: 1", said)
        self.assertNotIn("hunter2", said)
        self.assertLessEqual(max(map(len, said.splitlines()[1:])), 80)

    def test_upstreams(self) -> None:
        """The summary has every upstream, and how its proxies are dialled."""
        path = self.write(
            "proxy: socks5://h\nproxyVia: office\nupstreams:\n  office: socks5://ann:hunter2@g\n"
            "  deep: {proxy: [http://a, http://b], via: office, policy: round-robin}\n"
        )
        _, said, _ = self.say(check.main, path)
        self.assertIn(
            "  proxy    socks5://h:1080 through office\n"
            "  upstream office: socks5://ann:***@g:1080\n"
            "  upstream deep: http://a:80, http://b:80 (round-robin) through office\n",
            said,
        )

    def test_servers(self) -> None:
        """It says by which way each DNS server is asked."""
        path = self.write("proxy: h\ndns: [9.9.9.9, {server: 10.0.0.1, via: proxy}]\n")
        _, said, _ = self.say(check.main, path)
        self.assertIn("  dns      9.9.9.9:53 past the proxy, 10.0.0.1:53 through the proxy\n", said)

    def test_bad(self) -> None:
        """The error about a setting, or about a file that it names, is one sentence."""
        for text, sentence in (
            ("proxy: h\nmtu: 1\n", "line 2: mtu must be"),
            ("proxy: https://h?ca=/nowhere.pem\n", "/nowhere.pem"),
            (
                "proxy: h\ndns: [{server: 'tls://192.0.2.1', ca: /nowhere.pem}]\n",
                "The certificates in /nowhere.pem cannot be read (No such file or directory)",
            ),
            ("", "no proxy is set"),
            (
                "proxy: h\nrules:\n  - {to: direct, domains: 'file:/nowhere.txt'}\n",
                "The list file /nowhere.txt cannot be read (No such file or directory); check the",
            ),
        ):
            result, said, error = self.say(check.main, self.write(text))
            self.assertEqual((result, said, error.count("\n")), (1, "", 1))
            self.assertIn(sentence, error)

    def test_lists(self) -> None:
        """Each list has a line with its size; lines of it that are of no use are warned of."""
        blocked = Path(self.mktemp()).resolve()
        blocked.write_text("a.test\nx y\n")
        path = self.write(f"proxy: h\nrules: [{{to: reject, domains: 'file:{blocked}'}}]\n")
        result, said, error = self.say(check.main, path)
        self.assertEqual(result, 0)
        self.assertIn(f"\n  list     {blocked}: 1 name\n", said)
        self.assertIn(f"warning: {blocked}, line 2 is left out", error)

    def test_usage(self) -> None:
        """Exactly one file is accepted."""
        for arguments, sentence in (
            ((), "a FILE is missing, and there is no /etc/nanotun.yaml"),
            (("a", "b"), "one FILE at a time"),
            (("a", "-c", "b"), "one FILE at a time"),
        ):
            result, _, error = self.say(check.main, *arguments)
            self.assertEqual(result, 2)
            self.assertIn(sentence, error)

    def test_flags(self) -> None:
        """Flags take precedence over the file, as for a start."""
        path = self.write("proxy: h\nautoDefaultRoute: true\n")
        _, said, _ = self.say(check.main, path, "--no-auto-route")
        self.assertIn("routes   left as they are", said)
        _, said, _ = self.say(check.main, path)
        self.assertIn("routes   changed\n", said)
        _, said, _ = self.say(check.main, path, "--only", "uid:5,unit:x.service")
        self.assertIn("routes   changed, only for users and groups: 2\n", said)

    def test_rules(self) -> None:
        """Rules are counted, and one that can never match is a warning, not an error."""
        path = self.write("proxy: h\nrules:\n- {to: drop}\n- {to: proxy}\ndefault: direct\n")
        result, said, error = self.say(check.main, path)
        self.assertEqual(result, 0)
        self.assertIn("\n  rules    2, default direct\n", said)
        self.assertEqual(
            error,
            f"warning: Rule 2 ({path}, line 4) can never match, because rule 1 (line 3) takes all "
            "that it would; move it up, or remove it.\n",
        )

    def test_names(self) -> None:
        """What comes before the servers of C{dns} has a line, if there is anything."""
        blocked = Path(self.mktemp()).resolve()
        blocked.write_text("a.test\n")
        rule = f"{{domains: 'file:{blocked}', answer: refuse}}"
        path = self.write(f"proxy: h\ndnsRules: [{rule}, {{domains: b, answer: fake}}]\n")
        result, said, error = self.say(check.main, path)
        self.assertEqual(result, 0)
        self.assertIn("\n  names    dnsRules: 2\n", said)
        self.assertIn(f"\n  list     {blocked}: 1 name\n", said)
        self.assertIn(f"warning: dnsRules 2 ({path}, line 2) does nothing for its names", error)
        flags = ("--hosts", "--dns-rejected", "0.0.0.0")
        _, said, _ = self.say(check.main, path, *flags)
        self.assertIn("\n  names    dnsRules: 2, hosts, rejected names: 0.0.0.0, ::\n", said)
        _, said, _ = self.say(check.main, self.write("proxy: h\n"))
        self.assertNotIn("names ", said)

    def test_missingList(self) -> None:
        """A list of C{dnsRules} that is not there is an error, with the line that names it."""
        rule = "{domains: 'file:/nowhere.txt', answer: refuse}"
        path = self.write(f"proxy: h\ndnsRules:\n- {rule}\n")
        result, _, error = self.say(check.main, path)
        self.assertEqual(result, 1)
        self.assertIn("The list file /nowhere.txt cannot be read", error)
        self.assertIn(f"check the path in {path}, line 3.", error)

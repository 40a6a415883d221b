"""Tests of L{nanotun.daemon.files}."""

from __future__ import annotations

import os
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon.files import READ, WRITE, hasForeign, isForeign, pathsOf
from nanotun.interfaces import DnsServer

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h")}, None)
ANN = 1000


class Files:
    """A file system of modes and owners."""

    def __init__(self, **files: tuple[int, int, int]) -> None:
        self._files = {"/": (0o755, 0, 0)}
        self._files.update({f"/{name.replace('_', '/')}": value for name, value in files.items()})

    def stat(self, path: str) -> os.stat_result:
        """As L{os.stat}."""
        try:
            mode, uid, gid = self._files[path]
        except KeyError:
            raise FileNotFoundError(path) from None
        return os.stat_result((mode, 0, 0, 0, uid, gid, 0, 0, 0, 0))


class IsForeignTests(SynchronousTestCase):
    """L{isForeign}."""

    files = Files(
        nt=(0o755, 0, 0),
        nt_a=(0o600, 0, 0),
        nt_readonly=(0o555, 0, 0),
        nt_ann=(0o755, ANN, ANN),
        nt_ann_a=(0o644, ANN, ANN),
        nt_ann_secret=(0o600, ANN, ANN),
        nt_ann_roots=(0o755, 0, 0),
        nt_closed=(0o700, ANN, ANN),
        nt_closed_roots=(0o755, 0, 0),
        nt_group=(0o770, ANN, 0),
        nt_sticky=(0o1777, ANN, ANN),
    )

    def check(self, want: int, expected: bool, *paths: str) -> None:
        """Each of C{paths} is foreign, or is not."""
        for path in paths:
            self.assertIs(isForeign(f"/nt{path}", want, self.files.stat), expected, path)

    def test_own(self) -> None:
        """Root's own files, and those that everybody may use, are not foreign."""
        self.check(WRITE, False, "", "/a", "/new", "/new/new", "/ann/roots/new", "/sticky/new")
        self.check(WRITE, False, "/group/new")
        self.check(READ, False, "/a", "/ann/a", "/new", "/ann/roots/new")

    def test_foreign(self) -> None:
        """
        Files that only another user may use, or that are behind such a directory, or
        read-only for root, are foreign.
        """
        self.check(WRITE, True, "/ann", "/ann/new", "/ann/a", "/closed/roots", "/readonly/new")
        self.check(READ, True, "/ann/secret", "/closed/roots", "/closed/new")

    def test_real(self) -> None:
        """The real file system is read, and links are followed."""
        path = self.mktemp()
        os.symlink("/", path)
        self.assertFalse(isForeign(path, READ))


class PathsTests(SynchronousTestCase):
    """L{pathsOf} and L{hasForeign}."""

    def test_few(self) -> None:
        """A daemon reads its own code and uses its run directory."""
        read, written = pathsOf(replace(SETTINGS, logDir=""), {}, None)
        self.assertEqual(len(read), 1)
        self.assertEqual(written, {"/run/nanotun"})

    def test_all(self) -> None:
        """Every other file that the settings name is included."""
        proxies = "https://h?ca=/c/a.pem,socks5:///s/sock"
        settings = makeSettings(
            {},
            {
                name: flagValue(KEYS[name], value)
                for name, value in {
                    "proxy": proxies,
                    "proxyPasswordFile": "/p/word",
                    "logDir": "/l/ogs",
                    "runDir": "/r/un",
                    "dnsMode": "fake-ip",
                    "dnsStateFile": "/d/ns/state",
                    "countryFile": "/c/ountries",
                    "rules": "[{to: direct, domains: 'file:/n/ames', networks: 'file:/n/ets'}]",
                    "dnsRules": "{domains: 'file:/a/ds', answer: refuse}",
                }.items()
            },
            None,
        )
        twistd = {"pidfile": "/pid/file", "logfile": "/log/file"}
        read, written = pathsOf(settings, twistd, "/c/onfig")
        self.assertEqual(
            {path for path in read if "nanotun" not in path},
            {
                "/c/onfig",
                "/p/word",
                "/c/a.pem",
                "/c/ountries",
                "/n/ames",
                "/n/ets",
                "/a/ds",
            },
        )
        self.assertEqual(written, {"/r/un", "/s/sock", "/l/ogs", "/pid", "/log", "/d/ns"})

    def test_upstreams(self) -> None:
        """So are those of upstreams by name."""
        urls = "office=https://h?ca=/c/a.pem,office=socks5:///s/sock"
        flags = {"proxy": Given("h", ""), "upstreams": flagValue(KEYS["upstreams"], urls)}
        (office,) = makeSettings({}, flags, None).upstreams
        upstreams = (office._replace(passwordFile="/p/word"),)
        read, written = pathsOf(replace(SETTINGS, upstreams=upstreams), {}, None)
        self.assertLessEqual({"/p/word", "/c/a.pem"}, read)
        self.assertIn("/s/sock", written)

    def test_flowLog(self) -> None:
        """So is the directory of the record of flows."""
        _, written = pathsOf(replace(SETTINGS, flowLog="/var/lib/nanotun/flows.db"), {}, None)
        self.assertIn("/var/lib/nanotun", written)

    def test_authorities(self) -> None:
        """So are the authorities of DNS servers."""
        servers = (DnsServer("tls", "1.1.1.1", 853, ca="/c/a.pem"), *SETTINGS.dns)
        read, _ = pathsOf(replace(SETTINGS, dns=servers), {}, None)
        self.assertEqual({path for path in read if "nanotun" not in path}, {"/c/a.pem"})

    def test_stdout(self) -> None:
        """A --logfile of - is not a file."""
        _, written = pathsOf(SETTINGS, {"logfile": "-"}, None)
        self.assertEqual(written, {"/run/nanotun", "logs"})

    def test_hasForeign(self) -> None:
        """One foreign file is enough."""
        files = Files(ann=(0o750, ANN, ANN))
        self.assertFalse(hasForeign(["/"], ["/new"], files.stat))
        self.assertTrue(hasForeign(["/ann/x"], ["/new"], files.stat))
        self.assertTrue(hasForeign(["/"], ["/new", "/ann/x"], files.stat))

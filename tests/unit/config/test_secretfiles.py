"""Tests of L{nanotun.config.secretfiles}, through the options that read such files."""

from __future__ import annotations

import os

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.config import options as module
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.config.secretfiles import FILE_VARIABLES
from nanotun.errors import ConfigError


class SecretFilesTests(SynchronousTestCase):
    """Variables that name a file with a value."""

    def write(self, text: str) -> str:
        """A file with this text."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        return os.path.abspath(path)

    def read(self, **variables: str) -> Options:
        """The options that an environment gives."""
        options = Options()
        options.defaultFile = ""
        options.readSettings(os.geteuid(), {f"NANOTUN_{k}": v for k, v in variables.items()})
        return options

    def fails(self, **variables: str) -> str:
        """The error for an environment."""
        return str(self.assertRaises(ConfigError, self.read, **variables))

    def test_proxy(self) -> None:
        """A file holds the proxy with its password, which is no reason for a warning."""
        options = self.read(PROXY_FILE=self.write("socks5://ann:hunter2@h\n"))
        self.assertEqual([url.password for url in options.settings.proxy], ["hunter2"])
        self.assertEqual(options.notices, ())
        self.assertIn("proxy", options.given)

    def test_several(self) -> None:
        """Several values are lines of the file, or have commas between them."""
        options = self.read(PROXY_FILE=self.write("a\n\n  b,c\r\n"))
        self.assertEqual([url.host for url in options.settings.proxy], ["a", "b", "c"])

    def test_upstreams(self) -> None:
        """Upstreams by name can be in a file, too."""
        options = self.read(PROXY="h", UPSTREAMS_FILE=self.write("deep=ann:x@a\nother=b\n"))
        self.assertEqual([each.name for each in options.settings.upstreams], ["deep", "other"])

    def test_password(self) -> None:
        """So can the password of a proxy whose URL has none, with blanks that are part of it."""
        options = self.read(PROXY="ann@h", PROXY_PASSWORD_FILE=self.write(" x\n"))
        self.assertEqual(options.settings.proxy[0].password, " x")
        self.assertEqual(options.notices, ())

    def test_flag(self) -> None:
        """A flag wins over the file."""
        options = Options()
        options["proxy"] = "flag"
        options.readSettings(os.geteuid(), {"NANOTUN_PROXY_FILE": self.write("file")})
        self.assertEqual(options.settings.proxy[0].host, "flag")

    def test_both(self) -> None:
        """A variable and its file are an error that names both, and no password."""
        sentence = self.fails(PROXY="ann:hunter2@h", PROXY_FILE=self.write("g"))
        self.assertEqual(
            sentence, "NANOTUN_PROXY and NANOTUN_PROXY_FILE are both set; remove one of the two."
        )

    def test_unreadable(self) -> None:
        """A file that is missing, empty or no text is an error that names file and variable."""
        empty, binary = self.write(" \n"), self.write("")
        with open(binary, "wb") as file:
            file.write(b"\xff\n")
        self.assertEqual(
            self.fails(PROXY_FILE="/nowhere"),
            "The secret file /nowhere cannot be read (No such file or directory); check the path "
            "in NANOTUN_PROXY_FILE.",
        )
        sentence = self.fails(PROXY_FILE=empty)
        self.assertIn(f"The file {empty} that NANOTUN_PROXY_FILE names is empty", sentence)
        self.assertIn("UTF-8", self.fails(PROXY_FILE=binary))

    def test_wrong(self) -> None:
        """What is wrong in the file is said with the names of variable and file, not its text."""
        path = self.write("ftp://ann:hunter2@h")
        sentence = self.fails(PROXY_FILE=path)
        self.assertTrue(sentence.startswith(f"NANOTUN_PROXY_FILE ({path}) "), sentence)
        self.assertNotIn("hunter2", sentence)
        path = self.write("two\nlines")
        sentence = self.fails(PROXY="ann@h", PROXY_PASSWORD_FILE=path)
        self.assertTrue(sentence.startswith(f"NANOTUN_PROXY_PASSWORD_FILE ({path}) "), sentence)

    def test_others(self) -> None:
        """A setting that holds no password has no such variable, and a warning says so."""
        self.assertIn("NANOTUN_MTU_FILE", self.read(PROXY="h", MTU_FILE="/x").notices[0])
        self.assertEqual(
            sorted(FILE_VARIABLES),
            ["NANOTUN_PROXY", "NANOTUN_PROXY_PASSWORD", "NANOTUN_UPSTREAMS"],
        )
        self.assertTrue(KEYS["proxy"].secret)

    def test_owner(self) -> None:
        """Another user's file is refused, except in a container."""
        if os.geteuid() != 0:
            raise SkipTest("only root may give files away")
        path = self.write("h")
        os.chown(path, 65534, 65534)
        self.patch(module, "inContainer", lambda: False)
        self.assertIn("belongs to another user", self.fails(PROXY_FILE=path))
        self.patch(module, "inContainer", lambda: True)
        self.assertEqual(self.read(PROXY_FILE=path).settings.proxy[0].host, "h")

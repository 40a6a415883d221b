"""Tests of L{nanotun.config.options}."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from nanotun import __version__
from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.config.options import FILE_LIMIT, OTHER_VARIABLES, Options, readFile
from nanotun.config.settings import strayVariables
from nanotun.errors import ConfigError


class FileCase(SynchronousTestCase):
    """With a configuration file."""

    def write(self, text: str | bytes, mode: int = 0o600) -> str:
        """Make a file and return its path."""
        path: str = self.mktemp()
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path


class ReadFileTests(FileCase):
    """L{readFile}."""

    def fails(self, path: str, uid: int | None = None) -> str:
        """The error for C{path}."""
        uid = os.geteuid() if uid is None else uid
        return str(self.assertRaises(ConfigError, readFile, path, uid))

    def test_text(self) -> None:
        """A safe file gives its text, without a byte order mark."""
        path = self.write(b"\xef\xbb\xbfproxy: \xc3\xa9")
        self.assertEqual(readFile(path, os.geteuid()), ("proxy: é", False))

    def test_readableByOthers(self) -> None:
        """The result says whether everybody can read the file; a group alone does not count."""
        self.assertTrue(readFile(self.write("", 0o644), os.geteuid())[1])
        self.assertFalse(readFile(self.write("", 0o640), os.geteuid())[1])

    def test_missing(self) -> None:
        """A file that is missing, or is a directory, is an error with its path."""
        for path in (self.mktemp(), "."):
            self.assertIn(f"The configuration file {path} cannot be read", self.fails(path))

    def test_writable(self) -> None:
        """A file that others can write is refused, with what to do."""
        for mode in (0o620, 0o602, 0o666):
            path = self.write("", mode)
            self.assertIn(f"chmod go-w {path}", self.fails(path))

    def test_foreign(self) -> None:
        """A file of another user, except root, is refused, with what to do."""
        path = self.write("")
        if os.geteuid() == 0:
            os.chown(path, 12345, -1)
        self.assertIn(f"chown root {path}", self.fails(path, uid=54321))

    def test_tooLong(self) -> None:
        """A file that is too long for a configuration is refused."""
        path = self.write("#" * (FILE_LIMIT + 1))
        self.assertIn("longer than 8 MiB", self.fails(path))

    def test_notUTF8(self) -> None:
        """The error for another encoding names the line."""
        path = self.write(b"a: 1\nb: \xff")
        self.assertIn(f"{path}, line 2: this is not UTF-8", self.fails(path))


class OptionsTests(FileCase):
    """L{Options}."""

    def parse(self, *arguments: str) -> Options:
        """Parse a command line."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_noFile(self) -> None:
        """Everything works without a file."""
        settings = self.parse("--proxy", "h", "--mtu=1400", "--stack", "simple").settings
        self.assertEqual((settings.mtu, settings.stackMode), (1400, "simple"))

    def test_file(self) -> None:
        """Values come from the file, and flags win over it."""
        path = self.write("proxy: h\nmtu: 1400\ntunName: t0\n")
        settings = self.parse("-c", path, "--mtu", "1300").settings
        self.assertEqual((settings.mtu, settings.tunName), (1300, "t0"))

    def test_everyKey(self) -> None:
        """Every setting has a flag, and the help shows its default."""
        help = " ".join(str(self.parse("--proxy", "h")).split())
        for key in KEYS.values():
            self.assertIn(f"--{key.flag} " if key.switch else f"--{key.flag}=", help)
            if key.default:
                self.assertIn(f"[default: {key.default}]", help)

    def test_repeated(self) -> None:
        """The flag of a setting with several values may be given several times."""
        help = " ".join(str(Options()).split())
        for key in KEYS.values():
            several = f"{key.help}; may be given several times" in help or (
                f"{key.help} [default: {key.default}]; may be given several times" in help
            )
            self.assertEqual(several, key.repeats, key.name)

    def test_switch(self) -> None:
        """Each setting that is true or false has every form of a switch, and wins over the file."""
        switches = [key for key in KEYS.values() if key.switch]
        self.assertEqual(len(switches), 10)
        for key in switches:
            on, off = f"--{key.flag}", f"--no-{key.flag}"
            for flags, expected in (
                ([on], True),
                ([on, "true"], True),
                ([f"{on}=true"], True),
                ([off], False),
                ([on, "false"], False),
                ([f"{on}=false"], False),
                ([off, on], True),
                ([on, off], False),
            ):
                path = self.write(f"proxy: h\n{key.name}: {str(not expected).lower()}\n")
                settings = self.parse("-c", path, *flags).settings
                self.assertIs(getattr(settings, key.name), expected, flags)

    def test_servers(self) -> None:
        """DNS servers are given by one flag or several, which win over the file."""
        path = self.write("proxy: h\ndns: [192.0.2.1, '[::1]:54']\n")
        found = self.parse("-c", path).settings.dns
        self.assertEqual([str(each) for each in found], ["192.0.2.1:53", "[::1]:54"])
        settings = self.parse("-c", path, "--dns", "9.9.9.9", "--dns=8.8.8.8,::1").settings
        self.assertEqual([each.host for each in settings.dns], ["9.9.9.9", "8.8.8.8", "::1"])

    def test_excluded(self) -> None:
        """So are the names that fake-ip leaves alone."""
        path = self.write("proxy: h\nfakeIpExclude: [lan]\n")
        self.assertEqual(self.parse("-c", path).settings.fakeIpExclude, ("lan",))
        flags = ("--fake-ip-exclude", "a", "--fake-ip-exclude=b.example,c")
        settings = self.parse("-c", path, *flags).settings
        self.assertEqual(settings.fakeIpExclude, ("a", "b.example", "c"))

    def test_fallback(self) -> None:
        """A fallback counts after flags and variables, is neither, and is for no file."""

        class Falling(Options):
            """Options that fall back on a variable X."""

            def fallback(self, environment: Mapping[str, str]) -> dict[str, Given]:
                """See L{Options.fallback}."""
                return {"mtu": Given(int(environment["X"]), "X"), "proxy": Given(["x"], "X")}

        def read(*arguments: str, **environment: str) -> Options:
            options = Falling()
            options.postOptions = lambda: None  # type: ignore[method-assign]
            options.parseOptions(list(arguments))
            options.readSettings(os.geteuid(), {"X": "1400", **environment})
            return options

        options = read("--tun", "t0", NANOTUN_MTU="1300")
        self.assertEqual((options.settings.mtu, options.settings.proxy[0].host), (1300, "x"))
        self.assertEqual((options.given, options.flags), ({"mtu", "tunName"}, {"tunName"}))
        self.assertEqual(read().settings.mtu, 1400)
        options = read("-c", self.write("proxy: h\ndnsCache: false\n"))
        self.assertEqual((options.settings.mtu, options.filed), (1500, {"proxy", "dnsCache"}))
        error = self.assertRaises(ConfigError, read, X="1")
        self.assertTrue(str(error).startswith("X must be "), error)

    def test_error(self) -> None:
        """A wrong setting ends the program with status 1 and the sentence, and no help."""
        for arguments in ([], ["--proxy", "h", "--mtu", "1"], ["-c", self.mktemp()]):
            error = self.assertRaises(SystemExit, self.parse, *arguments)
            # A text as the code is what Python prints before it exits with 1.
            self.assertTrue(str(error.code).startswith("nanotun: "), error.code)
            self.assertEqual(str(error.code).count("\n"), 0)

    def test_version(self) -> None:
        """--version tells nanotun's version, not Twisted's."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        error = self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual((error.code, output.getvalue()), (0, f"nanotun {__version__}\n"))

    def test_strayArgument(self) -> None:
        """A word without an option is an error."""
        self.assertRaises(usage.UsageError, self.parse, "--proxy", "h", "start")

    def test_noticeForFlag(self) -> None:
        """A password on the command line causes a warning that does not repeat it."""
        (notice,) = self.parse("--proxy", "h", "--proxy", "a:hunter2@h").notices
        self.assertIn("command line", notice)
        self.assertNotIn("hunter2", notice)

    def test_noticeForFile(self) -> None:
        """So does a file that everybody can read, but only if it holds a password."""
        path = self.write("proxy: a:hunter2@h", 0o644)
        (notice,) = self.parse("-c", path).notices
        self.assertIn(f"chmod o-r {path}", notice)
        self.assertEqual(self.parse("-c", self.write("proxy: a:hunter2@h", 0o600)).notices, ())
        self.assertEqual(self.parse("-c", self.write("proxy: h", 0o644)).notices, ())

    def test_noticeForUpstreams(self) -> None:
        """The passwords of named upstreams count, and two of them cause one warning."""
        (notice,) = self.parse("--proxy", "h", "--upstream", "a=b:hunter2@h").notices
        self.assertTrue(notice.startswith("A proxy's password is on the command line"), notice)
        self.assertNotIn("hunter2", notice)
        path = self.write("proxy: a:hunter2@h\nupstreams: {a: b:hunter2@h}", 0o644)
        (notice,) = self.parse("-c", path).notices
        self.assertIn(f"{path} holds a proxy's password and", notice)


class EnvironmentTests(FileCase):
    """Settings from environment variables."""

    def read(self, *arguments: str, **environment: str) -> Options:
        """Read the settings of a command line and an environment."""
        options = Options()
        options.postOptions = lambda: None  # type: ignore[method-assign]
        options.parseOptions(list(arguments))
        options.readSettings(os.geteuid(), environment)
        return options

    def test_precedence(self) -> None:
        """A flag wins over a variable, and that over the file."""
        path = self.write("proxy: h\nmtu: 1400\ntunName: t0\noffload: on\nudpTimeout: 2m\n")
        options = self.read(
            *("-c", path, "--mtu", "1300"),
            NANOTUN_MTU="1350",
            NANOTUN_TUNNAME="t1",
            NANOTUN_OFFLOAD="",
        )
        settings = options.settings
        self.assertEqual((settings.mtu, settings.tunName), (1300, "t1"))
        self.assertEqual((settings.offload, settings.udpTimeout), ("on", 120.0))
        self.assertEqual(sorted(options.given), ["mtu", "tunName"])
        self.assertEqual(options.notices, ())

    def test_kinds(self) -> None:
        """Numbers, switches and several values are written as in flags."""
        settings = self.read(
            NANOTUN_PROXY="a:1, direct://",
            NANOTUN_AUTODEFAULTROUTE="true",
            NANOTUN_DNSCACHESIZE="7",
            NANOTUN_DNS="9.9.9.9,::1",
            NANOTUN_EXCLUDEDIPS="192.0.2.1",
        ).settings
        self.assertEqual([each.scheme.name for each in settings.proxy], ["socks5", "direct"])
        self.assertTrue(settings.autoDefaultRoute)
        self.assertEqual(settings.dnsCacheSize, 7)
        self.assertEqual([each.host for each in settings.dns], ["9.9.9.9", "::1"])
        self.assertEqual(list(map(str, settings.excludedIPs)), ["192.0.2.1/32"])
        off = self.read("--proxy", "h", "--no-auto-route", NANOTUN_AUTODEFAULTROUTE="true")
        self.assertFalse(off.settings.autoDefaultRoute)

    def test_error(self) -> None:
        """The error for a wrong value names the variable, and shows no password."""
        for variable, value, rule in (
            ("NANOTUN_MTU", "big", "must be a whole number of bytes"),
            ("NANOTUN_MTU", "1", "must be a whole number of bytes"),
            ("NANOTUN_LOGLEVEL", "loud", "must be debug, info, warn or error"),
            ("NANOTUN_PROXY", "gopher://a:hunter2@h", "must"),
            ("NANOTUN_AUTODEFAULTROUTE", "yes", "must be true or false"),
        ):
            given = {"NANOTUN_PROXY": "h", variable: value}
            error = str(self.assertRaises(ConfigError, self.read, **given))
            self.assertTrue(error.startswith(f"{variable} {rule}"), error)
            self.assertNotIn("hunter2", error)

    def test_password(self) -> None:
        """A password in a variable is no reason for a warning: other users cannot read it."""
        path = self.write("proxy: a:hunter2@h", 0o644)
        options = self.read("-c", path, NANOTUN_PROXY="socks5://a:own@h")
        self.assertEqual((options.settings.proxy[0].password, options.notices), ("own", ()))

    def test_meant(self) -> None:
        """No variable that means something to nanotun is taken for a stray one."""
        names = {*OTHER_VARIABLES, *(key.variable for key in KEYS.values())}
        self.assertEqual(strayVariables(dict.fromkeys(names, "x"), OTHER_VARIABLES), ())

    def test_stray(self) -> None:
        """A variable that belongs to no setting is named, with the likely meaning."""
        for name, hint in (
            ("NANOTUN_MTUU", " (did you mean NANOTUN_MTU?)"),
            ("NANOTUN_LOG_LEVEL", " (did you mean NANOTUN_LOGLEVEL?)"),
            ("nanotun_mtu", " (did you mean NANOTUN_MTU?)"),
            ("NANOTUN_AUTO_ROUTE", " (did you mean NANOTUN_AUTODEFAULTROUTE?)"),
            ("NANOTUN_EXCLUDE", " (did you mean NANOTUN_EXCLUDEDPROCESSES?)"),
            ("NANOTUN_PROXYPASSWORD", " (did you mean NANOTUN_PROXY_PASSWORD?)"),
            ("NANOTUN_COLOUR", ""),
        ):
            (notice,) = self.read(NANOTUN_PROXY="h", **{name: "hunter2"}).notices
            self.assertEqual(
                notice,
                f"No setting has the environment variable {name}{hint}; a setting's variable is "
                "NANOTUN_ and its name in capitals.",
            )
        (notice,) = self.read("--proxy=h", NANOTUN_A="", NANOTUN_MTUU="1", PATH="/bin").notices
        self.assertIn("variable NANOTUN_A, NANOTUN_MTUU (did", notice)

    def test_others(self) -> None:
        """Variables that mean something else to nanotun are not strange."""
        options = self.read("--proxy=h", NANOTUN_PROXY_PASSWORD="x", NANOTUN_DEFAULTS="/x")
        self.assertEqual(options.notices, ())

    def test_unmetNeeds(self) -> None:
        """A setting that does nothing without another one is a notice."""
        (notice,) = self.read("--proxy=h", "--kill-switch=true").notices
        self.assertIn("killSwitch does nothing without autoDefaultRoute", notice)
        self.assertEqual(self.read("--proxy=h", "--kill-switch=true", "--auto-route").notices, ())

    def test_distinct(self) -> None:
        """No two settings have one variable, and none that of the password."""
        variables = {key.variable for key in KEYS.values()}
        self.assertEqual(len(variables), len(KEYS))
        self.assertNotIn("NANOTUN_PROXY_PASSWORD", variables)


class PasswordTests(FileCase):
    """The password from a file or the environment."""

    def read(self, proxy: str, file: str = "", **environment: str) -> Options:
        """Read the settings of a proxy and, if there is one, its password file."""
        options = Options()
        options["proxy"] = proxy
        options["proxy-password-file"] = file or None
        options.readSettings(os.geteuid(), environment)
        return options

    def test_precedence(self) -> None:
        """The URL's own wins over the file's, and that over the environment's."""
        file = self.write("file\n")
        for proxy, path, environment, expected in (
            ("socks5://ann:url@h", file, "variable", "url"),
            ("socks5://ann:@h", file, "variable", ""),
            ("socks5://ann@h", file, "variable", "file"),
            ("socks5://ann@h", "", "variable", "variable"),
            ("socks5://ann@h", "", "", None),
            ("socks5://h", "", "variable", None),
            ("socks4://ann@h", "", "variable", None),
            ("direct://", "", "variable", None),
        ):
            (found,) = self.read(proxy, path, NANOTUN_PROXY_PASSWORD=environment).settings.proxy
            self.assertEqual(found.password, expected, (proxy, path, environment))

    def test_several(self) -> None:
        """It is used for all proxies that lack one, and warnings add up."""
        options = self.read("ann@a,bob:own@b,c", self.write("file", 0o644))
        self.assertEqual([each.password for each in options.settings.proxy], ["file", "own", None])
        self.assertEqual(len(options.notices), 2)

    def test_fromConfiguration(self) -> None:
        """The configuration file may name the password file."""
        file = self.write("hunter2\r\n")
        path = self.write(f"proxy: http://ann@h\nproxyPasswordFile: {file}\n")
        options = Options()
        options.parseOptions(["-c", path])
        self.assertEqual(options.settings.proxy[0].password, "hunter2")
        self.assertEqual(options.notices, ())

    def test_upstreams(self) -> None:
        """A named upstream has its own file, and neither the proxy's nor the variable."""
        own, other = self.write("own"), self.write("other")
        path = self.write(
            f"proxy: ann@p\nproxyPasswordFile: {other}\nupstreams:\n"
            f"  deep: {{proxy: [ann@a, bob:b@c], via: direct, passwordFile: {own}}}\n"
            "  bare: ann@d\n"
        )
        options = Options()
        options.parseOptions(["-c", path])
        proxy, (deep, bare) = options.settings.proxy, options.settings.upstreams
        self.assertEqual([url.password for url in proxy], ["other"])
        self.assertEqual([url.password for url in deep.proxy], ["own", "b"])
        self.assertEqual([url.password for url in bare.proxy], [None])
        self.assertEqual((deep.name, deep.via, deep.policy), ("deep", "direct", ""))
        self.assertEqual(options.notices, ())
        options = Options()
        options["proxy"], options["upstream"] = "ann@p", "deep=ann@a"
        options.readSettings(os.geteuid(), {"NANOTUN_PROXY_PASSWORD": "variable"})
        self.assertEqual(options.settings.proxy[0].password, "variable")
        self.assertIsNone(options.settings.upstreams[0].proxy[0].password)

    def test_upstreamsWrong(self) -> None:
        """What is wrong with such a file names the upstream."""
        for proxy, file, complaint in (
            ("ann@a", "/nowhere", "check the path after passwordFile of upstreams.deep"),
            ("ann@a", self.write(""), "must hold the password and nothing else"),
        ):
            text = f"proxy: p\nupstreams: {{deep: {{proxy: {proxy}, passwordFile: {file}}}}}"
            options = Options()
            options["config"] = self.write(text)
            error = self.assertRaises(ConfigError, options.readSettings, os.geteuid(), {})
            self.assertIn(f"The password file {file} ", str(error))
            self.assertIn(complaint, str(error))
        options = Options()
        text = f"proxy: p\nupstreams: {{deep: {{proxy: a, passwordFile: {self.write('x')}}}}}"
        options.parseOptions(["-c", self.write(text)])
        (notice,) = options.notices
        self.assertIn("is not used, because no proxy of the upstream deep has a user", notice)

    def test_unsafe(self) -> None:
        """A password file that others can write is refused; one that they can read causes
        a warning."""
        error = self.assertRaises(ConfigError, self.read, "socks5://ann@h", self.write("x", 0o622))
        self.assertIn("The password file", str(error))
        self.assertIn("chmod go-w", str(error))
        (notice,) = self.read("socks5://ann@h", self.write("hunter2", 0o644)).notices
        self.assertIn("chmod o-r", notice)
        self.assertNotIn("hunter2", notice)

    def test_unused(self) -> None:
        """A password file that no proxy needs causes a warning."""
        for proxy in ("socks5://h", "direct://", "socks4://ann@h"):
            (notice,) = self.read(proxy, self.write("hunter2")).notices
            self.assertIn("is not used", notice)

    def test_wrong(self) -> None:
        """A file that cannot hold a password is an error that does not show its text."""
        missing = self.mktemp()
        for file, complaint in (
            (self.write(""), "nothing else"),
            (self.write("\n"), "nothing else"),
            (self.write("hunter2\nhunter3\n"), "nothing else"),
            (self.write("hunter2" * 40), "255 bytes"),
            (missing, "check the path after proxyPasswordFile"),
        ):
            error = self.assertRaises(ConfigError, self.read, "socks5://ann@h", file)
            self.assertIn(complaint, str(error))
            self.assertIn(file, str(error))
            self.assertNotIn("hunter", str(error))

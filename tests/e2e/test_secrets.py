"""
Passwords: wherever they come from and whatever the proxy does, they are in no log, at any
level and in any form, and in no process's arguments.
"""

from __future__ import annotations

import base64
import errno
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from tests.e2e import schemes
from tests.e2e.case import LabCase, engines
from tests.e2e.lab import badproxy, badsocks, curl, tlsfront
from tests.e2e.lab.badproxy import HTTP
from tests.e2e.lab.daemon import Daemon, collectLogs
from tests.e2e.lab.httpproxies import Squid
from tests.e2e.lab.proxies import PASSWORD, USER, Microsocks
from tests.e2e.lab.tlsfront import Stunnel
from tests.e2e.lab.topology import IPV4
from tests.e2e.test_daemon import assertOneSentence, runToEnd

VARIABLE = "NANOTUN_PROXY_PASSWORD"

WRONG = "Qp@ss/w:rd %42"
"""A password that no proxy accepts, with every character that must be escaped."""


class Source(NamedTuple):
    """
    How the daemon learns the password.

    @ivar inURL: what is between the user name and the host.
    """

    inURL: str = ""
    settings: tuple[tuple[str, object], ...] = ()
    variable: str = ""


def forms(password: str) -> dict[str, str]:
    """Every form that a password may have in a log."""
    raw = password.encode()
    both = f"{USER}:{password}".encode()
    return {
        "as it is": password,
        "percent": quote(password, safe=""),
        "percent, but for slashes": quote(password),
        "as in a form": quote_plus(password),
        "repr": repr(raw)[2:-1],
        "base64": base64.b64encode(raw).decode().rstrip("="),
        # The last characters depend on what follows.
        "Basic": base64.b64encode(both).decode().rstrip("=")[:-1],
        "hexadecimal": raw.hex(),
        "its first word": password.split()[0],
    }


class SecretCase(schemes.ProgramsCase):
    """Passwords, and where to look for them."""

    seconds = 120
    programs = ("openssl", "squid", "stunnel")

    def sources(self, password: str) -> dict[str, Source]:
        """All sources of a password."""
        path = self.directory / "password"
        path.touch(mode=0o600)
        path.write_text(f"{password}\n")
        return {
            "URL": Source(f":{quote(password, safe='')}"),
            "file": Source(settings=(("proxyPasswordFile", str(path)),)),
            "environment": Source(variable=password),
        }

    def daemonWith(self, url: str, source: Source) -> Daemon:
        """Start a daemon with the most detailed log, and its password from C{source}."""
        os.environ.pop(VARIABLE, None)
        if source.variable:
            os.environ[VARIABLE] = source.variable
            self.addCleanup(os.environ.pop, VARIABLE, None)
        return self.daemon(
            proxy=url.replace("@", f"{source.inURL}@", 1), logLevel="debug", **dict(source.settings)
        )

    def assertKept(self, daemon: Daemon, password: str, where: str) -> None:
        """No file, log line or argument contains the password."""
        texts = {
            "the log": daemon.log(),
            "the arguments": Path(f"/proc/{daemon.pid}/cmdline").read_bytes().decode(),
        }
        for path in daemon.directory.rglob("*"):
            if path.is_file() and path.name != "nanotun.yaml":
                texts[path.name] = path.read_bytes().decode("utf-8", "replace")
        self.assertIn("debug", texts["the log"])
        leaks = [
            f"{where}: {name} has it: {form}"
            for name, text in texts.items()
            for form, secret in forms(password).items()
            if secret in text
        ]
        self.assertEqual(leaks, [])


class GoodProxyChecks(SecretCase):
    """Proxies that require the password."""

    def _socks5(self) -> str:
        self.started(Microsocks(self.lab.proxy, self.directory, auth=True))
        return f"socks5://{USER}@{IPV4.proxy}:1081"

    def _http(self) -> str:
        self.started(Squid(self.lab.proxy, self.directory, "basic", 3128))
        return f"http://{USER}@{IPV4.proxy}:3128"

    def _https(self) -> str:
        ca = tlsfront.authority(self.directory)
        shown = tlsfront.certificate(self.directory, ca)
        self.started(Squid(self.lab.proxy, self.directory, "digest", 3129))
        self.started(Stunnel(self.lab.proxy, self.directory, 3129, shown))
        return f"https://{USER}@{IPV4.proxy}:4430?ca={ca.cert}"

    def test_kept(self) -> None:
        """From URL, file or environment, the password opens the proxy and is told to nobody."""
        web = self.webServer()
        for url in (self._socks5(), self._http(), self._https()):
            for where, source in self.sources(PASSWORD).items():
                daemon = self.daemonWith(url, source)
                got = curl.get(self.lab.app, IPV4.url(web.port, "/peer"))
                self.assertEqual(got, IPV4.proxyOutside, f"{url} {where}")
                # A destination that does not exist has log lines of its own.
                self.connectError(schemes.REFUSED_PORT)
                self.assertKept(daemon, PASSWORD, f"{url} {where}")
                self.assertEndsWell(daemon)
                self.assertNotIn(" error [", daemon.log())

    def test_wrong(self) -> None:
        """A wrong password or none gives one clear sentence, and the app sees a reset."""
        for url in (self._socks5(), self._http(), self._https()):
            for where, source in self.sources(WRONG).items():
                daemon = self.daemonWith(url, source)
                self._assertReset(daemon, "user name and password")
                self.assertKept(daemon, WRONG, f"{url} {where}")
                daemon.kill()
            daemon = self.daemon(proxy=url.replace(f"{USER}@", ""), logLevel="debug")
            self._assertReset(daemon, "wants a user name and password")
            daemon.kill()

    def _assertReset(self, daemon: Daemon, words: str) -> None:
        for _ in range(2):
            number, seconds = self.connectError(80)
            self.assertEqual(number, errno.ECONNREFUSED)
            self.assertLess(seconds, schemes.BEFORE_THE_DEADLINE)
        self.assertTold(daemon, words, IPV4.proxy)


class BadProxyChecks(SecretCase):
    """Proxies that misuse the password."""

    def test_kept(self) -> None:
        """No failure, not even a proxy that sends back what it gets, brings it into the log."""
        handlers: dict[str, tuple[tuple[str, badsocks.Handler], ...]] = {
            "socks5": (
                ("mirror", badproxy.mirror),
                ("wrong password", badsocks.wrongPassword),
                ("hangs", badsocks.hangsAtOnce),
                ("closes", badsocks.closesAtOnce),
            ),
            "http": (
                ("mirror", badproxy.mirror),
                ("log-in again", badproxy.Loops(('Basic realm="lab"',))),
                ("Digest", badproxy.Loops(('Digest realm="lab", nonce="%d"',))),
                ("what was sent", badproxy.sendsBackLogin),
                ("garbage", badproxy.answers(HTTP, b"\x01\x02\x03\r\n\r\n")),
                ("closes", badproxy.closesAtOnce),
            ),
        }
        sources = self.sources(WRONG)
        for scheme, cases in handlers.items():
            for name, handler in cases:
                for option in ("", "?pipeline=1"):
                    peer = self.peer(handler, self.lab.proxy)
                    where = ("URL", "file", "environment")[peer.port % 3]
                    url = f"{scheme}://{USER}@{IPV4.proxy}:{peer.port}{option}"
                    daemon = self.daemonWith(url, sources[where])
                    self.connectError(80)
                    self.assertKept(daemon, WRONG, f"{name} {url} {where}")
                    daemon.kill()
                    peer.stop()


class MistakeTests(LabCase):
    """Settings about passwords that are wrong."""

    def test_mistakes(self) -> None:
        """Each mistake gives one sentence, which does not contain the password."""
        path = self.directory / "password"
        proxy = f"http://{USER}@{IPV4.proxy}:1"
        absent = str(self.directory / "absent")
        for number, (content, mode, settings, word) in enumerate(
            (
                ("", 0o600, {"proxy": proxy, "proxyPasswordFile": str(path)}, "one line"),
                (
                    "geheim\n\nx",
                    0o600,
                    {"proxy": proxy, "proxyPasswordFile": str(path)},
                    "one line",
                ),
                ("geheim", 0o600, {"proxy": proxy, "proxyPasswordFile": absent}, absent),
                (
                    "geheim" * 60,
                    0o600,
                    {"proxy": proxy.replace("http", "socks5"), "proxyPasswordFile": str(path)},
                    "255",
                ),
                ("", 0o600, {"proxy": f"http://{USER}:gehe im@x:1"}, "spaces"),
                ("", 0o600, {"proxy": f"http://{USER}:geheim/x@x:1"}, "%2F"),
                ("", 0o600, {"proxy": f"http://{USER}:geheim#x@x:1"}, "%2F"),
                ("", 0o600, {"proxy": f"geheim://{USER}:geheim@x:1"}, "socks5://"),
            )
        ):
            path.touch()
            path.chmod(mode)
            path.write_text(content)
            status, output = runToEnd(self, f"mistake-{number}", settings)
            self.assertEqual(status, 1, output)
            assertOneSentence(self, output, word)
            self.assertNotIn("geheim" if number < 7 else "geheim@", output)

    def test_upstreams(self) -> None:
        """So does each mistake in a named upstream, with the line and the name."""
        path = self.directory / "password"
        path.write_text("geheim\n\nx")
        path.chmod(0o600)
        proxy = f"http://{USER}:geheim@{IPV4.proxy}:1"
        wanting = f"http://{USER}@{IPV4.proxy}:1"
        for number, (upstreams, words) in enumerate(
            (
                ({"deep": f"{proxy}#x"}, ("line", "upstreams.deep", "%2F")),
                (
                    {"deep": {"proxy": proxy, "via": f"x:geheim@{IPV4.proxy}"}},
                    ("deep.via", "is no"),
                ),
                ({"deep": {"proxy": proxy, "via": "deep"}}, ("deep.via", "through itself")),
                ({f"x:geheim@{IPV4.proxy}": proxy}, ("lower-case letters",)),
                ({"deep": {"proxy": wanting, "passwordFile": str(path)}}, (str(path), "one line")),
            )
        ):
            settings = {"proxy": "direct://", "upstreams": upstreams}
            status, output = runToEnd(self, f"upstream-{number}", settings)
            self.assertEqual(status, 1, output)
            assertOneSentence(self, output, *words)
            self.assertNotIn("geheim", output)

    def test_flag(self) -> None:
        """A password in a flag's URL is not repeated if the flag is wrong."""
        directory = self.directory / "flag"
        url = f"http://{USER}:geheim@h:99999"
        status, output = runToEnd(self, "flag", {}, flags=("--proxy", url))
        self.assertEqual(status, 1, output)
        self.assertNotIn("geheim", output + collectLogs(directory))


engines(globals(), GoodProxyChecks)
engines(globals(), BadProxyChecks)
# Otherwise trial would run the base classes, too.
del GoodProxyChecks, BadProxyChecks

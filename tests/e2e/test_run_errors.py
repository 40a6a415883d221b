"""
What the user of C{nanotun run} is told when something is wrong.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from nanotun.linux.container import inContainer
from tests.e2e.lab import cell
from tests.e2e.lab.ordinary import NOBODY
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import RunCase, callers

NOWHERE = f"socks5://{IPV4.proxy}:9"


class SentenceChecks(RunCase):
    """What a user is told."""

    def test_log(self) -> None:
        """
        C{--log-level} and C{--log-dir} show the daemon's log lines, on stderr and in the
        file.
        """
        logs = self.directory / "logs"
        options = ("--log-level", "info", "--log-dir", str(logs))
        done = self.call("true", options=options)
        self.assertRegex(done.err, "(?m)^nanotun: .*nano0 is up: engine gvisor")
        (file,) = logs.iterdir()
        self.assertIn("nano0 is up", file.read_text())
        file.unlink()
        done = self.call("true", options=(*options, "--log-format", "json"))
        self.assertRegex(done.err, "(?m)^nanotun: .*nano0 is up: engine gvisor")
        (file,) = logs.iterdir()
        texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
        self.assertIn("nano0 is up", "\n".join(texts))

    def test_config(self) -> None:
        """The daemon's own file can be used: its routes and logs do not apply to a command."""
        config = Path(self.directory / "nanotun.yaml")
        config.write_text(
            f"proxy: {self.dante().url()}\nautoDefaultRoute: true\nkillSwitch: true\n"
            f"lan: proxy\nlogDir: {self.directory}/logs\nlogLevel: debug\ntunName: other0\n"
        )
        config.chmod(0o600)
        if not self.byRoot:
            os.chown(config, NOBODY, NOBODY)
        before = cell.traces(self.lab.app)
        url = IPV4.url(self.webServer().port, "/bytes/10")
        done = self.launch(
            [*self.program, "run", "--config", str(config), "--", "curl", "-qsS", url]
        ).done()
        self.assertEqual((done.status, len(done.out), done.err), (0, 10, ""))
        self.assertEqual(cell.traces(self.lab.app).routes, before.routes)
        self.assertFalse((self.directory / "logs").exists())


class RootSentenceTests(RunCase):
    """What root is told."""

    def test_noNamespace(self) -> None:
        """If namespaces are forbidden, as in a container, the error says what is missing."""
        bounded = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        done = self.launch([*bounded, *self.argv(["true"])]).done()
        self.assertEqual((done.status, done.out), (125, ""))
        self.assertIn("nanotun: the command cannot get a network of its own (unshare failed: "
                      "Operation not permitted); in a container", done.err)  # fmt: skip

    def test_noDevice(self) -> None:
        """Without /dev/net/tun, the error says so, and in a container how that is given it."""
        call = " ".join(self.argv(["true"]))
        hide = "mount -t tmpfs tmpfs /dev/net && exec "
        done = self.launch(["unshare", "--mount", "sh", "-c", hide + call]).done()
        self.assertEqual((done.status, done.out), (125, ""))
        self.assertIn(
            "nanotun: the container has no /dev/net/tun; start it with --device /dev/net/tun"
            if inContainer()
            else "nanotun: there is no /dev/net/tun; run `modprobe tun`",
            done.err,
        )


callers(globals(), SentenceChecks)
del SentenceChecks

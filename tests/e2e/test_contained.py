"""
The daemon in a container: names, restarts, and what is said where a right is missing.  No image
is needed; process 1, the mounted files and the network are as in a container.
"""

from __future__ import annotations

import shutil
from typing import Any

from tests.e2e.lab import curl
from tests.e2e.lab.contained import (
    EMBEDDED,
    RESOLV_CONF,
    ContainedDaemon,
    EmbeddedServer,
    lookUp,
    mounted,
)
from tests.e2e.lab.container import Bridge
from tests.e2e.lab.daemon import START_SECONDS, launch
from tests.e2e.lab.host import DNS4, HOST4, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.routes_case import RoutesCase

#: A container's name that only the embedded server knows, and its address.
NEAR, NEAR_ADDRESS = "db", "172.17.0.9"

#: The embedded server, asked past the proxy.
PLAIN = {"server": EMBEDDED, "via": "direct"}


class ContainedTests(RoutesCase):
    """
    A container on a bridge of the host.

    @ivar resolvConf: the file that is mounted as its F{/etc/resolv.conf}.
    """

    def setUp(self) -> None:
        """Make the bridge, a container's network, and servers in the world."""
        super().setUp()
        self.bridge = Bridge(self.lab)
        self.space = self.bridge.container(3)
        self.proxyServer = self.socks()
        self.server = self.world()
        self.nameServer(DNS4)
        self.resolvConf = self.directory / "resolv.conf"
        self.resolvConf.write_text(RESOLV_CONF)
        self.embedded = self.embed(self.space)

    def embed(self, space: Namespace, **hosts: str) -> EmbeddedServer:
        """Start an embedded name server."""
        embedded = EmbeddedServer(space, {NEAR: NEAR_ADDRESS, **hosts})
        self.addCleanup(embedded.stop)
        return embedded

    def started(self, space: Namespace | None = None, **settings: object) -> ContainedDaemon:
        """Start the daemon in a container and wait until its routes are set."""
        self._daemons += 1
        wanted = self.settings(
            self.proxyServer, **{"dnsVia": "proxy", "killSwitch": True, **settings}
        )
        directory = self.directory / f"daemon-{self._daemons}"
        daemon = ContainedDaemon(space or self.space, directory, **wanted)
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        waitUntil(lambda: " is up: engine" in daemon.log(), START_SECONDS, "the routes are set")
        return daemon

    def fails(self, *prefix: str, readOnly: bool = False) -> str:
        """What a daemon says that cannot start, whose command begins with this."""
        child = launch(
            self.space,
            self.directory / "fails",
            self.settings(self.proxyServer),
            prefix=[*mounted(self.resolvConf, readOnly), *prefix],
        )
        self.addCleanup(child.stop)
        self.assertEqual(child.wait(START_SECONDS), 1)
        return child.output()

    def find(self, name: str, space: Namespace | None = None) -> list[str]:
        """The addresses that a program in the container's network finds."""
        return list(lookUp(space or self.space, self.resolvConf, name))

    def assertProxied(self, space: Namespace | None = None) -> None:
        """What the container sends arrives from the proxy's address."""
        url = HOST4.url(self.server.port, "/peer")
        self.assertEqual(curl.get(space or self.space, url, timeout=PATIENCE), HOST4.proxyOutside)

    def assertNoNames(self, witness: Witness) -> None:
        """No query has left the container in the clear."""
        self.assertEqual([each for each in witness.all() if 53 in each.ports], [])

    def watched(self, space: Namespace) -> Witness:
        """Watch what leaves a container."""
        witness = Witness(space, "eth0")
        self.addCleanup(witness.stop)
        return witness

    def test_names(self) -> None:
        """
        Names go to the relay and through the proxy, though F{resolv.conf} names a server whose
        queries nobody could redirect; at the stop the file is as it was.
        """
        inode = self.resolvConf.stat().st_ino
        self.assertEqual(self.find("before.lab"), ["10.66.66.66"])
        witness = self.watched(self.space)
        daemon = self.started()
        asked = len(self.embedded.asked)
        self.assertEqual(self.find("host.lab"), ["10.1.2.3"])
        self.assertEqual(len(self.embedded.asked), asked)
        self.assertProxied()
        self.assertNoNames(witness)
        self.assertEqual(self.find("host.lab"), ["10.1.2.3"])
        status, _ = daemon.stop()
        self.assertEqual(status, 0)
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)
        self.assertEqual(self.resolvConf.stat().st_ino, inode)

    def test_rewritten(self) -> None:
        """What the runtime writes into the file while the daemon runs is in force at the end."""
        daemon = self.started()
        text = RESOLV_CONF.replace("ndots:0", "ndots:1")
        self.resolvConf.write_text(text)
        waitUntil(
            lambda: self.resolvConf.read_text() != text, PATIENCE, "the file names the relay again"
        )
        self.assertEqual(self.find("host.lab"), ["10.1.2.3"])
        daemon.stop()
        self.assertEqual(self.resolvConf.read_text(), text)

    def test_ownNames(self) -> None:
        """A DNS rule has the embedded server asked about other containers, and nothing else."""
        witness = self.watched(self.space)
        self.started(dnsRules=[{"domains": [NEAR], "servers": [PLAIN]}])
        asked = len(self.embedded.asked)
        self.assertEqual(self.find(NEAR), [NEAR_ADDRESS])
        self.assertEqual(self.find("host.lab"), ["10.1.2.3"])
        self.assertEqual(set(self.embedded.asked[asked:]), {NEAR})
        self.assertNoNames(witness)

    def test_proxyByName(self) -> None:
        """
        The proxy may be another container's name, which only the embedded server knows, at the
        first start and at one after kill -9.
        """
        self.embedded._hosts = {"upstream": HOST4.proxy}
        port = self.proxyServer.url(HOST4).rpartition(":")[2]
        given: dict[str, Any] = {
            "proxy": f"socks5://upstream:{port}",
            "dnsRules": [{"domains": ["upstream"], "servers": [PLAIN]}],
        }
        daemon = self.started(**given)
        self.assertProxied()
        daemon.kill()
        daemon = self.started(**given)
        self.assertProxied()
        daemon.stop()
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)

    def test_restarted(self) -> None:
        """
        After kill -9 the same files come up in a new network, where they are all that is left:
        names go to the relay, and at the stop the file is as it was before the first start.
        """
        daemon = self.started()
        daemon.kill()
        left = {path.name for path in (self.directory / "run").iterdir()}
        self.assertLessEqual({"journal.json", "lock", "control.sock"}, left)
        self.assertIn("nameserver 198.18.0.1", self.resolvConf.read_text())
        self.embedded.stop()
        self.bridge.remove(self.space, 3)
        space = self.bridge.container(5)
        self.embed(space)
        witness = self.watched(space)
        daemon = self.started(space)
        self.assertNotIn(" error ", daemon.log())
        self.assertProxied(space)
        self.assertEqual(self.find("host.lab", space), ["10.1.2.3"])
        self.assertNoNames(witness)
        self.assertEqual(daemon.stop()[0], 0)
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)
        self.assertNothingInRunDir()

    def test_filesLost(self) -> None:
        """
        A container that is made anew in the network of the killed one, as in a pod, takes over the
        rules, the kill switch and the file that no journal tells of any more.
        """
        before = self.rules()
        daemon = self.started()
        daemon.kill()
        shutil.rmtree(self.directory / "run")
        witness = self.watched(self.space)
        self.assertEqual(self.find("host.lab"), [])
        daemon = self.started()
        self.assertProxied()
        self.assertNoNames(witness)
        self.assertEqual(daemon.stop()[0], 0)
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)
        self.assertEqual(self.rules(), before)

    def rules(self) -> str:
        """The rules and firewall tables of the container."""
        rules = self.space.run(["ip", "rule", "show"]).stdout
        return rules + self.space.run(["nft", "-s", "list", "tables"]).stdout

    def test_notRouted(self) -> None:
        """A start without routes puts the file back that a killed daemon has left."""
        self.started().kill()
        shutil.rmtree(self.directory / "run")
        self.started(autoDefaultRoute=False, killSwitch=None)
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)

    def assertNothingInRunDir(self) -> None:
        """The daemon has left no files."""
        run = self.directory / "run"
        self.assertEqual([path.name for path in run.glob("*")] if run.exists() else [], [])

    def test_readOnly(self) -> None:
        """
        Where the file cannot be written and names a server that would leak, the start fails; where
        it names another one, queries are redirected.
        """
        said = self.fails(readOnly=True)
        self.assertIn("/etc/resolv.conf cannot be written", said)
        self.assertIn("nameserver 198.18.0.1", said)
        self.assertEqual(self.resolvConf.read_text(), RESOLV_CONF)

    def test_noCapability(self) -> None:
        """Without NET_ADMIN the one sentence names the option that gives it."""
        said = self.fails("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
        self.assertIn("--cap-add NET_ADMIN", said)
        self.assertNotIn("Traceback", said)

    def test_noDevice(self) -> None:
        """Without the device the sentence names the option for it, and that one alone."""
        hide = 'mount -t tmpfs none /dev/net && exec "$@"'
        said = self.fails("sh", "-c", hide, "sh")
        self.assertIn("--device /dev/net/tun", said)
        self.assertNotIn("NET_ADMIN", said)

"""
The image that C{make image} builds, run by podman.

Containers are on a bridge of the laboratory's host; Microsocks is the proxy, outside of it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.e2e.lab.contained import EmbeddedServer
from tests.e2e.lab.container import Bridge, address
from tests.e2e.lab.host import DNS4, HOST4, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import run, waitUntil
from tests.e2e.routes_case import RoutesCase
from tests.image.podman import Podman, archive, missing

#: Seconds for a container to be up, on a busy machine.
UP = 60.0

#: Seconds that a stop may take; podman itself needs some of them.
STOP = 2.0

LIMIT = 120_000_000  #: Bytes; the README's promise.

#: Which container of the bridge it is.
NUMBER = 11

NEEDED = ("--cap-add", "NET_ADMIN", "--device", "/dev/net/tun")

#: All that can be taken away.
TIGHT = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *NEEDED)

_URL = (
    "import urllib.request as u; "
    "print(u.urlopen('http://{host}:{port}/peer', timeout=8).read().decode())"
)


class ImageCase(RoutesCase):
    """The image and the world around a container."""

    seconds = 240
    podman: ClassVar[Podman | None] = None

    def setUp(self) -> None:
        """Load the image, once, and make the world."""
        reason = missing()
        if reason and os.environ.get("CI"):
            self.fail(f"under CI nothing may be skipped: {reason}")
        if reason:
            raise SkipTest(reason)
        super().setUp()
        found = archive()
        assert found is not None
        self.archive = found
        if ImageCase.podman is None:
            ImageCase.podman = Podman(found)
        self.pod = ImageCase.podman
        self.bridge = Bridge(self.lab)
        self.proxyServer = self.socks()
        self.server = self.world()
        self.nameServer(DNS4)
        self.space = self.network()
        self.name = f"nanotun-test-{os.getpid()}"

    def launch(self, *options: str, proxy: bool = True) -> None:
        """Start a container in the background; it is removed after the test."""
        given = ("--env", f"NANOTUN_PROXY={self.proxyServer.url(HOST4)}") if proxy else ()
        network = ("--network", f"ns:/run/netns/{self.space.name}", "--env", f"NANOTUN_DNS={DNS4}")
        self.addCleanup(self.pod, "rm", "--force", "--time", "0", self.name, check=False)
        self.pod("run", "--detach", "--name", self.name, *network, *given, *options, self.pod.image)

    def up(self, *options: str) -> None:
        """Start a container and wait until it is healthy."""
        self.launch(*options)
        self.waitUp()

    def network(self) -> Namespace:
        """A new network for a container, in the place of the one before."""
        return self.bridge.container(NUMBER)

    def watched(self) -> Witness:
        """Watch what leaves the container."""
        witness = Witness(self.space, "eth0")
        self.addCleanup(witness.stop)
        return witness

    def assertNoNames(self, witness: Witness) -> None:
        """No query has left the container in the clear."""
        self.assertEqual([each for each in witness.all() if 53 in each.ports], [])

    def waitUp(self) -> None:
        """Wait until its tunnel works."""
        waitUntil(
            lambda: not self.status() and "is up: engine" in self.log(), UP, "the container is up"
        )

    def status(self) -> int:
        """The exit status of the health check."""
        return self.pod.status("healthcheck", "run", self.name)

    def log(self) -> str:
        """What the container has said."""
        return self.pod("logs", self.name, check=False)

    def fetch(self, host: str = "") -> str:
        """Who the world says that the container is; empty if there is no answer."""
        program = _URL.format(host=host or HOST4.world, port=self.server.port)
        said = self.pod("exec", self.name, "python3", "-c", program, check=False)
        return said.splitlines()[-1] if said else ""

    def look(self, name: str) -> str:
        """The address that the container's C library finds for a name, or an error."""
        program = f"import socket; print(socket.gethostbyname('{name}'))"
        said = self.pod("exec", self.name, "python3", "-c", program, check=False)
        return said.splitlines()[-1] if said else ""

    def resolvConf(self) -> Path:
        """The file that is the container's."""
        return Path(self.pod.inspect(self.name)["ResolvConfPath"])

    def assertWorks(self) -> None:
        """Connections go through the proxy, and names as well."""
        self.assertEqual(self.fetch(), HOST4.proxyOutside)
        self.assertEqual(self.look("host.lab"), "10.1.2.3")


class ImageTests(ImageCase):
    """The image, as a user runs it."""

    def test_size(self) -> None:
        """The image is small, has byte code, and neither pip nor a compiler."""
        self.assertLess(self.archive.stat().st_size, LIMIT)
        program = (
            "import glob, importlib.util as i, shutil; "
            "print(i.find_spec('pip'), shutil.which('gcc'), shutil.which('apt-get'), "
            "len(glob.glob('/usr/lib/python3/dist-packages/nanotun/**/*.pyc', recursive=True)))"
        )
        said = self.pod("run", "--rm", "--entrypoint", "python3", self.pod.image, "-c", program)
        *nothing, compiled = said.splitlines()[-1].split()
        self.assertEqual(nothing, ["None"] * 3)
        self.assertGreater(int(compiled), 400)

    def test_works(self) -> None:
        """With one capability, one device and one variable it works, and stops within a second."""
        witness = self.watched()
        self.up(*NEEDED, "--dns", "127.0.0.11")
        before = self.resolvConf()
        self.assertIn("nameserver 198.18.0.1", before.read_text())
        self.assertWorks()
        self.assertNoNames(witness)
        started = time.monotonic()
        self.pod("stop", "--time", "10", self.name)
        taken = time.monotonic() - started
        print(f"podman stop: {taken:.2f} s")
        self.assertLess(taken, STOP)
        self.assertEqual(self.pod.inspect(self.name)["State"]["ExitCode"], 0)
        self.assertNotIn("198.18.0.1", before.read_text())

    def test_tight(self) -> None:
        """It works with a root that cannot be written and without any other capability."""
        self.up(*TIGHT)
        self.assertWorks()

    def test_secret(self) -> None:
        """The proxy comes from a file; both ways at once, or no file, is one sentence."""
        secret = self.directory / "proxy"
        secret.write_text(f"{self.proxyServer.url(HOST4)}\n")
        secret.chmod(0o444)
        os.chown(secret, 1000, 1000)
        mount = ("--volume", f"{secret}:/run/secrets/proxy:ro")
        variable = ("--env", "NANOTUN_PROXY_FILE=/run/secrets/proxy")
        self.launch(*NEEDED, *mount, *variable, proxy=False)
        self.waitUp()
        self.assertEqual(self.fetch(), HOST4.proxyOutside)
        for options, said in (
            ((*mount, *variable, "--env", "NANOTUN_PROXY=h"), "are both set"),
            (variable, "/run/secrets/proxy cannot be read"),
            ((), "NANOTUN_PROXY"),
        ):
            output = self.pod(
                "run", "--rm", "--network", "none", *NEEDED, *options, self.pod.image, check=False
            )
            self.assertIn(said, output)

    def test_lacking(self) -> None:
        """What is missing is named by its option."""
        for options, said in (
            (NEEDED[:2], {"--device /dev/net/tun"}),
            (NEEDED[2:], {"--cap-add NET_ADMIN"}),
            ((), {"--device /dev/net/tun", "--cap-add NET_ADMIN"}),
        ):
            output = self.pod(
                *("run", "--rm", "--network", "none", "--env", "NANOTUN_PROXY=h", *options),
                self.pod.image,
                check=False,
            )
            both = ("--device /dev/net/tun", "--cap-add NET_ADMIN")
            self.assertEqual({each for each in both if each in output}, said, output)

    def test_health(self) -> None:
        """It is unhealthy without a daemon, and once the proxy is down."""
        self.up(*NEEDED, "--env", "NANOTUN_PROXYCHECKINTERVAL=1s")
        self.proxyServer.stop()
        waitUntil(lambda: self.status() == 1, UP, "the health check notices")
        said = self.pod("exec", self.name, "nanotun", "status", "--check", check=False)
        self.assertIn("proxy", said)

    def test_restarted(self) -> None:
        """After kill -9 the same container comes up in a new network, and names do not leak."""
        self.up(*NEEDED, "--dns", "127.0.0.11")
        self.pod("kill", "--signal", "KILL", self.name)
        waitUntil(lambda: not self.pod.pid(self.name), UP, "it has ended")
        file = self.resolvConf()
        self.bridge.remove(self.space, NUMBER)
        self.space = self.network()
        witness = self.watched()
        self.pod("start", self.name)
        waitUntil(lambda: self.log().count("is up: engine") == 2, UP, "it is up again")
        waitUntil(lambda: not self.status(), UP, "it is healthy again")
        self.assertWorks()
        self.assertNoNames(witness)
        self.pod("stop", "--time", "10", self.name)
        self.assertNotIn("198.18.0.1", file.read_text())

    def test_zombies(self) -> None:
        """What is left behind by a command in the container is reaped."""
        self.up(*NEEDED)
        orphan = "import os, time; os.fork() or os.execvp('sleep', ['sleep', '0.1'])"
        self.pod("exec", self.name, "python3", "-c", orphan)
        first = self.pod.pid(self.name)

        def states() -> set[str]:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            stats = (Path(f"/proc/{pid}/stat").read_text() for pid in children)
            return {each.rpartition(")")[2].split()[0] for each in stats}

        waitUntil(lambda: "Z" not in states() and len(states()) >= 1, UP, "no zombie is left")

    def test_embedded(self) -> None:
        """
        Docker's name server at 127.0.0.11 is asked about nothing but what a DNS rule says.
        """
        rule = "{domains: [db], servers: [{server: 127.0.0.11, via: direct}]}"
        embedded = EmbeddedServer(self.space, {"db": "172.17.0.9"})
        self.addCleanup(embedded.stop)
        self.up(*NEEDED, "--dns", "127.0.0.11", "--env", f"NANOTUN_DNSRULES={rule}")
        asked = len(embedded.asked)
        self.assertWorks()
        self.assertEqual(self.look("db"), "172.17.0.9")
        self.assertEqual(set(embedded.asked[asked:]), {"db"})

    def test_sidecar(self) -> None:
        """Another container in its network is proxied, with its names (network_mode: service:)."""
        self.up(*NEEDED)
        url = f"http://{HOST4.world}:{self.server.port}/peer"
        program = (
            "import socket, urllib.request as u; "
            f"print(socket.gethostbyname('host.lab'), u.urlopen('{url}').read().decode())"
        )
        said = self.pod(
            *("run", "--rm", "--network", f"container:{self.name}", "--entrypoint", "python3"),
            *(self.pod.image, "-c", program),
        )
        self.assertEqual(said.splitlines()[-1].split(), ["10.1.2.3", HOST4.proxyOutside])

    def test_gateway(self) -> None:
        """A machine that has the container as its router is proxied."""
        self.space.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        self.up(*NEEDED)
        near = self.bridge.container(3)
        near.run(["ip", "route", "replace", "default", "via", address(NUMBER, 4)])
        url = f"http://{HOST4.world}:{self.server.port}/peer"
        done = run(near.argv(["curl", "-s", "--max-time", "8", url]), 20, check=False)
        self.assertEqual(done.stdout.strip(), HOST4.proxyOutside)

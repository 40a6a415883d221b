"""
Ports between the network of a command of C{nanotun run} and this machine's: C{--publish} and
C{--host-port}.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import socket
import struct
import sys
import termios
from collections.abc import Sequence

from tests.e2e.lab.cell import Running
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import RunCase, callers

SERVER = [sys.executable, "-I", "-B", str(PROJECT_ROOT / "tests/e2e/lab/cellserver.py")]

LOCAL4, LOCAL6 = "127.0.0.1", "::1"

LARGE = 40 << 20
"""Bytes of a large transfer."""

MANY = 300
"""Connections at a time."""


def digest(data: bytes) -> str:
    """What the server answers to this."""
    return hashlib.sha256(data).hexdigest()


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class PortCase(RunCase):
    """What all tests need."""

    def serving(self, *options: str, host: str = LOCAL4, port: int = 3000) -> Running:
        """Run the server as the command, and wait until it listens."""
        running = self.start(*SERVER, host, str(port), options=options)
        self.assertEqual(running.line(), "up")
        return running

    def reach(self, port: int, host: str = LOCAL4, where: Namespace | None = None) -> socket.socket:
        """Connect to a port as soon as it is open."""
        made: list[socket.socket] = []

        def tried() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                made.append((where or self.lab.app).connect((host, port)))
            return bool(made)

        waitUntil(tried, PATIENCE, f"{host} port {port} is open")
        self.addCleanup(made[0].close)
        return made[0]

    def greeted(
        self, port: int, host: str = LOCAL4, where: Namespace | None = None
    ) -> socket.socket:
        """Connect to the server."""
        sock = self.reach(port, host, where)
        self.assertEqual(sock.recv(1), b"+")
        return sock

    def refused(self, port: int, host: str = LOCAL4, where: Namespace | None = None) -> bool:
        """Whether a connection is refused; one that is reset found the port just closing."""
        try:
            (where or self.lab.app).connect((host, port)).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            return False
        return False

    def ask(self, sock: socket.socket, data: bytes) -> str:
        """The server's answer."""
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer.decode()

    def said(self, *options: str) -> str:
        """The error of a run that must not start."""
        done = self.call("echo", "ran", options=options)
        self.assertEqual((done.status, done.out), (125, ""), done.err)
        return done.err.splitlines()[-1]


class PublishChecks(PortCase):
    """Ports that the command listens on, from outside."""

    def test_bytes(self) -> None:
        """A large transfer arrives whole, each end of it by itself, and the peer is 127.0.0.1."""
        self.serving("--publish", "3000")
        data = os.urandom(LARGE)
        for host in (LOCAL4, LOCAL6):
            answer = self.ask(self.greeted(3000, host), data)
            self.assertEqual(answer, f"{LOCAL4} {digest(data)}")

    def test_listener(self) -> None:
        """Whatever address of the loopback the command listens at, the port is reached."""
        for host, peer in (("0.0.0.0", LOCAL4), (LOCAL6, LOCAL6), ("::", LOCAL6)):
            running = self.serving("--publish", "8080:3000", host=host)
            self.assertEqual(self.ask(self.greeted(8080), b"x"), f"{peer} {digest(b'x')}")
            self.assertEqual(running.done("\n").status, 0)

    def test_address(self) -> None:
        """With an address the port is open to others there, and nowhere else."""
        self.serving("--publish", f"{IPV4.app}:8080:3000")
        outer = self.greeted(8080, IPV4.app, self.lab.proxy)
        self.assertEqual(self.ask(outer, b"x"), f"{LOCAL4} {digest(b'x')}")
        self.assertTrue(self.refused(8080))
        self.assertTrue(self.refused(3000))

    def test_closed(self) -> None:
        """While the command does not listen, the port is refused as any closed one is."""
        running = self.start(
            "sh", "-c", f"echo first; read go; exec {' '.join(SERVER)} {LOCAL4} 3000",
            options=("--publish", "3000"),
        )  # fmt: skip
        self.assertEqual(running.line(), "first")
        self.assertTrue(self.refused(3000) and self.refused(3000, LOCAL6))
        running.write("\n")
        self.assertEqual(running.line(), "up")
        open_ = self.greeted(3000)
        running.write("\n")
        self.assertEqual(running.line(), "down")
        waitUntil(lambda: self.refused(3000), PATIENCE, "the port is closed again")
        # Connections go on.
        self.assertEqual(self.ask(open_, b"x"), f"{LOCAL4} {digest(b'x')}")
        self.assertEqual(running.done("\n").status, 0)
        self.assertTrue(self.refused(3000))

    def test_reset(self) -> None:
        """A reset of one side becomes a reset for the other."""
        code = (
            "import socket; s = socket.create_server(('127.0.0.1', 3000))\n"
            "print('up', flush=True)\n"
            "c, _ = s.accept(); c.recv(1)\n"
            "try: c.recv(1); print('end', flush=True)\n"
            "except ConnectionResetError: print('reset', flush=True)"
        )
        running = self.start(sys.executable, "-I", "-c", code, options=("--publish", "3000"))
        self.assertEqual(running.line(), "up")
        sock = self.reach(3000)
        sock.sendall(b"x")
        waitUntil(lambda: not self.unread(sock), PATIENCE, "the byte arrived")
        reset(sock)
        self.assertEqual(running.line(), "reset")

    def unread(self, sock: socket.socket) -> int:
        """How many bytes the other side's kernel has not acknowledged."""
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])

    def test_many(self) -> None:
        """Hundreds of connections at a time are all served."""
        self.serving("--publish", "3000")
        self.greeted(3000)
        socks = [self.lab.app.connect((LOCAL4, 3000)) for _ in range(MANY)]
        for number, sock in enumerate(socks):
            self.addCleanup(sock.close)
            sock.sendall(str(number).encode())
            sock.shutdown(socket.SHUT_WR)
        for number, sock in enumerate(socks):
            answer = b"".join(iter(lambda sock=sock: sock.recv(4096), b""))  # type: ignore[misc]
            self.assertEqual(answer.decode(), f"+{LOCAL4} {digest(str(number).encode())}")

    def test_lastBytes(self) -> None:
        """What the command sent just before it ended arrives."""
        line = "head -c 3000000 /dev/zero | socat -u - TCP-LISTEN:3000,bind=127.0.0.1"
        running = self.start("sh", "-c", f"echo up; {line}", options=("--publish", "3000"))
        self.assertEqual(running.line(), "up")
        sock = self.reach(3000)
        total = 0
        while part := sock.recv(65536):
            total += len(part)
        self.assertEqual(total, 3000000)
        self.assertEqual(running.done().status, 0)

    def test_killed(self) -> None:
        """After kill -9 of nanotun the port is refused, and connections have ended."""
        running = self.serving("--publish", "3000")
        sock = self.greeted(3000)
        running.send(signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(sock.recv(1), b"")
        # The kernel closes a process's files one after the other, in an order of its own.
        waitUntil(lambda: self.refused(3000), PATIENCE, "the port is closed")

    def test_taken(self) -> None:
        """A port that is somebody else's is an error before the command runs."""
        self.peer(lambda connection: None, self.lab.app, port=8080)
        self.assertEqual(
            self.said("--publish", "8080:3000"),
            "nanotun: --publish 8080:3000: 127.0.0.1:8080 cannot be listened at (Address already "
            "in use); choose another port.",
        )
        said = self.said("--publish", "192.0.2.1:8080:3000")
        self.assertIn("give an address of this machine", said)

    def test_witness(self) -> None:
        """Not a packet of it leaves this machine, and what the command sends goes to the proxy."""
        self.openDirectPath()
        watch = Tcpdump(self.lab.app, self.directory, "up0", "tcp or udp")
        self.addCleanup(watch.stop)
        dante, web = self.dante(), self.webServer()
        running = self.start(
            "sh", "-c", f"curl -qsS {IPV4.url(web.port, '/bytes/9')} >/dev/null; "
            f"exec {' '.join(SERVER)} {LOCAL4} 3000",
            proxy=dante.url(), options=("--publish", "3000"),
        )  # fmt: skip
        self.assertEqual(running.line(), "up")
        self.assertEqual(self.ask(self.greeted(3000), b"x"), f"{LOCAL4} {digest(b'x')}")
        self.assertEqual(set(watch.destinations()), {f"{IPV4.proxy}.{dante.port}"})


class HostPortChecks(PortCase):
    """Ports of this machine's loopback, from inside."""

    def server(self, port: int = 0) -> int:
        """A server on this machine that sends back the digest; returns its port."""

        def answer(connection: socket.socket) -> None:
            whole = hashlib.sha256()
            while data := connection.recv(65536):
                whole.update(data)
            host = connection.getpeername()[0]
            connection.sendall(f"{host} {whole.hexdigest()}\n".encode())

        return self.peer(answer, self.lab.app, port=port).port

    def talk(self, *ports: int, options: Sequence[str]) -> list[str]:
        """What a command hears that connects to ports of its own loopback."""
        # socat may complain about each address of localhost's.
        line = "echo x | socat -t5 - TCP:localhost:{port} 2>&1 | tail -n 1"
        lines = [line.format(port=port) for port in ports]
        done = self.call("sh", "-c", "; ".join(lines), options=options)
        return [line.rpartition(": ")[2] for line in done.out.splitlines()]

    def test_named(self) -> None:
        """Named ports are reached at localhost, also by another number, and no others."""
        self.server(5432)
        other = self.server()
        options = ("--host-port", "5432", "--host-port", f"15432:{other}")
        heard = self.talk(5432, 15432, other, options=options)
        answer = f"::ffff:{LOCAL4} {digest(bytes('x' + chr(10), 'ascii'))}"
        self.assertEqual(heard, [answer, answer, "Connection refused"])

    def test_bytes(self) -> None:
        """A large transfer arrives whole, each end of it by itself."""
        self.server(5432)
        (self.directory / "large").write_bytes(data := os.urandom(LARGE))
        line = "socat -t20 - TCP:127.0.0.1:5432 <large; socat -t20 - TCP6:[::1]:5432 <large"
        done = self.call("sh", "-c", line, options=("--host-port", "5432"))
        self.assertEqual(done.out, f"::ffff:{LOCAL4} {digest(data)}\n" * 2, done.err)

    def test_closed(self) -> None:
        """A port on which nobody listens is refused until somebody does."""
        running = self.start(
            "bash", "-c", "while read go; do (echo x >/dev/tcp/localhost/5432) 2>&1 | tail -1; "
            "echo over; done",
            options=("--host-port", "5432"),
        )  # fmt: skip
        running.write("go\n")
        self.assertIn("Connection refused", running.line())
        self.assertEqual(running.line(), "over")
        self.server(5432)

        def reached() -> bool:
            running.write("go\n")
            line = running.line()
            return line == "over" or running.line() != "over"

        waitUntil(reached, PATIENCE, "the port is reached")

    def test_kept(self) -> None:
        """The command cannot listen there, even while the port is closed."""
        code = "import socket; socket.create_server(('0.0.0.0', 5432))"
        done = self.call(sys.executable, "-I", "-c", code, options=("--host-port", "5432"))
        self.assertIn("Address already in use", done.err)

    def test_low(self) -> None:
        """The command's port may be one of root's, whoever runs it."""
        port = self.server()
        (answer,) = self.talk(80, options=("--host-port", f"80:{port}"))
        self.assertIn(LOCAL4, answer)

    def test_told(self) -> None:
        """What is open is told in the first line."""
        done = self.call("true", options=("--host-port", "5432", "--publish", "0.0.0.0:8080:3000"))
        self.assertEqual(
            done.err,
            "nanotun: open past the proxy: port 5432 of this machine (--host-port 5432), "
            "connections to 0.0.0.0:8080 (--publish 0.0.0.0:8080:3000).\n",
        )


class UserPortTests(PortCase):
    """What only an ordinary user is told."""

    byRoot = False

    def test_low(self) -> None:
        """A port below 1024 is root's."""
        self.assertEqual(
            self.said("--publish", "80"),
            "nanotun: --publish 80: 127.0.0.1:80 cannot be listened at (Permission denied); ports "
            "below 1024 are root's, so choose another one.",
        )


callers(globals(), PublishChecks, HostPortChecks)
del PublishChecks, HostPortChecks

"""
A crowd of short connections, and the server that answers them.

    python -m tests.e2e.lab.crowd serve PORT
    python -m tests.e2e.lab.crowd ask ADDRESS PORT COUNT AT_ONCE
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError
from tests.e2e.lab.servers import Server

PATIENCE = 60.0
"""Seconds that a connection may take: more than any program waits."""


class Answers(NamedTuple):
    """
    What became of a crowd.

    @ivar p50: the median, in seconds, from connect(2) to the answer; C{p99} likewise.
    @ivar errors: what the failed connections said, without repetitions.
    """

    answered: int
    failed: int
    p50: float
    p99: float
    errors: list[str]


class Echo(Server):
    """Answers each connection with the byte that it sent, and counts them."""

    def __init__(self, namespace: Namespace, directory: Path, port: int = 5997) -> None:
        self._namespace = namespace
        argv = [sys.executable, "-m", __name__, "serve", str(port)]
        super().__init__(namespace, argv, port, directory / "crowd.log")

    def accepted(self) -> int:
        """How many connections there have been."""
        with self._namespace.connect(("127.0.0.1", self.port)) as sock:
            sock.sendall(b"?")
            return int(sock.makefile().readline())


def ask(namespace: Namespace, address: str, port: int, count: int, atOnce: int) -> Answers:
    """
    Make C{count} connections, C{atOnce} at a time.

    @raise LabError: the program failed.
    """
    argv = [sys.executable, "-m", __name__, "ask", address, str(port), str(count), str(atOnce)]
    done = namespace.run(argv, timeout=PATIENCE * 10)
    try:
        return Answers(**json.loads(done.stdout))
    except (ValueError, TypeError):
        raise LabError(f"the crowd says: {done.stdout}{done.stderr}") from None


async def _serve(port: int) -> None:
    accepted = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        byte = await reader.read(1)
        if byte == b"?":
            accepted -= 1
            byte = b"%d\n" % accepted
        writer.write(byte)
        await reader.read()
        writer.close()

    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, backlog=4096, dualstack_ipv6=True
    )
    server = await asyncio.start_server(answer, sock=listener)
    await server.serve_forever()


async def _ask(address: str, port: int, count: int, atOnce: int) -> Answers:
    left = count
    seconds: list[float] = []
    errors: list[str] = []

    async def once() -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(b"E")
            if await reader.read(1) != b"E":
                raise ConnectionError("closed without an answer")
            seconds.append(time.monotonic() - began)
        finally:
            writer.close()

    async def member() -> None:
        nonlocal left
        while left:
            left -= 1
            try:
                await asyncio.wait_for(once(), PATIENCE)
            except (OSError, TimeoutError) as error:
                errors.append(str(error) or type(error).__name__)

    await asyncio.gather(*(member() for _ in range(atOnce)))
    seconds.sort()
    at = (seconds or [0.0]).__getitem__
    size = max(1, len(seconds))
    return Answers(
        len(seconds), len(errors), at(size // 2), at(size * 99 // 100), sorted(set(errors))
    )


def main(argv: list[str]) -> None:
    """Serve, or ask and print the L{Answers}."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if argv[0] == "serve":
        asyncio.run(_serve(int(argv[1])))
    else:
        print(json.dumps(asyncio.run(_ask(argv[1], *map(int, argv[2:])))._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])

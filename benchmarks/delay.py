"""
A TCP forwarder that makes a server look far away: C{python -m benchmarks.delay}, run by
L{benchmarks.far}.

Bytes take half a round trip in each direction.  A user-space forwarder cannot hold back
the kernel's SYN-ACK, so the client is connected one round trip too early; bytes that it
sends in that time are held back until it could have sent them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

READ_SIZE = 65536

QUEUE_LIMIT = 256
"""Reads in flight in one direction; more than any window here."""

_Timed = tuple[float, bytes]


class Delay:
    """
    The forwarder.

    @param target: the address and port to connect to.
    @param roundTrip: seconds to add.
    """

    def __init__(self, target: tuple[str, int], roundTrip: float) -> None:
        self._target = target
        self._roundTrip = roundTrip

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until it ends."""
        accepted = asyncio.get_running_loop().time()
        try:
            farReader, farWriter = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        for each in (writer, farWriter):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(
            self._carry(reader, farWriter, accepted + self._roundTrip),
            self._carry(farReader, writer, accepted),
        )
        for each in (writer, farWriter):
            each.close()
            with contextlib.suppress(OSError):
                await each.wait_closed()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, notBefore: float
    ) -> None:
        queue: asyncio.Queue[_Timed] = asyncio.Queue(QUEUE_LIMIT)
        await asyncio.gather(
            self._read(reader, queue, notBefore), asyncio.create_task(self._write(queue, writer))
        )

    async def _read(
        self, reader: asyncio.StreamReader, queue: asyncio.Queue[_Timed], notBefore: float
    ) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            try:
                data = await reader.read(READ_SIZE)
            except OSError:
                data = b""
            await queue.put((max(loop.time(), notBefore) + self._roundTrip / 2, data))

    async def _write(self, queue: asyncio.Queue[_Timed], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()


async def main(host: str, port: int, targetPort: int, roundTrip: float) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Delay((host, targetPort), roundTrip).serve, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

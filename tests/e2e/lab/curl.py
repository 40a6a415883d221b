"""
Transfers by curl, hashed while they run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab import pattern
from tests.e2e.lab.daemon import environment
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError, dieWithParent, run

_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031


class Transfer(NamedTuple):
    """
    The result of a transfer.

    @ivar whole: whether every byte arrived as it was sent.
    @ivar seconds: from the start of curl to its end.
    @ivar error: curl's error message, if there was one.
    """

    whole: bool
    length: int
    seconds: float
    error: str

    @property
    def gigabits(self) -> float:
        """The rate in Gbit/s."""
        return self.length * 8e-9 / self.seconds


def _argv(namespace: Namespace, timeout: float, *arguments: str) -> list[str]:
    # Neither ~/.curlrc nor http_proxy may make curl bypass what is under test.
    unset = [
        f"--unset={name}"
        for name in ("http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
    ]
    return namespace.argv(["env", *unset, "curl", "-q", "-sS", "-m", f"{timeout:g}", *arguments])


def get(namespace: Namespace, url: str, *options: str, timeout: float = PATIENCE) -> str:
    """
    Fetch a small body as text.

    @param options: further flags of curl.
    @raise LabError: curl failed; the text has its error message.
    """
    return run(_argv(namespace, timeout, *options, url), timeout + 5).stdout


def download(
    namespace: Namespace, url: str, length: int, *options: str, timeout: float = 2 * PATIENCE
) -> Transfer:
    """Fetch C{length} bytes of the pattern and compare their hash."""
    started = time.monotonic()
    digest, count = hashlib.sha256(), 0
    with subprocess.Popen(
        _argv(namespace, timeout, *options, url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=dieWithParent,
        bufsize=0,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        fcntl.fcntl(process.stdout, _F_SETPIPE_SZ, _PIPE_BYTES)
        buffer = memoryview(bytearray(_PIPE_BYTES))
        while got := os.readv(process.stdout.fileno(), [buffer]):
            digest.update(buffer[:got])
            count += got
        error = process.stderr.read().decode(errors="replace").strip()
    seconds = time.monotonic() - started
    whole = (
        process.returncode == 0 and count == length and digest.hexdigest() == pattern.sha256(length)
    )
    return Transfer(
        whole,
        length,
        seconds,
        error or ("" if whole else f"{count} of {length} bytes, or wrong ones"),
    )


def upload(
    namespace: Namespace, url: str, length: int, *options: str, timeout: float = 2 * PATIENCE
) -> Transfer:
    """Send C{length} bytes of the pattern; the server answers with their hash."""
    fd = pattern.file(length)
    try:
        path = f"/proc/{os.getpid()}/fd/{fd}"
        started = time.monotonic()
        done = run(_argv(namespace, timeout, *options, "-T", path, url), timeout + 5, check=False)
        seconds = time.monotonic() - started
    finally:
        os.close(fd)
    whole = done.returncode == 0 and done.stdout == pattern.sha256(length)
    return Transfer(whole, length, seconds, "" if whole else done.stdout.strip())


def downloadMany(
    namespace: Namespace, urls: dict[str, int], directory: Path, timeout: float = 2 * PATIENCE
) -> dict[str, str]:
    """
    Fetch all of C{urls} at once, each over a connection of its own.

    @param urls: lengths by URL.
    @param directory: where to put the bodies meanwhile.
    @return: for every URL that did not arrive whole, what was wrong.
    """
    arguments = [
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        str(len(urls)),
        "--header",
        "Connection: close",
    ]
    paths = {url: directory / f"body-{number}" for number, url in enumerate(urls)}
    for url, path in paths.items():
        arguments += ["-o", str(path), url]
    done = run(_argv(namespace, timeout, *arguments), timeout + 5, check=False)
    wrong = {} if done.returncode == 0 else {"curl": done.stdout.strip()}
    for url, path in paths.items():
        if not path.exists():
            wrong[url] = "nothing arrived"
            continue
        with path.open("rb") as body:
            digest = hashlib.sha256(body.read()).hexdigest()
        if digest != pattern.sha256(urls[url]):
            wrong[url] = f"{path.stat().st_size} bytes, hash differs"
        path.unlink()
    return wrong


@contextmanager
def running(
    namespace: Namespace, host: str, address: str, port: int, path: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """
    A curl that downloads in the C{with} block, and takes a name for an address without asking.

    @param options: further flags of curl.
    """
    resolve = f"{host}:{port}:{address}"
    argv = ["curl", "-q", "-sS", "-o", "/dev/null", "--noproxy", "*", "--resolve", resolve]
    child = subprocess.Popen(
        namespace.argv([*argv, *options, f"http://{host}:{port}{path}"]),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=dieWithParent,
        env=environment(),
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


__all__ = ["LabError", "Transfer", "download", "downloadMany", "get", "running", "upload"]

"""
Chooses one of the two forms of the demonstration, and cleans up after it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from tests.e2e.case import missing
from tests.e2e.demo.namespaces import inNamespaces
from tests.e2e.demo.proxy import throughProxy
from tests.e2e.demo.show import BOLD, PLAIN, say
from tests.e2e.lab.process import LabError

DEFAULT_URL = "http://example.org/"


@contextlib.contextmanager
def endedBySignals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP clean up like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """
    Run the demonstration.

    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="make run", description="nanotun's main job, shown.")
    parser.add_argument("--proxy", default=os.environ.get("PROXY", ""), help="your proxy's URL")
    parser.add_argument(
        "--url", default=os.environ.get("URL", DEFAULT_URL), help="what to fetch through it"
    )
    given = parser.parse_args(arguments)
    reason = missing()
    if reason:
        print(f"make run: {reason}.", file=sys.stderr)
        return 1
    try:
        with endedBySignals():
            if given.proxy:
                throughProxy(given.proxy, given.url)
            else:
                inNamespaces()
    except LabError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make run: interrupted; everything is cleaned up.", file=sys.stderr)
        return 130
    say()
    say(f"{BOLD}It works.{PLAIN}  All of it is cleaned up: namespaces, device, daemon, servers.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

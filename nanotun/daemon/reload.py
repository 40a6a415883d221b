"""
The configuration of the running daemon, read again.

First everything that may fail is done, without a trace; then the new configuration is
taken over, by what cannot fail.  So a configuration that is no good changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.config.change import Change, changeTo
from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.daemon.owning import CurrentOwners
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.errors import NanotunError
from nanotun.interfaces import IJudge
from nanotun.owners import Owners
from nanotun.routing.routes import Routes

#: What the table of processes is made of.
OWNERS = frozenset({"proxy", "excludedProcesses", "excludeChildren", "excludeRefresh"})

#: What is left as it is, the first that helps, where a configuration needs rights that
#: were given up at the start.
TRUSTED = ((), ("excludedProcesses",), ("excludedProcesses", "proxy"))


class Makers(NamedTuple):
    """
    How parts are made of settings; each may raise L{ConfigError} and starts nothing.

    @ivar judge: for the ways out, by who finds processes.
    @ivar owners: L{None} where no rule is about processes.
    @ivar lacksRights: whether settings need rights that were given up.
    """

    ways: Callable[[Settings], Upstreams]
    judge: Callable[[Settings, Upstreams, Owners | None], IJudge]
    owners: Callable[[Settings], Owners | None]
    lacksRights: Callable[[Settings], bool]


class Logs(Protocol):
    """What is needed of L{nanotun.log.service.LoggedService}."""

    def configure(self, settings: Settings) -> None:
        """
        Take over what is about logs.

        @raise ConfigError: nothing has changed.
        """


def reread(options: Options) -> Options:
    """
    Read the configuration again: the same file, the same flags.

    @raise ConfigError: with one sentence.
    """
    again = Options()
    again.update(options)
    again.readSettings(os.geteuid(), os.environ)
    return again


class Live:
    """
    What is in force.

    @ivar settings: the configuration.
    @ivar ways: the ways out.
    """

    _log = Logger()

    def __init__(
        self,
        options: Options,
        makers: Makers,
        ways: Upstreams,
        owners: CurrentOwners,
        routes: Routes | None,
        router: Any,
        gateway: Any,
        logs: Logs,
        services: Any,
    ) -> None:
        """
        @param options: those of the start, with the file's whole path.
        @param routes: L{None} where none is changed.
        @param services: the parent of C{ways}.
        """
        self._router, self._gateway = router, gateway
        self._logs, self._services = logs, services
        self.settings: Settings = options.settings
        self.ways = ways
        self._options = options
        self._makers = makers
        self._owners = owners
        self._routes = routes
        self._base = "/"
        with suppress(OSError):  # Somebody has removed it.
            self._base = os.getcwd()

    def reload(self) -> dict[str, Any]:
        """
        Read the configuration again and take it over.

        @return: C{changed} and C{restart}: names of settings; C{warnings}: sentences.
        @raise NanotunError: with one sentence; nothing has changed.
        """
        try:
            with self._inBase():
                options = reread(self._options)
                change = self._changeTo(options.settings)
                warnings = (*options.notices, *self._takeOver(change))
        except NanotunError as error:
            self._log.error(
                "The configuration was read again and is no good, so nothing changes: {error}",
                error=str(error),
            )
            raise
        self._log.info(
            "The configuration was read again; changed: {changed}; needs a restart: {restart}",
            changed=", ".join(change.live) or "nothing",
            restart=", ".join(change.restart) or "nothing",
        )
        for warning in warnings:
            self._log.warn("{notice}", notice=warning)
        return {
            "changed": list(change.live),
            "restart": list(change.restart),
            "warnings": list(warnings),
        }

    @contextmanager
    def _inBase(self) -> Iterator[None]:
        """Relative paths mean what they meant at the start, before twistd's C{--rundir}."""
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Where it is gone a relative path is not found, and whole ones are.
            with suppress(OSError):
                os.chdir(self._base)
            yield
        finally:
            os.fchdir(before)
            os.close(before)

    def _changeTo(self, new: Settings) -> Change:
        """@raise ConfigError: the new ones are no good."""
        # All of it is checked, also what is not taken over.
        self._makers.ways(new)
        self._makers.owners(new)
        for kept in TRUSTED:
            change = changeTo(new, self.settings, kept)
            if not self._makers.lacksRights(change.settings):
                break
        return change

    def _takeOver(self, change: Change) -> tuple[str, ...]:
        """
        @return: warnings.
        @raise NanotunError: nothing has changed.
        """
        new, changed = change.settings, frozenset(change.live)
        if not changed:
            return ()
        ways = self._makers.ways(new)
        owners = before = self._owners.owners
        if changed & OWNERS:
            owners = self._makers.owners(new)
        judge = self._makers.judge(new, ways, owners)
        if owners is not None and owners is not before:
            owners.start()
        try:
            self._logs.configure(new)
        except BaseException:
            if owners is not None and owners is not before:
                owners.stop()
            raise
        # From here on nothing fails.
        self.settings = new
        self._router.configure(judge, ways.upstream, ways.direct, new.logLevel == "debug")
        self._owners.replace(owners)
        self._replaceWays(ways)
        self._gateway.configure(new)
        if self._routes is not None:
            self._routes.configure(new)
        if "proxy" not in changed:
            return ()
        return (*noticesOf(new, ways.upstream), *self._namesNotice(ways))

    def _replaceWays(self, ways: Upstreams) -> None:
        before, self.ways = self.ways, ways
        ways.setServiceParent(self._services)
        stopped = before.disownServiceParent()
        if stopped is not None:
            stopped.addErrback(self._notStopped)

    def _notStopped(self, reason: Failure) -> None:
        self._log.failure("The ways out of before could not be stopped", failure=reason)

    def _namesNotice(self, ways: Upstreams) -> tuple[str, ...]:
        if not ways.upstream.sendsNames or self._router.hasNames:
            return ()
        return (
            f"The way out {ways.upstream.describe()} is sent addresses instead of names until "
            "nanotun is started again: names were not kept so far.",
        )

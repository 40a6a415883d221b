"""Tests of L{nanotun.daemon.monitoring}; what it makes is in the tests of the tap."""

from __future__ import annotations

import sys
from typing import Any, cast
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon.monitoring import metricsOf


class MetricsOfTests(SynchronousTestCase):
    """L{metricsOf}."""

    def test_noPrometheus(self) -> None:
        """Without the package for metrics, the setting is one sentence that says what to do."""
        for name in ("families", "server"):
            absent = mock.patch.dict(sys.modules, {f"nanotun.metrics.{name}": None})
            absent.start()
            self.addCleanup(absent.stop)
        given = {"proxy": "h", "metrics": "127.0.0.1:9198"}
        flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
        settings = makeSettings({}, flags, None)
        nothing = cast(Any, None)
        error = self.assertRaises(SystemExit, metricsOf, settings, nothing, nothing, nothing)
        self.assertRegex(str(error), "^nanotun: metrics needs the Python package prometheus-client")

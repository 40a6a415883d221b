"""
A real Prometheus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests import ROOT
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.servers import START_SECONDS, Server

PORT = 9090

_CONFIG = """\
global:
  scrape_interval: 1s
rule_files: ["{rules}"]
scrape_configs:
  - job_name: nanotun
    authorization:
      credentials_file: {token}
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus(Server):
    """One that scrapes a daemon each second, and has the alert rules of etc/prometheus."""

    def __init__(self, namespace: Namespace, directory: Path, target: str, token: Path) -> None:
        """
        @param namespace: where the daemon is.
        @param target: the daemon's metrics.
        @param token: the file with the token.
        """
        config = directory / "prometheus.yml"
        rules = ROOT / "etc" / "prometheus" / "nanotun-alerts.yml"
        config.write_text(_CONFIG.format(rules=rules, token=token, target=target))
        argv = [
            # It looks this machine's name up, which /etc/hosts may lack.
            *("unshare", "--uts", "sh", "-c", 'hostname localhost && exec "$@"', "sh"),
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ]
        self._namespace = namespace
        super().__init__(namespace, argv, PORT, directory / "prometheus.log")
        try:
            # It listens, and answers "Service Unavailable", before it has read what it has.
            waitUntil(self._isReady, START_SECONDS, "Prometheus is ready")
        except BaseException:
            self.stop()
            raise

    def ask(self, query: str) -> list[float]:
        """The values that a query has now, in no order."""
        found = self._get("query", query=query)["result"]
        return [float(each["value"][1]) for each in found]

    def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self._get("label/__name__/values"))

    def brokenRules(self) -> list[str]:
        """What is wrong with alert rules that cannot be evaluated."""
        groups = self._get("rules")["groups"]
        assert groups, "there are no rules"
        return [
            rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule
        ]

    def _isReady(self) -> bool:
        url = f"http://127.0.0.1:{PORT}/-/ready"
        return self._namespace.run(["curl", "-fsS", url], check=False).returncode == 0

    def _get(self, what: str, **values: str) -> Any:
        url = f"http://127.0.0.1:{PORT}/api/v1/{what}?{urlencode(values)}"
        answer = json.loads(self._namespace.run(["curl", "-sS", url]).stdout)
        return answer["data"]

"""
Tests of what is made for the metrics: the dashboard, the alert rules and docs/metrics.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT
from tests.unit.metrics.metrics_cases import counted, samples

DASHBOARD = ROOT / "etc" / "grafana" / "nanotun.json"
ALERTS = ROOT / "etc" / "prometheus" / "nanotun-alerts.yml"
PAGE = ROOT / "docs" / "metrics.md"

#: Those that C{prometheus_client} has of each process.  C{up} is Prometheus's own.
OF_PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}

#: A metric in a query, without its function's parenthesis, and its selector.
METRIC = re.compile(r"\b(up\b|(?:nanotun|process)_\w+)(?:\{([^}]*)\})?")

#: The name of a label in a selector, or in the parentheses of C{by}.
SELECTED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"\bby \(([^)]*)\)")

#: What Prometheus adds.
ADDED = {"instance", "job", "alertname"}


def exported() -> dict[str, set[str]]:
    """The labels of each metric on the page, by its name in queries."""
    found: dict[str, set[str]] = {name: set() for name in (*OF_PROCESS, "up")}
    for text in samples(counted()):
        name, _, labels = text.partition("{")
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def panels(of: Any) -> Iterator[Any]:
    """All panels of a dashboard."""
    for panel in of["panels"]:
        yield panel
        yield from panels(panel) if "panels" in panel else ()


def queries() -> Iterator[tuple[str, str]]:
    """Each query of dashboard and rules, and where it is."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


class MonitoringTests(SynchronousTestCase):
    """The files."""

    def promtool(self, *arguments: str) -> str:
        """What promtool says, which must be content."""
        if shutil.which("promtool") is None:
            raise SkipTest("promtool is not installed")
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_names(self) -> None:
        """Every metric in a query is on the page, and so are the labels it is asked by."""
        known, used = exported(), 0
        for where, query in queries():
            names = []
            for name, selector in METRIC.findall(query):
                self.assertIn(name, known, where)
                names.append(name)
                wrong = set(SELECTED.findall(selector)) - known[name] - ADDED
                self.assertEqual(wrong, set(), f"{where}: {name}")
            self.assertTrue(names, where)
            used += len(names)
            labels = set().union(*(known[name] for name in names)) | ADDED
            for grouped in GROUPED.findall(query):
                self.assertLessEqual(set(grouped.split(", ")), labels, where)
        self.assertGreater(used, 60)

    def test_allShown(self) -> None:
        """Every metric of nanotun's is in the dashboard, but for what histograms have besides."""
        text = DASHBOARD.read_text()
        missing = {
            name
            for name in exported()
            if name.startswith("nanotun_") and not re.search(rf"\b{name}\b", text)
        }
        self.assertEqual(
            missing,
            {
                "nanotun_associations_evicted_total",
                "nanotun_associations_total",
                "nanotun_dial_seconds_count",
                "nanotun_dial_seconds_sum",
                "nanotun_dns_cache_answers",
                "nanotun_dns_fake_addresses",
            },
        )

    def test_dashboard(self) -> None:
        """Panels have ids of their own and do not lie on one another."""
        dashboard = json.loads(DASHBOARD.read_text())
        ids = [panel["id"] for panel in panels(dashboard)]
        self.assertEqual(len(ids), len(set(ids)))
        taken: set[tuple[int, int]] = set()
        for panel in panels(dashboard):
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells

    def test_syntax(self) -> None:
        """Prometheus reads every query of the dashboard, and every rule."""
        self.promtool("check", "rules", str(ALERTS))
        # promtool checks rules only.
        rules = [
            {"record": f"panel{number}", "expr": query.replace("$__rate_interval", "5m")}
            for number, (_, query) in enumerate(queries())
            if not query.startswith("label_values(")
        ]
        file = Path(self.mktemp())
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        self.assertIn(f"{len(rules)} rules found", self.promtool("check", "rules", str(file)))

    def test_alerts(self) -> None:
        """Each alert is told when it should be, and only then."""
        cases = Path(__file__).with_name("alerts.yml")
        self.promtool("test", "rules", str(cases))
        text = cases.read_text()
        for group in yaml.safe_load(ALERTS.read_text())["groups"]:
            for rule in group["rules"]:
                self.assertIn(f'alertname="{rule["alert"]}"', text)

    def test_documented(self) -> None:
        """docs/metrics.md has every metric with its labels, and no other."""
        known = exported()
        rows = re.findall(r"^\| `(nanotun_\w+)(?:\{([\w, ]*)\})?` \|", PAGE.read_text(), re.M)
        documented = {name: set(filter(None, labels.split(", "))) for name, labels in rows}
        families: dict[str, set[str]] = {}
        for name, labels in known.items():
            if name.startswith("nanotun_"):
                family = re.sub(r"_(bucket|count|sum)$", "", name)
                families.setdefault(family, set()).update(labels - {"le"})
        self.assertEqual(documented, families)

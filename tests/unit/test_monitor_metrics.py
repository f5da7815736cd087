"""What is told to Prometheus, and what is made of it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from datamover.api.site import NAMESPACES
from datamover.concurrency.loops import LOOPS
from datamover.jobs.figures import Figures
from datamover.monitor.gauges import Gauges, PoolUse, Scrape
from datamover.monitor.metrics import OUTCOMES, Metrics
from datamover.monitor.processes import ProcessFigures

ROOT = Path(__file__).parents[2]
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "etc/prometheus-alerts.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((ROOT / "etc/grafana-dashboard.json").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

FIGURES = Figures(
    jobs={"PENDING": 3},
    pending={"archive": 2, "gone": 1},
    age={"archive": 60.0, "gone": 5.0},
    without_room={"archive": 1},
    active={("archive", "IN_PROGRESS"): 4, ("archive", "PREPARING"): 1},
    held=frozenset({"archive"}),
    broken=frozenset({"visualiser"}),
    broken_hosts=7,
    nodes={"engine": 2},
    draining=1,
)

Told = dict[str, dict[tuple[tuple[str, str], ...], float]]


def told(figures: Figures | None = FIGURES) -> Told:
    """Return what a scrape tells, by the samples' names and labels."""
    metrics = Metrics()
    gauges = Gauges(lambda: ["archive", "visualiser"], lambda: PoolUse(8, 6, 3))
    metrics.registry.register(gauges)
    metrics.registry.register(ProcessFigures(lambda: {"1": os.getpid(), "2": os.getppid()}))
    gauges.scrape = Scrape(figures, 2.5)
    metrics.claimed(2)
    metrics.attempt_ended("retrying", "TIMED_OUT")
    metrics.bytes_moved("archive", 1000)
    metrics.lease_lost()
    metrics.taken_over(3)
    metrics.loop_failed("claims")
    metrics.called("jobs.submit", "ok", 0.02)
    metrics.lagged(0.3)
    metrics.process_ended()
    found: Told = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(samples: Told, name: str, **labels: str) -> float:
    return samples[f"datamover_{name}"][tuple(sorted(labels.items()))]


def test_the_counters() -> None:
    """Everything that is counted is told under its labels."""
    samples = told()
    assert of(samples, "claims_total") == 2
    assert of(samples, "attempts_total", outcome="retrying") == 1
    assert of(samples, "attempts_total", outcome="completed") == 0
    assert of(samples, "errors_total", code="TIMED_OUT") == 1
    assert of(samples, "bytes_moved_total", destination="archive") == 1000
    assert of(samples, "lease_losses_total") == 1
    assert of(samples, "lease_takeovers_total") == 3
    assert of(samples, "loop_failures_total", loop="claims") == 1
    assert {of(samples, "loop_failures_total", loop=loop) for loop in LOOPS} == {0, 1}
    assert of(samples, "xmlrpc_calls_total", method="jobs.submit", outcome="ok") == 1
    assert of(samples, "xmlrpc_call_seconds_bucket", method="jobs.submit", le="0.025") == 1
    assert of(samples, "reactor_lag_seconds_bucket", le="0.25") == 0
    assert of(samples, "reactor_lag_seconds_bucket", le="0.5") == 1


def test_the_queue() -> None:
    """Every destination is told, whether something waits there or not; also one that is configured no more."""
    samples = told()
    assert of(samples, "database_up") == 1
    assert of(samples, "database_connections") == 2
    assert of(samples, "database_waiting") == 3
    for name, pending, active, age, held, broken in [
        ("archive", 2, 5, 60.0, 1, 0),
        ("visualiser", 0, 0, 0.0, 0, 1),
        ("gone", 1, 0, 5.0, 0, 0),
    ]:
        assert of(samples, "queue_pending", destination=name) == pending
        assert of(samples, "queue_active", destination=name) == active
        assert of(samples, "queue_age_seconds", destination=name) == age
        assert of(samples, "destination_held", destination=name) == held
        assert of(samples, "destination_breaker_open", destination=name) == broken
        assert of(samples, "queue_without_room", destination=name) == (name == "archive")
    assert samples["datamover_transfers"] == {
        (("state", "PENDING"),): 3,
        (("state", "PREPARING"),): 1,
        (("state", "IN_PROGRESS"),): 4,
    }
    assert of(samples, "jobs", state="PENDING") == 3
    assert of(samples, "jobs", state="PREPARING") == 0
    assert of(samples, "nodes", role="engine") == 2
    assert of(samples, "nodes", role="api") == 0
    assert of(samples, "nodes_draining") == 1
    assert of(samples, "source_hosts_broken") == 7
    assert of(samples, "figures_age_seconds") == 2.5


def test_without_the_database() -> None:
    """Nothing is made up: the queue is left out, the process is told."""
    samples = told(None)
    assert of(samples, "database_up") == 0
    assert of(samples, "claims_total") == 2
    left_out = set(told()) - set(samples)
    assert {"datamover_jobs", "datamover_queue_age_seconds", "datamover_nodes", "datamover_nodes_draining"} <= left_out


def test_two_processes_share_nothing() -> None:
    """Each has a registry of its own."""
    first, second = Metrics(), Metrics()
    first.claimed(5)
    assert b"datamover_claims_total 5.0" in generate_latest(first.registry)
    assert b"datamover_claims_total 0.0" in generate_latest(second.registry)


# What is made of them -----------------------------------------------------------------------------------------


def selected(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Return the names of the metrics in an expression, each with the labels that it is narrowed by."""
    found = []
    for name, braces in re.findall(r"\b((?:datamover|process|python)_\w+)(?:\{([^}]*)\})?", expression):
        found.append((name, dict(re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', braces))))
    assert found or "up{" in expression, expression
    return found


def grouped(expression: str) -> set[str]:
    """Return the labels that an expression groups by."""
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")}


EXPRESSIONS = [
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]),
]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_alerts_and_panels_name_what_there_is(title: str, expression: str) -> None:
    """Every metric of an alert rule or a panel is told by the service, with every label that is asked of it."""
    samples = told()
    labels: set[str] = {"instance", "job"}
    for name, narrowed in selected(expression):
        assert name in samples, name
        own = {label for key in samples[name] for label, _ in key}
        assert set(narrowed) <= own | {"instance", "job"}, name
        labels |= own
    assert grouped(expression) <= labels


def test_what_is_narrowed_to_is_told() -> None:
    """The outcomes, roles and methods that rules and panels pick are those that there are."""
    methods = {name for namespace in NAMESPACES for name in namespace.TABLE.methods}
    known = {"outcome": set(OUTCOMES), "role": {"api", "engine"}, "method": methods}
    for _, expression in EXPRESSIONS:
        for _, narrowed in selected(expression):
            for label, values in narrowed.items():
                if label in known:
                    assert set(values.split("|")) <= known[label], expression


def test_engine_processes_are_told_apart() -> None:
    """What each engine process uses has its number; one that is gone meanwhile is left out."""
    samples = told()
    assert of(samples, "engine_processes") == 2
    assert of(samples, "engine_process_ends_total") == 1
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds"):
        assert of(samples, f"engine_process_{name}", process="1") > 0
        assert of(samples, f"engine_process_{name}", process="2") >= 0
    gone = ProcessFigures(lambda: {"1": 2**22 + 1})
    assert [metric.name for metric in gone.collect()] == ["datamover_engine_processes"]


def test_alerts_can_be_acted_on() -> None:
    """Every rule has a severity, a summary and a description."""
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} <= set(rule["annotations"])


def test_the_dashboard_holds_together() -> None:
    """Panels have ids of their own and lie side by side; their data source is the dashboard's to choose."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "job"}


def test_the_page_names_every_metric() -> None:
    """docs/operations.md describes every metric of datamover's own, and no others."""
    text = (ROOT / "docs/operations.md").read_text()
    described = set(re.findall(r"`(datamover_\w+)`", text))
    own = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told() if name.startswith("datamover_")}
    own = {name for name in own if not name.endswith("_created")}
    assert described == own

"""What is written down, what is exposed and what is asked for are the same metrics."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from coordinator.generation.book import Book
from coordinator.generation.metrics import GenerationCollector
from coordinator.limits import Refusals
from coordinator.machine import State
from coordinator.metrics import CoordinatorCollector
from coordinator.requests import Requests
from coordinator.sessions import Sessions
from coordinator.totals import Totals
from dashboards import queries
from edge_agent.energy.baseline import Baseline
from edge_agent.energy.meter import Meter
from edge_agent.limits import LimitsCollector
from edge_agent.link.relay import Relay
from edge_agent.link.relay_metrics import RelayCollector
from edge_agent.meterd.host import HostMeter
from edge_agent.meterd.metrics import HostCollector
from edge_agent.metrics import AgentCollector

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "dashboards" / "prometheus" / "rules").glob("*.yml"))
DOCUMENTED = set(re.findall(r"`(wattbed_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
OF_A_TYPE = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}


def rules():
    return [r for path in RULES for g in yaml.safe_load(path.read_text())["groups"] for r in g["rules"]]


def documented_of(name):
    """The documented metric that a series belongs to: a histogram is documented once."""
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in DOCUMENTED else name


def sources():
    host = HostMeter([], (), Baseline({}), clock=lambda: 0.0)
    loop = SimpleNamespace(state=State(), totals=Totals(), now_s=lambda: 0.0)
    yield CoordinatorCollector(loop, Sessions(lambda *_: None))
    yield Requests()
    yield Refusals()
    yield GenerationCollector(SimpleNamespace(state=State(), book=Book()))
    yield AgentCollector("a", Meter([]), host="h")
    yield LimitsCollector("a", lambda: None)
    yield HostCollector(host, host="h")
    relay = Relay(("127.0.0.1", 1), ())
    relay.clock = SimpleNamespace(now=lambda: 0.0)
    yield RelayCollector(relay)


@pytest.fixture(scope="module")
def exposed():
    found = set()
    for collector in sources():
        for family in collector.collect():
            suffixes = {"counter": "_total", "info": "_info"}
            found.add(family.name + suffixes.get(family.type, ""))
    registry = CollectorRegistry()
    ProcessCollector(namespace="wattbed_coordinator", registry=registry)
    return found | {s.name for family in registry.collect() for s in family.samples}


def asked():
    for a in queries.queries("e", "wall", "measured"):
        yield from names(a.expr)
    for dashboard in queries.built().values():
        for variable in dashboard.templating.list_val:
            yield from names(variable.query)
    for rule in rules():
        yield from names(rule["expr"])


def names(expr):
    """Names of metrics that wattbed exposes, and of recording rules by their whole name."""
    return re.findall(r"(?<![\w:])(?:[a-z_0-9]+:)?wattbed_\w+(?::\w+)?", expr)


def test_everything_asked_for_is_documented_or_recorded():
    recorded = {r["record"] for r in rules() if "record" in r}
    unknown = {n for n in asked() if n not in recorded and documented_of(n) not in DOCUMENTED}
    assert unknown == set()


def test_everything_exposed_is_documented(exposed):
    assert {n for n in exposed if not n.startswith("wattbed_coordinator_process")} - DOCUMENTED == set()


def test_everything_documented_is_exposed(exposed):
    assert DOCUMENTED - exposed == set()


def test_every_recording_rule_is_asked_for():
    recorded = [r["record"] for r in rules() if "record" in r]
    everything = " ".join(
        [*(r["expr"] for r in rules()), *(a.expr for a in queries.queries("e", "wall", "derived"))]
    )
    assert [name for name in recorded if name not in everything] == []

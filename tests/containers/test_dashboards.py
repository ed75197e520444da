"""Every query of every panel, put to the Prometheus of the testbed after a real run; and Prometheus's own checks."""

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from cli import requests
from cli.client import Operator
from dashboards.queries import may_be_empty, queries
from dashboards.recorded import promtool_test
from fleet.energy import APART
from fleet.generation import GenerationRequest, Recipe

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards" / "prometheus"
IMAGE = "prom/prometheus:v2.42.0"
STEP_S = 5
SCRAPED_WITHIN_S = 120
"""A scrape and two evaluations take 15 s; on a busy machine scrapes are missed."""
REQUESTS = 3
"""A rate needs more than one scrape, and each request may go to another device."""


def promtool(engine, *args, stdin=""):
    """What promtool of the pinned image says about the configuration, which it sees at /etc/prometheus."""
    container = engine.containers.run(
        IMAGE,
        entrypoint=["sh", "-c", f'cat > /tmp/recorded.yml <<"END"\n{stdin}\nEND\npromtool {" ".join(args)}'],
        volumes={str(PROMETHEUS): {"bind": "/etc/prometheus", "mode": "ro"}},
        network_mode="none",
        detach=True,
    )
    try:
        return container.wait(timeout=120)["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True)


def test_configuration_and_rules_are_valid(engine):
    code, said = promtool(engine, "check config /etc/prometheus/prometheus.yml")
    assert (code, said.count("SUCCESS")) == (0, 2 + len(list((PROMETHEUS / "rules").glob("*.yml")))), said


def test_rules_do_what_their_tests_say(engine):
    code, said = promtool(engine, "test rules /etc/prometheus/tests/*.yml")
    assert (code, said.count("SUCCESS")) == (0, len(list((PROMETHEUS / "tests").glob("*.yml")))), said


def test_panels_that_need_hardware_show_something_when_there_is_hardware(engine):
    recorded = promtool_test(Path("/etc/prometheus/rules/recording.yml"))
    code, said = promtool(engine, "test rules /tmp/recorded.yml", stdin=recorded)
    assert code == 0, said


class Run:
    """A run's report, the time that it took, and questions about it."""

    def __init__(self, prometheus, began_s, ended_s, report):
        self.prometheus, self.began_s, self.ended_s, self.report = prometheus, began_s, ended_s, report

    def ask(self, expr, instant):
        """Series with values: at the end of the run, or in any step of it, as Grafana asks."""
        when = {"time": self.ended_s} if instant else {"start": self.began_s, "end": self.ended_s, "step": STEP_S}
        kind = "query" if instant else "query_range"
        url = f"{self.prometheus}/api/v1/{kind}?{urllib.parse.urlencode({'query': expr} | when)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None


def scraped(stack):
    """Whether Prometheus has the end of the run, every agent and the rules that read them, all at this moment."""
    ended = stack.query('wattbed_run_info{experiment="emulated", phase="completed"}')
    agents = stack.query('up{job="agents"} == 1')
    recorded = stack.query("device_quality_scope:wattbed_power_watts:sum")
    return ended and len(agents) == 4 and len({r["metric"]["device"] for r in recorded}) >= 4


@pytest.fixture(scope="module")
def ran(stack, emulated):
    """The run of experiments/emulated.toml, of which images were asked for, and that has been scraped."""

    async def asked():
        async with Operator(stack.coordinator) as operator:
            served = [d.device for d in await operator.devices() if d.attached]
            for n in range(REQUESTS):
                for device in served:  # joules of every scope that there is, which devices of two kinds have
                    images = GenerationRequest(
                        f"dashboards-{n}-{device}",
                        emulated.run,
                        2,
                        n,
                        where="device",
                        device=device,
                        recipe=Recipe((1.0,) * 3, "ddim"),
                    )
                    async for _ in requests.follow(operator, images):
                        pass
                await asyncio.sleep(STEP_S)
            return await operator.report(emulated.run)

    report = asyncio.run(asked())
    stack.until("the end of the run, scraped", lambda: scraped(stack), SCRAPED_WITHIN_S)
    return Run(stack.prometheus, emulated.began_s, time.time(), report)


def scopes(ran):
    """What the joules of the fleet cover: one at a time is asked for, as on a dashboard."""
    return sorted({r["metric"]["scope"] for r in ran.ask("wattbed_energy_source_info", instant=True)})


def test_every_query_of_every_panel_has_data_after_a_run(ran):
    asked = [a for scope in scopes(ran) for a in queries("emulated", scope, "estimated")]
    empty = {}
    for query in dict.fromkeys(asked):
        here = (query.dashboard, query.panel, query.expr)
        empty[here] = not ran.ask(query.expr, query.instant)
    silent = sorted((d, p, e) for (d, p, e), nothing in empty.items() if nothing and (d, p) not in may_be_empty())
    assert (len(empty) > 100, silent) == (True, [])


def test_variables_have_values_to_choose_from(ran):
    for label, metric in {
        "experiment": "wattbed_run_info",
        "run": 'wattbed_run_info{experiment="emulated"}',
        "device": "wattbed_device_attached",
        "kind": "wattbed_device_info",
        "method": "wattbed_grpc_requests_total",
        "quality": "wattbed_energy_source_info",
    }.items():
        assert {r["metric"].get(label) for r in ran.ask(metric, instant=True)} - {None}, label


def test_limits_and_links_of_every_kind_are_on_the_dashboard(ran):
    shown = {
        query.panel: {r["metric"].get("kind") for r in ran.ask(query.expr, query.instant)}
        for query in queries("emulated", "wall", "estimated")
        if query.panel in ("CPU: quota by kind", "Link rate by kind", "Link delay by kind")
    }
    kinds = {"raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation"}
    assert shown == dict.fromkeys(shown, kinds)
    assert len(shown) == 3


def test_prometheus_and_the_ledger_say_the_same_of_the_run(ran):
    def shown(metric, label):
        found = ran.ask(f'sum by ({label}) ({metric}{{experiment="emulated"}})', instant=True)
        return {r["metric"][label]: pytest.approx(float(r["value"][1])) for r in found}

    devices = [device for page in ran.report.rounds for device in page.devices]
    wire = {"up": sum(d.wire_up_bytes for d in devices), "down": sum(d.wire_down_bytes for d in devices)}
    joules = Counter()
    for reading in (r for d in devices for phase in d.phases for r in phase.readings):
        if reading.component not in APART:
            joules[reading.scope] += reading.joules
    assert (wire, dict(joules)) == (
        shown("wattbed_run_wire_bytes_total", "direction"),
        shown("wattbed_run_energy_joules_total", "scope"),
    )

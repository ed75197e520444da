"""Prometheus's own tool checks the configuration and the rules. Where it is not installed, tests/containers does it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.recorded import promtool_test

HERE = Path(__file__).parents[3] / "dashboards" / "prometheus"
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed; tests/containers checks it in an image"
)


def run(*args):
    done = subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def rules(kind):
    groups = [
        g for path in sorted((HERE / "rules").glob("*.yml")) for g in yaml.safe_load(path.read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def stories():
    return [
        t for path in sorted((HERE / "tests").glob("*.yml")) for t in yaml.safe_load(path.read_text())["tests"]
    ]


@promtool
def test_the_configuration_is_valid():
    code, said = run("check", "config", HERE / "prometheus.yml")
    assert code == 0, said


@promtool
def test_the_rules_do_what_their_tests_say():
    code, said = run("test", "rules", *sorted((HERE / "tests").glob("*.yml")))
    assert code == 0, said


@promtool
def test_panels_that_need_hardware_show_something_when_there_is_hardware(tmp_path):
    path = tmp_path / "recorded.yml"
    path.write_text(promtool_test(HERE / "rules" / "recording.yml"))
    code, said = run("test", "rules", path)
    assert code == 0, said


def test_every_alert_says_what_happened_and_what_it_means():
    assert [
        r["alert"]
        for r in rules("alert")
        if not (r["annotations"]["summary"] and len(r["annotations"]["description"]) > 60 and r["for"])
    ] == []


def test_every_alert_is_tested_firing_and_not_firing():
    told = [(a["alertname"], bool(a["exp_alerts"])) for t in stories() for a in t.get("alert_rule_test", ())]
    wanted = {(r["alert"], fires) for r in rules("alert") for fires in (True, False)}
    assert wanted - set(told) == set()


def test_every_recording_rule_has_a_value_in_a_test():
    tried = " ".join(
        sample["labels"] for t in stories() for e in t.get("promql_expr_test", ()) for sample in e["exp_samples"]
    )
    assert [r["record"] for r in rules("record") if r["record"] + "{" not in tried] == []


def test_a_device_shows_and_goes_within_fifteen_seconds():
    config = yaml.safe_load((HERE / "prometheus.yml").read_text())
    agents = next(c for c in config["scrape_configs"] if c["job_name"] == "agents")
    refresh_s = int(agents["http_sd_configs"][0]["refresh_interval"].removesuffix("s"))
    assert refresh_s + int(config["global"]["scrape_interval"].removesuffix("s")) <= 15

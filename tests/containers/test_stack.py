"""The testbed as it comes up: everything healthy, every kind attached, every target scraped."""

import json
import urllib.request

import pytest

MOST_BYTES = 1_600_000_000
KINDS = {"raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation"}


def test_every_service_is_healthy(stack):
    running = [json.loads(line) for line in stack.compose("ps", "--format", "json").stdout.splitlines()]
    assert {c["Service"]: c["Health"] for c in running if c["Health"] != "healthy"} == {}


def test_one_agent_of_each_kind_is_a_target_that_prometheus_can_reach(stack):
    def up() -> set[str]:
        return {r["metric"]["device_kind"] for r in stack.query('up{job="agents"} == 1')}

    stack.until("all kinds scraped", lambda: up() == KINDS, 30)


def test_coordinator_lists_the_agents(stack):
    def listed() -> set[str]:
        with urllib.request.urlopen(f"{stack.http}/sd", timeout=10) as answer:
            return {target["labels"]["device_kind"] for target in json.load(answer)}

    stack.until("all kinds listed", lambda: listed() == KINDS, 30)  # one may come back from faults just now


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_an_image_is_below_its_size_and_says_which_commit_it_was_made_from(stack, name):
    image = stack.containers("coordinator" if name == "coordinator" else "raspberry-pi-5")[0].image
    labels = image.attrs["Config"]["Labels"]
    assert image.attrs["Size"] < MOST_BYTES
    assert labels["org.opencontainers.image.title"] == f"wattbed-{name}"
    assert "org.opencontainers.image.revision" in labels

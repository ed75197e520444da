import json
import threading

import pytest

from edge_agent.energy.__main__ import main, probed
from edge_agent.energy.replay import replay
from edge_agent.energy.trace import read


@pytest.fixture
def counting(host):
    """A host whose counters go on by themselves while a command runs."""
    host.zone("intel-rapl:0", "package-0", watts=50)
    host.zone("intel-rapl:0:0", "dram", watts=5)
    stop = threading.Event()

    def tick():
        while not stop.wait(0.005):
            host.powercap.pass_(0.005)

    thread = threading.Thread(target=tick)
    thread.start()
    yield host
    stop.set()
    thread.join()


def run(*arguments, environ=None):
    return main([str(argument) for argument in arguments], environ or {})


def test_probe_lists_sources_with_their_counters_and_the_rest_with_reasons(counting, capsys):
    assert run("probe", "--sysfs", counting.sys, "--procfs", counting.proc, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [{k: v for k, v in s.items() if k != "joules"} for s in shown["sources"]] == [
        {
            "id": "rapl:package-0",
            "kind": "rapl",
            "name": "package-0",
            "component": "cpu",
            "scope": "package",
            "quality": "measured",
            "detail": "package-0 of intel-rapl",
        },
        {
            "id": "rapl:package-0/dram",
            "kind": "rapl",
            "name": "dram",
            "component": "dram",
            "scope": "package",
            "quality": "measured",
            "detail": "dram of intel-rapl",
        },
    ]
    assert {"nvml", "ina3221", "battery"} <= {one["name"] for one in shown["rejected"]}


def test_the_counters_total_is_what_the_kernel_shows_now_and_a_sensor_has_none(host):
    zone = host.zone("intel-rapl:0", "package-0")
    host.ina3221(["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"])
    found = host.discover()
    (zone / "energy_uj").write_text("123456789\n")
    assert {s["name"]: s["joules"] for s in probed(found)["sources"]} == {
        "package-0": pytest.approx(123.456789),
        "VDD_IN": None,
        "VDD_CPU_GPU_CV": None,
        "VDD_SOC": None,
    }


def test_what_was_recorded_can_be_replayed(counting, tmp_path, capsys):
    path = tmp_path / "trace.jsonl"
    arguments = ("--sysfs", counting.sys, "--procfs", counting.proc, "--seconds", 0.5, "--hz", 20)
    assert run("record", path, *arguments, "--note", "a test") == 0
    seen = replay(read(path))
    assert {id: (one.readings, one.joules > 0, one.errors) for id, one in seen.items()} == {
        "rapl:package-0": (11, True, {}),
        "rapl:package-0/dram": (11, True, {}),
    }


def test_the_host_of_a_trace_is_not_named(counting, tmp_path):
    path = tmp_path / "trace.jsonl"
    run("record", path, "--sysfs", counting.sys, "--procfs", counting.proc, "--seconds", 0.1)
    assert set(read(path).facts) == {"agent_version", "machine", "kernel", "cpu_model", "recorded_at", "note"}


@pytest.mark.parametrize("prefix", ["WATTBED_", ""])
def test_where_the_hosts_trees_are_may_come_from_the_environment(host, capsys, prefix):
    trees = {f"{prefix}HOST_SYS": str(host.sys), f"{prefix}HOST_PROC": str(host.proc)}
    environ = trees | {"WATTBED_KIND": "raspberry-pi-5"}
    assert run("probe", "--json", environ=environ) == 0
    shown = json.loads(capsys.readouterr().out)
    said = next(one["reason"] for one in shown["rejected"] if one["name"] == "rapl")
    assert ([s["id"] for s in shown["sources"]], str(host.sys) in said) == (["model"], True)


def test_a_host_without_any_source_records_nothing_and_says_why(host, tmp_path, capsys):
    assert run("record", tmp_path / "t", "--sysfs", host.sys, "--procfs", host.proc) == 1
    assert ("nothing here can be measured: rapl: " in capsys.readouterr().err, list(tmp_path.glob("t"))) == (
        True,
        [],
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("probe", "--sysfs", "/no/such"), "/no/such: no such directory"),
        (("probe", "--kind", "toaster"), "unknown device kind 'toaster'"),
        (("probe", "--plug", "fridge:3"), "plug 'fridge:3': not model:host"),
        (("record", "x", "--seconds", "0"), "--seconds 0: not above 0"),
        (("record", "x", "--hz", "1000"), "--hz 1000: not above 0 and at most 100"),
    ],
)
def test_wrong_use_is_exit_code_two_with_the_reason(arguments, said, capsys):
    assert (run(*arguments), said in capsys.readouterr().err) == (2, True)

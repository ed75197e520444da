"""Golden traces: one per kind of board, through the trackers of the live sources.

traces/*.jsonl were made from the fake trees below, not on hardware (their first line says so); golden.json is
what they come to. `REWRITE=1 pytest tests/unit/energy/test_traces.py` makes them anew. A trace that an owner of a
board sends is put beside them, and its line in golden.json is written by the same command.
"""

import io
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from edge_agent.energy.record import record
from edge_agent.energy.replay import replay
from edge_agent.energy.trace import read

TRACES = Path(__file__).parent / "traces"
GOLDEN = TRACES / "golden.json"
HERTZ = 10
FACTS = {"agent_version": "0.1.0", "note": "made from a fake tree, not recorded on hardware"}


def two_socket_server(host):
    """Package 0 wraps, package 1 restarts, dram of package 0 has an error for two readings; psys and MMIO beside."""
    host.zone("intel-rapl:0", "package-0", uj=261_943_328_850, watts=95)
    dram = host.zone("intel-rapl:0:0", "dram", uj=65_500_000_000, watts=12, range_uj=65_532_610_987)
    host.zone("intel-rapl:0:1", "core", uj=7_000_000, watts=61)
    second = host.zone("intel-rapl:1", "package-1", uj=40_000_000_000, watts=80)
    host.zone("intel-rapl:2", "psys", uj=9_000_000, watts=240)
    host.zone("intel-rapl-mmio:0", "package-0", uj=1_000_000, watts=95)
    return {
        20: lambda: (dram / "energy_uj").rename(dram / "gone"),
        22: lambda: (dram / "gone").rename(dram / "energy_uj"),
        30: lambda: (second / "energy_uj").write_text("12345\n"),
    }


def epyc_with_mirrored_dies(host):
    (host.proc / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\nflags\t\t: fpu\n")
    for die in (0, 1):
        host.zone(f"intel-rapl:{die}", f"package-0-die-{die}", uj=5_000_000, watts=68, range_uj=65_532_610_987)
        host.zone(f"intel-rapl:{die}:0", "core", uj=1_000_000 + die, watts=9, range_uj=65_532_610_987)
    return {}


def laptop(host):
    """Runs from its battery until the charger is plugged in."""
    host.zone("intel-rapl:0", "package-0", watts=11)
    host.zone("intel-rapl:1", "psys", watts=19)
    battery = host.battery(status="Discharging", power_now=21_000_000)
    return {25: lambda: (battery / "status").write_text("Charging\n")}


def _swing(chip, channel, low, high):
    """A current that swings once in two seconds, in mA, by tick."""
    file = chip / f"curr{channel}_input"

    def at(tick):
        level = low + (high - low) * (1 - math.cos(math.pi * tick / HERTZ)) / 2
        return lambda: file.write_text(f"{round(level)}\n")

    return {tick: at(tick) for tick in range(51)}


def jetson_orin_nano(host):
    return _swing(
        host.ina3221(["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], milliamperes=(900, 300, 280)), 1, 900, 2100
    )


def jetson_agx_orin(host):
    chip = host.ina3221(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], 19_000, (420, 110, 300))
    host.ina3221(["NC", "VDDQ_VDD2_1V8AO", "NC"], 4968, (0, 140, 0), address="1-0041", number=1)
    return _swing(chip, 1, 420, 1500)


def jetson_agx_thor(host):
    chip = host.ina3221(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"], 20_000, (-20, 350, 300))
    host.ina238(23_000_000)
    return _swing(chip, 1, -20, 40)


def jetson_nano(host):
    device = host.iio([("POM_5V_IN", 1850), ("POM_5V_GPU", 40), ("POM_5V_CPU", 310)])
    return {20: lambda: (device / "in_power0_input").write_text("6400\n")}


BOARDS = (
    two_socket_server,
    epyc_with_mirrored_dies,
    laptop,
    jetson_orin_nano,
    jetson_agx_orin,
    jetson_agx_thor,
    jetson_nano,
)


def recorded(host, happen, found):
    """Five seconds of `host` as a trace; `happen` by tick."""
    ticks = iter(range(10_000))

    def sleep(seconds):
        host.pass_(seconds)
        happen.get(next(ticks), lambda: None)()

    file = io.StringIO()
    record(file, found, FACTS, 5.0, HERTZ, host.clock, sleep)
    return file.getvalue().replace(str(host.sys), "/sys")


def figures(path):
    return {id: asdict(one) for id, one in replay(read(path)).items()}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.__name__)
def test_a_fake_board_records_the_trace_that_is_kept(board, host):
    happen = board(host)
    made = recorded(host, happen, host.discover())
    kept = TRACES / f"{board.__name__}.jsonl"
    if os.environ.get("REWRITE"):
        kept.write_text(made)
    assert made == kept.read_text()


def test_a_gpu_that_counts_and_one_that_shows_its_power_record_the_trace_that_is_kept(host, nvml, gpu):
    h100 = gpu("GPU-0a", "NVIDIA H100", energy_mj=1_000_000)
    t4 = gpu("GPU-1b", "Tesla T4", power_mw=30_000, architecture=6)

    def at(tick):
        def happen():
            h100.energy_mj = 1_000_000 + 35_000 * tick
            t4.power_mw = 30_000 + 800 * tick
            h100.lost = tick >= 40

        return happen

    made = recorded(host, {tick: at(tick) for tick in range(51)}, host.discover(nvml(h100, t4)))
    kept = TRACES / "two_gpus_of_which_one_is_lost.jsonl"
    if os.environ.get("REWRITE"):
        kept.write_text(made)
    assert made == kept.read_text()


def test_every_trace_comes_to_what_it_came_to_before():
    seen = {path.stem: figures(path) for path in sorted(TRACES.glob("*.jsonl"))}
    if os.environ.get("REWRITE"):
        GOLDEN.write_text(json.dumps(seen, indent=1) + "\n")
    assert json.loads(json.dumps(seen)) == json.loads(GOLDEN.read_text())


def test_the_server_of_the_trace_spent_what_its_tree_was_told_to_spend():
    seen = figures(TRACES / "two_socket_server.jsonl")
    said = {
        id: (one["joules"], one["wraps"], one["resets"], sum(one["errors"].values())) for id, one in seen.items()
    }
    assert said == {
        "rapl:package-0": (pytest.approx(95 * 5.0, abs=61.1e-6), 1, 0, 0),
        "rapl:package-0/dram": (pytest.approx(12 * 4.7, abs=61.1e-6), 0, 0, 2),
        "rapl:package-0/core": (pytest.approx(61 * 5.0), 0, 0, 0),
        "rapl:package-1": (pytest.approx(80 * 4.9), 0, 1, 0),
        "rapl:psys": (pytest.approx(240 * 5.0), 0, 0, 0),
    }


def test_a_board_whose_current_swings_spent_the_mean_of_the_swing():
    seen = figures(TRACES / "jetson_orin_nano.jsonl")["ina3221:1-0040/VDD_IN"]
    swing = (
        1500 * 5.0 + 600 * 2 / (2 * math.pi) * 0
    )  # five seconds are two swings and a half: the sine's ends are zero
    assert seen["joules"] == pytest.approx(5000 * swing * 1e-6, rel=0.005)

import time

import pytest

from edge_agent.energy import gpu as gpus
from edge_agent.energy.counter import Delta, Failed, First, Reset
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.nvml import GPU, MODULE, POWER_AVERAGE, POWER_INSTANT
from edge_agent.energy.self_check import SelfChecks, pairs, ratio
from edge_agent.energy.unwrap import CounterTracker

NOW, MEAN = "power now", "mean power of 1 s"


def only(found):
    (tracker,) = [t for t in found.trackers if t.info.id.startswith("nvml")]
    return tracker


def test_the_energy_counter_is_taken_where_it_answers(host, nvml, gpu):
    one = gpu("GPU-1", energy_mj=5_000, fields={(POWER_INSTANT, GPU): 300_000})
    tracker = only(host.discover(nvml(one)))
    seen = [tracker.advance()]
    one.energy_mj, _ = 305_250, host.pass_(1.0)
    assert (tracker.info.kind, [*seen, tracker.advance()]) == (
        "nvml_energy",
        [First(), Delta(pytest.approx(300.25))],
    )


@pytest.mark.parametrize(
    ("figures", "component", "scope", "detail"),
    [
        ({"fields": {(POWER_INSTANT, GPU): 1, (POWER_AVERAGE, GPU): 1}}, "gpu", "board", NOW),
        ({"fields": {(POWER_AVERAGE, GPU): 1}, "power_mw": 1}, "gpu", "board", MEAN),
        ({"power_mw": 1, "architecture": 9}, "gpu", "board", MEAN),
        ({"power_mw": 1, "architecture": 7, "name": "NVIDIA RTX A3000"}, "gpu", "board", MEAN),
        ({"power_mw": 1, "architecture": 7, "name": "NVIDIA A100-SXM4-40GB"}, "gpu", "board", NOW),
        ({"power_mw": 1, "architecture": 6}, "gpu", "board", NOW),
        ({"fields": {(POWER_INSTANT, MODULE): 1}}, "board", "module", "power now of the module with its CPU"),
    ],
)
def test_without_a_counter_power_is_taken_and_the_detail_says_over_how_long_it_is_the_mean(
    host, nvml, gpu, figures, component, scope, detail
):
    info = only(host.discover(nvml(gpu("GPU-1", **figures)))).info
    assert (info.kind, info.component, info.scope, info.detail.partition(", ")[2]) == (
        "nvml_power",
        component,
        scope,
        detail,
    )


def test_a_window_of_averaged_power_must_be_longer_before_it_counts_as_long_enough(host, nvml, gpu):
    now = only(host.discover(nvml(gpu("GPU-1", fields={(POWER_INSTANT, GPU): 1})))).info
    mean = only(host.discover(nvml(gpu("GPU-1", power_mw=1)))).info
    assert mean.min_window_s > 1.0 > now.min_window_s


def test_a_reading_of_no_power_is_no_reading(host, nvml, gpu):
    one = gpu("GPU-1", fields={(POWER_INSTANT, GPU): 50_000})
    tracker = only(host.discover(nvml(one)))
    seen = [tracker.advance()]
    for milliwatts in (0, 60_000, 60_000):
        host.pass_(0.1)
        one.fields[POWER_INSTANT, GPU] = milliwatts
        seen.append(tracker.advance())
    assert seen == [First(), Failed("no_power"), First(), Delta(pytest.approx(6.0))]


def test_a_gpu_cut_into_slices_is_counted_once(host, nvml, gpu):
    whole = gpu("GPU-1", energy_mj=1_000, mig=True)
    slices = [gpu(f"MIG-{n}", energy_mj=1_000, slice_of=whole) for n in range(4)]
    assert only(host.discover(nvml(*slices))).info.detail == "NVIDIA H100, all MIG slices together, energy counter"


def test_gpus_come_in_the_order_of_their_uuids_whatever_their_index(host, nvml, gpu):
    found = host.discover(nvml(*(gpu(f"GPU-{x}", energy_mj=1) for x in "cab")))
    assert [t.info.id for t in found.trackers] == ["nvml:GPU-a", "nvml:GPU-b", "nvml:GPU-c"]


def test_a_gpu_that_is_lost_fails_and_says_so(host, nvml, gpu):
    one = gpu("GPU-1", energy_mj=1_000)
    tracker = only(host.discover(nvml(one)))
    tracker.advance()
    one.lost = True
    assert tracker.advance() == Failed("gpu_is_lost")


def test_a_gpu_that_was_lost_before_leaves_the_others_alone(host, nvml, gpu):
    gone, there = gpu("GPU-1", energy_mj=1), gpu("GPU-2", energy_mj=1)
    gone.lost = True
    found = host.discover(nvml(gone, there))
    assert ([t.info.id for t in found.trackers], [r.id for r in found.rejected][1]) == (["nvml:GPU-2"], "nvml:0")


def test_a_driver_that_was_loaded_anew_is_a_reset(host, nvml, gpu):
    one = gpu("GPU-1", energy_mj=900_000)
    tracker = only(host.discover(nvml(one)))
    tracker.advance()
    one.energy_mj, _ = 20, host.pass_(1.0)
    assert tracker.advance() == Reset()


def test_nvml_of_a_jetson_is_rejected_and_its_rails_speak(host, nvml, gpu):
    host.ina3221(["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"])
    found = host.discover(nvml(gpu("GPU-1", name="Orin (nvgpu)")))
    rejected = next(r.reason for r in found.rejected if r.id == "nvml:GPU-1")
    assert (found.trackers[0].info.component, rejected) == (
        "board",
        "Orin (nvgpu) is on the power rails of this board already",
    )


def test_a_jetson_without_its_rails_says_what_to_mount(host, nvml, gpu):
    found = host.discover(nvml(gpu("GPU-1", name="Orin (nvgpu)")))
    one = next(r for r in found.rejected if r.id == "nvml:GPU-1")
    assert ("neither its energy nor its power" in one.reason, "/sys/devices" in one.fix) == (True, True)


def test_the_counter_is_checked_against_the_power_of_the_same_seconds(host, nvml, gpu):
    one = gpu("GPU-1", energy_mj=0, fields={(POWER_INSTANT, GPU): 100_000})
    api = nvml(one)

    def pass_(seconds):
        host.pass_(seconds)
        one.energy_mj += round(57_000 * seconds)

    counter = CounterTracker(gpus.energy(api, "GPU-1", one, host.clock))
    sensor = SensorTracker(gpus.power(api, "GPU-1", one, host.clock))
    seen = ratio(counter, sensor, 5.0, sleep=pass_, clock=lambda: host.clock() * 1e-9)
    assert seen == pytest.approx(0.57, rel=1e-3)


def test_a_check_in_which_one_side_failed_says_nothing(host, nvml, gpu):
    one = gpu("GPU-1", energy_mj=0, fields={(POWER_INSTANT, GPU): 0})
    api = nvml(one)
    counter = CounterTracker(gpus.energy(api, "GPU-1", one, host.clock))
    sensor = SensorTracker(gpus.power(api, "GPU-1", one, host.clock))
    assert ratio(counter, sensor, 1.0, sleep=host.pass_, clock=lambda: host.clock() * 1e-9) is None


def test_every_counter_of_a_gpu_is_checked_once_beside_its_power(nvml, gpu, caplog):
    class Odd(gpu):
        """Its counter gives 0.57 of what its power adds up to."""

        @property
        def energy_mj(self):
            return time.monotonic() * 0.57 * 300_000

        @energy_mj.setter
        def energy_mj(self, value):
            pass

    odd = Odd("GPU-1", fields={(POWER_INSTANT, GPU): 300_000})
    blind = gpu("GPU-2", energy_mj=1)
    of_module = gpu("GPU-3", energy_mj=1, fields={(POWER_INSTANT, MODULE): 300_000})
    sources, _ = gpus.find(nvml(odd, blind, of_module))
    checks = SelfChecks(pairs(CounterTracker(source) for source in sources), seconds=0.3)
    checks.wait()
    assert checks.ratios() == {"nvml:GPU-1": pytest.approx(0.57, rel=0.02)}
    assert "nvml:GPU-1 says 0.57 times the joules of NVIDIA H100, power now" in caplog.text
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_gpu_that_is_lost_during_the_check_has_no_ratio(nvml, gpu):
    one = gpu("GPU-1", energy_mj=1, fields={(POWER_INSTANT, GPU): 300_000})
    sources, _ = gpus.find(nvml(one))
    found = pairs(CounterTracker(source) for source in sources)
    one.lost = True
    checks = SelfChecks(found, seconds=0.1)
    checks.wait()
    assert checks.ratios() == {}

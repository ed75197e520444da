import os
import tempfile
from pathlib import Path

import pytest

from edge_agent.energy import rapl
from edge_agent.energy.counter import RAIL, Delta, Failed, First, Gap, Reset
from edge_agent.energy.discover import discover
from fleet.domain import Quality


def components(found):
    return {tracker.info.id: (tracker.info.component, tracker.info.rail) for tracker in found.trackers}


def reasons(found, prefix="rapl"):
    return {one.id: one.reason for one in found.rejected if one.id.startswith(prefix)}


def joules(host, found, seconds=1.0, ticks=1):
    """Joules by source over `ticks` of `seconds`, after a first reading."""
    for tracker in found.trackers:
        assert tracker.advance() == First()
    sums = dict.fromkeys((tracker.info.id for tracker in found.trackers), 0.0)
    for _ in range(ticks):
        host.pass_(seconds)
        for tracker in found.trackers:
            sums[tracker.info.id] += tracker.advance().joules
    return sums


def test_the_name_says_what_a_zone_is_and_the_number_does_not(host):
    host.zone("intel-rapl:0", "package-0")
    host.zone("intel-rapl:0:0", "core")
    host.zone("intel-rapl:0:1", "uncore")
    host.zone("intel-rapl:0:2", "dram")
    host.zone("intel-rapl:1", "psys")
    host.zone("intel-rapl:2", "package-1")
    host.zone("intel-rapl:2:0", "accelerator")
    assert components(host.discover()) == {
        "rapl:package-0": ("cpu", None),
        "rapl:package-0/core": (RAIL, "core"),
        "rapl:package-0/uncore": (RAIL, "uncore"),
        "rapl:package-0/dram": ("dram", None),
        "rapl:psys": (RAIL, "psys"),
        "rapl:package-1": ("cpu", None),
        "rapl:package-1/accelerator": (RAIL, "other"),
    }


def test_a_hexadecimal_index_and_a_number_of_two_digits_are_read(host):
    host.zone("intel-rapl:a", "package-10")
    host.zone("intel-rapl:a:0", "dram")
    assert components(host.discover()) == {
        "rapl:package-10": ("cpu", None),
        "rapl:package-10/dram": ("dram", None),
    }


def test_a_package_listed_by_msr_and_by_mmio_is_counted_once_and_the_loser_is_named(host):
    host.zone("intel-rapl:0", "package-0")
    host.zone("intel-rapl:0:0", "dram")
    host.zone("intel-rapl-mmio:0", "package-0")
    host.zone("intel-rapl-mmio:0:0", "dram")
    found = host.discover()
    assert (set(components(found)), reasons(found)) == (
        {"rapl:package-0", "rapl:package-0/dram"},
        {
            "rapl:package-0@intel-rapl-mmio": "package-0 is counted by intel-rapl already",
            "rapl:package-0/dram@intel-rapl-mmio": "dram is counted by intel-rapl already",
        },
    )


def test_mmio_counts_where_the_msr_stands_still(host):
    host.zone("intel-rapl:0", "package-0", watts=0)
    host.zone("intel-rapl-mmio:0", "package-0")
    assert [t.info.detail for t in host.discover().trackers] == ["package-0 of intel-rapl-mmio"]


def test_dies_that_mirror_one_counter_are_counted_once_with_all_that_lies_in_them(host):
    for die in (0, 1):
        host.zone(f"intel-rapl:{die}", f"package-0-die-{die}", uj=68_000_000, watts=68)
        host.zone(f"intel-rapl:{die}:0", "core", uj=5_000_000, watts=30)
    found = host.discover()
    assert (set(joules(host, found)), reasons(found)) == (
        {"rapl:package-0-die-0", "rapl:package-0-die-0/core"},
        {
            "rapl:package-0-die-1": "package-0-die-1 shows the counter of package-0-die-0 once more",
            "rapl:package-0-die-1/core": "package-0-die-1 shows the counter of package-0-die-0 once more",
        },
    )


def test_real_dies_are_both_counted(host):
    host.zone("intel-rapl:0", "package-0-die-0", uj=68_000_000, watts=60)
    host.zone("intel-rapl:1", "package-0-die-1", uj=91_000_000, watts=64)
    assert sum(joules(host, host.discover()).values()) == pytest.approx(124.0)


def test_dies_that_started_alike_and_grow_apart_are_both_counted(host):
    host.zone("intel-rapl:0", "package-0-die-0", uj=1_000, watts=60)
    host.zone("intel-rapl:1", "package-0-die-1", uj=1_000, watts=62)
    assert sum(joules(host, host.discover()).values()) == pytest.approx(122.0)


def test_two_zones_that_wrap_at_different_times_are_each_exact(host):
    host.zone("intel-rapl:0", "package-0", uj=262_143_000_000, watts=95)
    host.zone("intel-rapl:1", "package-1", uj=262_100_000_000, watts=70)
    sums = joules(host, host.discover(), seconds=10, ticks=100)
    assert sums == {
        "rapl:package-0": pytest.approx(95_000, abs=61.1e-6),
        "rapl:package-1": pytest.approx(70_000, abs=61.1e-6),
    }


def test_a_read_error_in_a_window_is_missing_and_the_next_reading_is_no_wrap(host):
    zone = host.zone("intel-rapl:0", "package-0")
    (tracker,) = host.discover().trackers
    seen = [tracker.advance()]
    (zone / "energy_uj").rename(zone / "gone")
    seen.append(tracker.advance())
    (zone / "gone").rename(zone / "energy_uj")
    host.pass_(1.0)
    seen.append(tracker.advance())
    host.pass_(1.0)
    seen.append(tracker.advance())
    assert seen == [First(), Failed("ENOENT"), First(), Delta(pytest.approx(100.0))]


def test_a_counter_that_starts_again_is_a_reset(host):
    zone = host.zone("intel-rapl:0", "package-0", uj=5_000_000_000)
    (tracker,) = host.discover().trackers
    tracker.advance()
    host.pass_(1.0)
    (zone / "energy_uj").write_text("70000\n")
    assert tracker.advance() == Reset()


def test_without_a_range_a_fall_costs_its_interval_and_nothing_else(host):
    zone = host.zone("intel-rapl:0", "package-0", range_uj=None)
    (tracker,) = host.discover().trackers
    tracker.advance()
    host.pass_(1.0)
    (zone / "energy_uj").write_text("70000\n")
    seen = [tracker.advance()]
    host.pass_(1.0)
    assert [*seen, tracker.advance()] == [Reset(), Delta(pytest.approx(100.0))]


def test_readings_must_come_twice_before_a_counter_could_wrap_and_once_a_minute(host):
    host.zone("intel-rapl:0", "package-0", max_power_uw=140_000_000)
    host.zone("intel-rapl:1", "package-1", range_uj=65_532_610_987)
    assert {t.info.id: t.info.max_gap_s for t in host.discover().trackers} == {
        "rapl:package-0": 60.0,
        "rapl:package-1": pytest.approx(65_532.6 / 2000, rel=1e-4),
    }


def test_a_meter_that_slept_too_long_says_so(host):
    host.zone("intel-rapl:0", "package-0")
    (tracker,) = host.discover().trackers
    tracker.advance()
    host.pass_(61.0)
    assert tracker.advance() == Gap(pytest.approx(61.0))


@pytest.mark.parametrize(("uj", "said"), [(0, "is zero"), (123_000_000, "stands still at 123 J")])
def test_a_counter_that_does_not_move_under_load_is_no_counter(host, uj, said):
    host.zone("intel-rapl:0", "package-0", uj=uj, watts=0)
    found = host.discover()
    assert (found.trackers, said in reasons(found)["rapl:package-0"]) == ((), True)


def test_a_graphics_part_at_rest_stays_a_rail(host):
    host.zone("intel-rapl:0", "package-0")
    host.zone("intel-rapl:0:0", "uncore", uj=5_000_000, watts=0)
    assert "rapl:package-0/uncore" in components(host.discover())


def test_energy_that_a_hypervisor_makes_up_is_derived(host):
    (host.proc / "cpuinfo").write_text("vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor vmx\n")
    host.zone("intel-rapl:0", "package-0")
    (tracker,) = host.discover().trackers
    assert (tracker.info.quality, "virtual" in tracker.info.detail) == (Quality.DERIVED, True)


def test_this_machines_processor_says_nothing_of_a_tree_that_is_not_its_own(host, monkeypatch):
    host.zone("intel-rapl:0", "package-0")
    monkeypatch.setattr(rapl, "_of_kernel", lambda path: path.is_relative_to(host.proc))
    (host.proc / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\nflags\t\t: hypervisor\n")
    (tracker,) = host.discover().trackers
    assert (tracker.info.quality, tracker.info.detail) == (Quality.MEASURED, "package-0 of intel-rapl")


def test_the_running_kernels_trees_are_told_from_copies(host):
    assert [rapl._of_kernel(Path(path)) for path in ("/proc/cpuinfo", "/sys/class", host.sys)] == [
        True,
        True,
        False,
    ]


def test_a_counter_only_root_may_read_is_rejected_with_what_to_paste():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        zone = Path(folder) / "class/powercap/intel-rapl:0"
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n")
        (zone / "energy_uj").write_text("1\n")
        (zone / "energy_uj").chmod(0o200)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            (one,) = [r for r in discover(Path(folder), Path("/proc"), None).rejected if r.id.startswith("rapl")]
        finally:
            os.seteuid(was)
    said = "permission denied (mode 0200)" in one.reason, "chmod 0440" in one.fix, "up -d meter" in one.fix
    assert said == (True, True, True)


def test_powercap_that_the_container_engine_hides_is_told_from_none(host):
    listed = host.sys / "class/powercap"
    listed.mkdir(parents=True)
    (listed / "intel-rapl").symlink_to("../../devices/virtual/powercap/intel-rapl")
    (listed / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    (host.sys / "devices/virtual/powercap").mkdir(parents=True)
    (one,) = [r for r in host.discover().rejected if r.id == "rapl"]
    assert ("hides" in one.reason, "/sys/devices:/host/sys/devices:ro" in one.fix) == (True, True)


def test_the_mounts_that_the_fix_names_are_enough(host, tmp_path):
    """Only class and devices of the host's sysfs, under another root: the relative links resolve there."""
    host.zone("intel-rapl:0", "package-0")
    mounted = tmp_path / "host/sys"
    mounted.mkdir(parents=True)
    for part in ("class", "devices"):
        (host.sys / part).rename(mounted / part)
    host.powercap.watts = {mounted / path.relative_to(host.sys): w for path, w in host.powercap.watts.items()}
    host.sys = mounted
    assert set(components(host.discover())) == {"rapl:package-0"}


def test_an_empty_host_has_no_source_and_a_reason_for_each_kind(host):
    found = host.discover()
    assert (found.trackers, [one.id for one in found.rejected]) == ((), ["rapl", "ina3221", "battery"])


def test_a_driver_without_zones_says_so(host):
    (host.sys / "devices/virtual/powercap/intel-rapl").mkdir(parents=True)
    (host.sys / "class/powercap").mkdir(parents=True)
    (host.sys / "class/powercap/intel-rapl").symlink_to("../../devices/virtual/powercap/intel-rapl")
    assert "found no domain" in reasons(host.discover())["rapl"]


def test_a_zone_that_holds_no_number_is_rejected_by_name(host):
    host.zone("intel-rapl:0", "package-0", uj="many")
    assert reasons(host.discover())["rapl:package-0"].endswith("energy_uj cannot be read: garbled")


def test_two_zones_of_one_name_have_two_ids(host):
    host.zone("intel-rapl:0", "package-0", uj=1_000_000, watts=50)
    host.zone("intel-rapl:3", "package-0", uj=900_000_000, watts=70)
    assert set(components(host.discover())) == {"rapl:package-0", "rapl:package-0#3"}


def test_a_copy_of_a_tree_lists_its_counters_though_nothing_advances_them(host):
    host.zone("intel-rapl:0", "package-0", uj=5_000_000, watts=0)
    host.zone("intel-rapl:0:0", "dram", uj=0, watts=0)
    found = discover(host.sys, host.proc, None)
    assert ([t.source.read().value for t in found.trackers], list(reasons(found))) == (
        [5.0],
        ["rapl:package-0/dram"],
    )

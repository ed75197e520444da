from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.energy import (
    PACKAGE,
    RAIL,
    SCOPES,
    EnergyReading,
    Quality,
    choose,
    over_devices,
    scope_in_host,
    technique,
    total,
)

SOURCES = [
    ("rapl:package-0", "cpu", PACKAGE),
    ("rapl:package-1", "cpu", PACKAGE),
    ("rapl:dram-0", "dram", PACKAGE),
    ("nvml_energy:GPU-a", "gpu", PACKAGE),
    ("nvml_energy:GPU-b", "gpu", PACKAGE),
    ("nvml_power:GPU-a", "gpu", PACKAGE),
    ("rapl:package-0/core", RAIL, PACKAGE),
    ("ina3221:VDD_IN", "board", "module"),
    ("ina3221:VDD_CPU", RAIL, "module"),
    ("battery", "board", "board"),
    ("model", "cpu", "board"),
    ("plug:shelly", "wall", "wall"),
    ("nvml:GPU-c", "gpu", "board"),
    ("odd", "cpu", "rack"),
]
readings = st.builds(
    lambda source, quality, joules: EnergyReading(*source, quality, joules),
    st.sampled_from(SOURCES),
    st.sampled_from(Quality),
    st.none() | st.floats(0, 1e6),
)
windows = st.lists(st.lists(readings, max_size=8, unique_by=lambda r: (r.source, r.quality)), max_size=5)


def measured(source, joules=1.0, quality=Quality.MEASURED):
    component, scope = next((c, s) for name, c, s in SOURCES if name == source)
    return EnergyReading(source, component, scope, quality, joules)


def counted(windows, choice):
    return [r for w in windows for r in w if choice.counts(r)]


@given(windows)
def test_no_total_ever_holds_two_scopes_two_qualities_or_a_rail(windows):
    for quality, choice in choose(windows).items():
        mine = counted(windows, choice)
        assert {(r.quality, scope_in_host(r)) for r in mine} == {(quality, choice.scope)}
        assert RAIL not in {r.component for r in mine}


@given(windows)
def test_no_total_ever_counts_a_component_by_two_techniques(windows):
    for choice in choose(windows).values():
        by_component = {}
        for r in counted(windows, choice):
            by_component.setdefault(r.component, set()).add(technique(r.source))
        assert all(len(found) == 1 for found in by_component.values())


@given(windows)
def test_only_at_package_scope_are_components_added(windows):
    for choice in choose(windows).values():
        assert choice.scope == PACKAGE or len({r.component for r in counted(windows, choice)}) == 1


@given(windows)
def test_a_total_is_the_sum_of_the_readings_it_names(windows):
    for choice in choose(windows).values():
        found = total(windows, choice)
        known = [r.joules for r in counted(windows, choice) if r.joules is not None]
        assert found.joules == (fsum(known) if known else None)


@given(windows)
def test_a_total_that_misses_nothing_has_every_source_in_every_window(windows):
    for choice in choose(windows).values():
        if total(windows, choice).missing == 0:
            assert all(
                {r.source for r in w if choice.counts(r) and r.joules is not None}
                == set(total(windows, choice).sources)
                for w in windows
            )


@given(st.lists(windows, max_size=3))
def test_over_devices_qualities_and_scopes_stay_apart(devices):
    totals = [total(w, c) for w in devices for c in choose(w).values()]
    for added in over_devices(totals):
        same = [t.joules for t in totals if (t.quality, t.scope) == (added.quality, added.scope)]
        assert (added.joules or 0.0) == pytest.approx(fsum(j or 0.0 for j in same))
    keys = [(t.quality, t.scope) for t in over_devices(totals)]
    assert len(set(keys)) == len(keys)


def chosen(*windows, quality=Quality.MEASURED):
    choice = choose(windows)[quality]
    found = total(windows, choice)
    return found.scope, found.sources, found.joules


def test_processor_memory_and_gpus_are_added():
    window = [
        measured(s)
        for s in ("rapl:package-0", "rapl:package-1", "rapl:dram-0", "nvml_energy:GPU-a", "nvml_energy:GPU-b")
    ]
    assert chosen(window)[2] == 5.0


def test_a_graphics_card_is_a_part_of_its_host_though_its_meter_covers_the_whole_card():
    assert chosen([measured("nvml:GPU-c", 5.0), measured("rapl:package-0", 2.0)]) == (
        PACKAGE,
        ("nvml:GPU-c", "rapl:package-0"),
        7.0,
    )


def test_a_graphics_card_is_never_added_to_the_board_or_the_wall_that_holds_it():
    for outer in ("battery", "plug:shelly"):
        assert chosen([measured("nvml:GPU-c", 5.0), measured(outer, 9.0)])[1:] == ((outer,), 9.0)


def test_a_gpu_read_by_counter_and_by_power_counts_once():
    window = [measured("nvml_power:GPU-a", 3.0), measured("nvml_energy:GPU-a", 2.0)]
    assert chosen(window) == (PACKAGE, ("nvml_energy:GPU-a",), 2.0)


def test_the_technique_that_gave_more_windows_counts():
    first = [measured("nvml_power:GPU-a", 3.0), measured("nvml_energy:GPU-a", None)]
    second = [measured("nvml_power:GPU-a", 3.0), measured("nvml_energy:GPU-a", 2.0)]
    assert chosen(first, second) == (PACKAGE, ("nvml_power:GPU-a",), 6.0)


def test_the_widest_scope_is_taken_where_all_are_whole():
    window = [measured("rapl:package-0", 2.0), measured("ina3221:VDD_IN", 5.0), measured("plug:shelly", 9.0)]
    assert chosen(window) == ("wall", ("plug:shelly",), 9.0)


def test_a_narrower_scope_without_holes_is_taken_before_a_wider_one_with_them():
    windows = (
        [measured("rapl:package-0", 2.0), measured("plug:shelly", None)],
        [measured("rapl:package-0", 2.0), measured("plug:shelly", 9.0)],
    )
    assert chosen(*windows) == (PACKAGE, ("rapl:package-0",), 4.0)


def test_memory_that_was_not_read_in_a_window_leaves_a_hole():
    windows = [
        [measured("rapl:package-0"), measured("rapl:dram-0", None)],
        [measured("rapl:package-0"), measured("rapl:dram-0")],
    ]
    found = total(windows, choose(windows)[Quality.MEASURED])
    assert (found.joules, found.missing) == (3.0, 1)


def test_an_estimate_beside_a_measurement_is_a_total_of_its_own():
    window = [measured("rapl:package-0", 2.0), measured("model", 7.0, Quality.ESTIMATED)]
    found = {q: total([window], c).joules for q, c in choose([window]).items()}
    assert found == {Quality.MEASURED: 2.0, Quality.ESTIMATED: 7.0}


def test_the_scopes_lie_in_each_other_from_the_wall_to_the_package():
    assert SCOPES == ("wall", "board", "module", "package")

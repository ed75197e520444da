import errno

import pytest

from edge_agent.energy import ina, jetson
from edge_agent.energy.counter import RAIL, Delta, Failed, First

ORIN_NANO = ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]


def shown(found):
    """By id: component, scope, rail."""
    return {t.info.id: (t.info.component, t.info.scope, t.info.rail) for t in found.trackers}


def watts(found):
    """What each source reads now."""
    return {t.info.id: pytest.approx(t.source.read().value) for t in found.trackers}


def test_the_input_rail_is_the_total_and_the_others_are_rails(host):
    host.ina3221(ORIN_NANO)
    assert shown(host.discover()) == {
        "ina3221:1-0040/VDD_IN": ("board", "module", None),
        "ina3221:1-0040/VDD_CPU_GPU_CV": (RAIL, "module", "VDD_CPU_GPU_CV"),
        "ina3221:1-0040/VDD_SOC": (RAIL, "module", "VDD_SOC"),
    }


def test_power_is_voltage_times_current(host):
    host.ina3221(ORIN_NANO, millivolts=4968, milliamperes=(1040, 400, 200))
    assert watts(host.discover())["ina3221:1-0040/VDD_IN"] == 4968 * 1040 * 1e-6


def test_an_agx_orin_is_three_rails_added_and_the_one_behind_them_left_out(host):
    host.ina3221(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], millivolts=10_000, milliamperes=(800, 400, 300))
    host.ina3221(["NC", "VDDQ_VDD2_1V8AO", "NC"], address="1-0041", number=1)
    found = host.discover()
    total = found.trackers[0]
    assert (total.info.id, total.info.detail, total.source.read().value, len(found.trackers)) == (
        "ina3221:total",
        "Jetson AGX Orin: VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
        pytest.approx(15.0),
        5,
    )


def test_a_thor_is_measured_at_the_input_of_its_carrier(host):
    host.ina3221(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"])
    host.ina238(23_000_000)
    total = host.discover().trackers[0]
    assert (total.info.id, total.info.kind, total.info.component, total.info.scope, total.source.read().value) == (
        "ina238:1-0044/VIN",
        "ina238",
        "board",
        "board",
        pytest.approx(23.0),
    )


def test_the_driver_of_jetpack_4_is_read_in_milliwatts(host):
    host.iio([("POM_5V_IN", 3210), ("POM_5V_GPU", 120), ("POM_5V_CPU", 640)])
    found = host.discover()
    assert (found.trackers[0].info.component, watts(found)) == (
        "board",
        {"ina3221:6-0040/POM_5V_IN": 3.21, "ina3221:6-0040/POM_5V_GPU": 0.12, "ina3221:6-0040/POM_5V_CPU": 0.64},
    )


def test_an_unknown_board_shows_its_rails_and_has_no_total(host):
    host.ina3221(["VDD_A", "VDD_B", "VIN_SYS_5V0"])
    found = host.discover()
    assert ({t.info.component for t in found.trackers}, [r.id for r in found.rejected if "total" in r.id]) == (
        {RAIL},
        ["ina3221:total"],
    )


def test_an_unknown_board_with_an_input_rail_has_that_as_its_total(host):
    host.ina3221(["VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"], address="0-0041")
    host.ina3221(["VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"], address="0-0040", number=1)
    found = host.discover()
    assert [t.info.id for t in found.trackers if t.info.component == "board"] == ["ina3221:0-0041/VDD_IN"]


def test_sums_shunt_voltages_and_unwired_channels_are_no_rails(host):
    host.ina3221(["VDD_X", "NC", "VDD_Y"])
    assert set(shown(host.discover())) == {"ina3221:1-0040/VDD_X", "ina3221:1-0040/VDD_Y"}


def test_a_disabled_channel_is_skipped_and_a_broken_one_is_named(host, monkeypatch):
    path = host.ina3221(["VDD_X", "VDD_Y", "VDD_Z"])
    (path / "in1_enable").write_text("0\n")

    def number(file):
        if file.name in ("in2_input", "in3_input"):
            raise OSError(errno.ENODATA if file.name == "in2_input" else errno.EIO, "no")
        return int(file.read_text())

    monkeypatch.setattr(ina, "number", number)
    found = host.discover()
    assert (found.trackers, [r.reason for r in found.rejected if "VDD" in r.id]) == (
        (),
        ["VDD_Z cannot be read: EIO"],
    )


def test_a_channel_is_the_same_when_hwmon_is_numbered_anew(tmp_path, host):
    host.ina3221(ORIN_NANO, number=0)
    again = type(host)(tmp_path / "after a boot")
    again.ina3221(ORIN_NANO, number=7)
    assert shown(host.discover()) == shown(again.discover())


def test_a_chip_found_by_class_and_by_driver_is_one_chip(host):
    path = host.ina3221(ORIN_NANO)
    driver = host.sys / "bus/i2c/drivers/ina3221"
    driver.mkdir(parents=True)
    (driver / "1-0040").symlink_to(path.parents[1])
    assert len(host.discover().trackers) == 3


def test_current_below_zero_at_rest_stays_below_zero_in_the_integral(host):
    path = host.ina3221(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"], milliamperes=(-80, 100, 100))
    tracker = next(t for t in host.discover().trackers if t.info.rail == "VDD_GPU")
    host.pass_(0.1)
    seen = [tracker.advance()]
    for milliamperes in (-80, 120):
        host.pass_(0.5)
        (path / "curr1_input").write_text(f"{milliamperes}\n")
        seen.append(tracker.advance())
    assert seen == [First(), Delta(pytest.approx(-0.2)), Delta(pytest.approx(0.05))]


def test_a_chip_is_not_asked_more_often_than_it_converts(host):
    path = host.ina3221(ORIN_NANO)
    (path / "update_interval").write_text("140\n")
    total = host.discover().trackers[0]
    first = total.source.read()
    (path / "curr1_input").write_text("900\n")
    host.pass_(0.1)
    held = total.source.read()
    host.pass_(0.1)
    assert (held, total.source.read().value) == (first, pytest.approx(4.5))


def test_a_total_of_which_one_rail_fails_fails(host):
    host.ina3221(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"])
    path = (
        host.ina3221(["NC", "VDDQ_VDD2_1V8AO", "NC"], address="1-0041", number=1).parents[2]
        / "1-0040/hwmon/hwmon0"
    )
    total = host.discover().trackers[0]
    host.pass_(1.0)
    (path / "curr2_input").unlink()
    assert (total.info.id, total.advance()) == ("ina3221:total", Failed("ENOENT"))


def test_every_board_adds_up_rails_it_has_and_names_who_says_so():
    wrong = [
        board.name
        for board in jetson.boards()
        if not (
            set(board.total) <= board.rails and board.scope in ("module", "board") and board.source.startswith("[")
        )
    ]
    assert wrong == []

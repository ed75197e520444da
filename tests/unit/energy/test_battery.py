import pytest

from edge_agent.energy.counter import Delta, Failed, First


def only(found):
    (tracker,) = found.trackers
    return tracker


def why(found):
    return next(one.reason for one in found.rejected if one.id == "battery")


def test_a_discharging_battery_gives_the_power_of_the_whole_device(host):
    host.battery(status="Discharging", power_now=12_500_000)
    tracker = only(host.discover())
    seen = [tracker.advance()]
    host.pass_(2.0)
    assert (tracker.info.component, tracker.info.scope, [*seen, tracker.advance()]) == (
        "board",
        "board",
        [First(), Delta(pytest.approx(25.0))],
    )


def test_power_is_current_times_voltage_where_the_driver_gives_those_whatever_its_sign(host):
    host.battery(status="Discharging", current_now=-1_200_000, voltage_now=11_400_000)
    assert only(host.discover()).source.read().value == pytest.approx(13.68)


def test_batteries_that_empty_one_after_the_other_are_one_source(host):
    host.battery("BAT0", status="Not charging", power_now=0)
    host.battery("BAT1", status="Discharging", power_now=9_000_000)
    assert only(host.discover()).source.read().value == pytest.approx(9.0)


def test_a_battery_that_charges_says_nothing_of_the_device(host):
    host.battery(status="Charging", power_now=30_000_000)
    found = host.discover()
    assert (found.trackers, why(found)) == ((), "BAT0 is Charging")


def test_a_charger_plugged_in_later_fails_the_readings(host):
    path = host.battery(status="Discharging", power_now=9_000_000)
    tracker = only(host.discover())
    (path / "status").write_text("Charging\n")
    assert tracker.advance() == Failed("not_discharging")


def test_the_battery_of_a_mouse_and_a_usb_port_are_not_the_device(host):
    host.battery("hidpp_battery_0", scope="Device", status="Discharging", power_now=1)
    host.battery("ucsi-source-psy-USBC000:001", status="Discharging", power_now=1)
    host.battery("AC", type="Mains")
    assert why(host.discover()) == "no battery"


def test_one_battery_that_charges_makes_the_other_say_nothing(host):
    host.battery("BAT0", status="Charging", power_now=20_000_000)
    host.battery("BAT1", status="Discharging", power_now=9_000_000)
    assert why(host.discover()) == "BAT0 is Charging, BAT1 is Discharging"

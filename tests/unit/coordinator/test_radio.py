from coordinator.radio import with_radio
from fleet.domain import EnergyReading, LinkInfo, Phase, PhaseReport, Quality
from fleet.energy import choose, total

CPU = EnergyReading("model", "cpu", "wall", Quality.ESTIMATED, 12.0)
PHASES = tuple(PhaseReport(phase, 4.0, 1, (CPU,)) for phase in (Phase.DOWNLOAD, Phase.TRAIN, Phase.UPLOAD))


def link(trace="constant", transmit_watts=1.0, receive_watts=0.5):
    by = ("relay", "relay", "relay")
    return LinkInfo(1e6, 4e6, 0.0, 0.0, 0.0, *by, trace, transmit_watts, receive_watts)


def radio(phases):
    return {p.phase.value: [r.joules for r in p.readings if r.component == "radio"] for p in phases}


def test_a_radio_spends_its_watts_for_as_long_as_the_rate_takes_to_carry_the_bytes():
    found = radio(with_radio(PHASES, link(), up_bytes=250_000, down_bytes=250_000))
    assert found == {"download": [0.5 * 0.5], "train": [], "upload": [1.0 * 2.0]}


def test_on_a_link_that_follows_a_trace_the_whole_phase_is_on_the_air():
    found = radio(with_radio(PHASES, link("rayleigh:distance_m=900", 0.1, None), 250_000, 250_000))
    assert found == {"download": [], "train": [], "upload": [0.1 * 4.0]}


def test_without_a_modelled_radio_the_ledger_is_as_it_was():
    assert with_radio(PHASES, None, 1, 1) == with_radio(PHASES, link("constant", None, None), 1, 1) == PHASES


def test_a_modelled_radio_is_a_row_of_its_own_and_part_of_no_total():
    windows = [p.readings for p in with_radio(PHASES, link(), 250_000, 250_000)]
    joules = {quality: total(windows, choice).joules for quality, choice in choose(windows).items()}
    assert joules == {Quality.ESTIMATED: 36.0}

from dataclasses import replace

import numpy as np
import pytest

from fleet.domain import EnergyReading, LeverInfo, LeverOutcome, Origin, Phase, PhaseReport, Prediction, Quality
from optimizer.fitting import Choice, FleetFit, Job, Known, Setting
from optimizer.fitting.robust import line, present
from optimizer.policy import Decision, load

FP32, BF16, HALF = Setting(1.0, "fp32"), Setting(1.0, "bf16"), Setting(0.5, "fp32")


def decision(device, setting=FP32, steps=20, bits=8):
    return Decision(
        device, bits, 32, setting.precision, setting.width, steps, Prediction(None, None),
        frequency_hz=setting.frequency_hz,
    )  # fmt: skip


def choice(setting=FP32, steps=20, bits=8):
    return Choice(setting, steps, bits, 32)


def run_rounds(device, what, fits=None, run="r", begin=1):
    """Tells of one round after the other, and gives how far each was predicted: (joules, seconds), relative."""
    fits, errors = fits or FleetFit(), []
    for round, d in enumerate(what, start=begin):
        said = fits.cost(
            device.candidate, choice(Setting(d.width, d.precision, d.frequency_hz), d.train_steps, d.bits_up)
        )
        told = device.told(d, round, run)
        seconds = sum(p.seconds for p in told.phases)
        joules = sum(r.joules for p in told.phases for r in p.readings)
        known = said.joules is not None and said.seconds is not None
        errors.append((abs(said.joules / joules - 1), abs(said.seconds / seconds - 1)) if known else (None, None))
        fits.add(told)
    return fits, errors


def test_from_the_third_round_on_the_median_error_is_a_few_per_cent(simulated):
    device = simulated(noise=0.05, warm_up_s=6.0)
    _, errors = run_rounds(device, [decision("a")] * 10)
    assert np.median(np.array(errors[2:], float), axis=0).max() < 0.08


def test_unlike_settings_round_by_round_are_told_apart(simulated):
    device = simulated()
    what = [
        decision("a", s, n, b)
        for s, n, b in zip([FP32, HALF, BF16] * 5, [20, 30] * 8, [4, 8, 16] * 5, strict=False)
    ]
    _, errors = run_rounds(device, what)
    assert np.median(np.array(errors[4:], float), axis=0).max() < 0.05


@pytest.mark.parametrize("pooled", [True, False])
def test_what_one_device_found_about_a_setting_says_what_it_costs_another(simulated, pooled):
    devices = [
        simulated(device=name, step_s=s, power=1.0, bf16=1.5)
        for name, s in zip("abcd", [0.1, 0.2, 0.3, 0.4], strict=True)
    ]
    fits, round = FleetFit(), 0
    for setting in (FP32, HALF, BF16) * 2:
        round += 1
        for device in devices[:3]:
            fits.add(device.told(decision(device.device, setting), round))
    for _ in range(3):
        round += 1
        fits.add(devices[3].told(decision("d"), round))
    if pooled:
        fits.meet([d.candidate for d in devices])
    errors = []
    for setting in (HALF, BF16):
        made = decision("d", setting)
        truth = sum(devices[3].seconds(made).values())
        choice = Choice(Setting(made.width, made.precision), made.train_steps, made.bits_up, made.bits_down)
        errors.append(abs(fits.predict(devices[3].candidate, choice).seconds / truth - 1))
    assert (max(errors) < 0.05) is pooled


def test_a_fleet_that_draws_its_settings_is_predicted_from_the_third_round_on(simulated):
    menu = {"bits_up": [4, 8], "precisions": ["fp32", "bf16"], "widths": [0.5, 1.0], "train_steps": [5, 20]}
    policy = load("random", {"seed": 3, "bits_down": 32, "menu": menu})
    devices = [
        simulated(device=name, step_s=s, power=1.2, bf16=1.6, up_bps=1e9, down_bps=1e9, noise=0.05, warm_up_s=2.0)
        for name, s in zip("abcd", [0.03, 0.05, 0.1, 0.2], strict=True)
    ]
    errors = []
    for round in range(1, 9):
        made = policy.ask(round, [d.candidate for d in devices])
        for device, d in zip(devices, made, strict=True):
            told = device.told(d, round)
            if round >= 3:
                took = sum(p.seconds for p in told.phases), sum(p.readings[0].joules for p in told.phases)
                errors.append([abs(took[0] / d.predicted.seconds - 1), abs(took[1] / d.predicted.joules - 1)])
            policy.tell(told)
    assert np.median(errors, axis=0).max() < 0.1


def test_a_device_that_becomes_half_as_fast_is_predicted_right_after_two_rounds(simulated):
    device = simulated()
    fits, _ = run_rounds(device, [decision("a")] * 8)
    device.step_s, device.overhead_s = 2 * device.step_s, 2 * device.overhead_s
    _, errors = run_rounds(device, [decision("a")] * 4, fits, begin=9)
    assert errors[0][1] > 0.3
    assert max(max(e) for e in errors[2:]) < 0.08


def test_it_is_noticed_while_settings_change_from_round_to_round(simulated):
    device = simulated()
    mixed = [decision("a", s) for s in [FP32, HALF] * 5]
    fits, _ = run_rounds(device, mixed)
    device.step_s, device.overhead_s = 2 * device.step_s, 2 * device.overhead_s
    _, errors = run_rounds(device, mixed[:5], fits, begin=11)
    assert max(max(e) for e in errors[2:]) < 0.1


def test_a_link_that_becomes_half_as_fast_is_noticed_too(simulated):
    device = simulated(step_s=0.01)
    fits, _ = run_rounds(device, [decision("a")] * 6)
    device.up_bps, device.down_bps = device.up_bps / 2, device.down_bps / 2
    _, errors = run_rounds(device, [decision("a")] * 4, fits, begin=7)
    assert max(max(e) for e in errors[2:]) < 0.1


def test_one_odd_round_moves_nothing(simulated):
    device = simulated()
    fits, _ = run_rounds(device, [decision("a")] * 5)
    before = fits.cost(device.candidate, choice()).seconds
    odd = replace(device, step_s=10.0)
    fits.add(odd.told(decision("a"), 6))
    assert fits.cost(device.candidate, choice()).seconds == pytest.approx(before, rel=0.03)


def test_what_an_assignment_costs_however_little_it_does_is_seen_once_the_steps_differ(simulated):
    device = simulated(noise=0.0, overhead_s=2.0)
    fits, _ = run_rounds(device, [decision("a", steps=n) for n in (5, 10, 20, 40, 10)])
    assert fits.device(device.candidate).train_seconds.fixed == pytest.approx(2.0, rel=0.1)
    assert fits.cost(device.candidate, choice(steps=100)).of(Phase.TRAIN).seconds == pytest.approx(22.0, rel=0.03)


def test_the_rate_of_the_link_is_that_of_bytes_sent(simulated):
    device = simulated(noise=0.0)
    fits, _ = run_rounds(device, [decision("a", bits=b) for b in (4, 8, 16, 4, 8)])
    at_32 = fits.cost(device.candidate, choice(bits=32)).of(Phase.UPLOAD).seconds
    assert at_32 == pytest.approx(0.1 + 500_000 * 32 / device.up_bps, rel=0.01)


def test_before_any_round_a_calibration_gives_the_numbers(simulated):
    device = simulated().calibrated()
    said = FleetFit().cost(device.candidate, choice(HALF))
    assert {p.known for p in said.phases} == {Known.CALIBRATED}
    truth = 20 * 0.2 * 0.5**1.6 * 5.0
    assert said.of(Phase.TRAIN).joules == pytest.approx(truth)
    assert (said.prediction().origin, said.prediction().samples) == (Origin.FITTED, 5)


def test_a_calibration_off_by_half_still_says_how_settings_compare(simulated):
    device = simulated(overhead_s=0.0).calibrated(scale=1.5)
    fits, _ = run_rounds(device, [decision("a")] * 4)
    said = fits.cost(device.candidate, choice(BF16)).of(Phase.TRAIN)
    assert said.seconds == pytest.approx(20 * 0.2 * 0.7, rel=0.05)
    assert (said.known, said.samples) == (Known.CALIBRATED, 0)


def test_without_any_data_a_kind_knows_its_link_and_its_watts_and_a_step_only_by_its_operations(simulated):
    device = simulated()
    blind = FleetFit().cost(device.candidate, choice())
    told_size = FleetFit(Job(500_000, 2e9)).cost(device.candidate, choice())
    assert (blind.seconds, blind.prediction().joules, blind.prediction().origin) == (None, None, Origin.PRESET)
    assert told_size.of(Phase.UPLOAD).seconds == pytest.approx(500_000 * 8 / 40e6)
    assert told_size.of(Phase.TRAIN).seconds == pytest.approx(20 * 2e9 / (4e9 * 0.5))
    assert (told_size.kind, told_size.prediction().samples) == ((Quality.ESTIMATED, "wall"), 0)


def test_a_kind_that_nobody_described_has_no_preset(simulated):
    device = simulated(kind="an-unknown-board")
    assert FleetFit(Job(500_000, 2e9)).cost(device.candidate, choice()).joules is None


def test_joules_of_two_qualities_are_never_mixed(simulated):
    device, fits = simulated(noise=0.0), FleetFit()
    for round in range(1, 6):
        told = device.told(decision("a"), round)
        rapl = ("rapl:package-0", "cpu", "package", Quality.MEASURED)
        phases = tuple(
            replace(p, readings=(*p.readings, EnergyReading(*rapl, 2.0 * p.seconds))) for p in told.phases
        )
        fits.add(replace(told, phases=phases))
    said = fits.cost(device.candidate, choice())
    assert (said.prediction().quality, said.prediction().scope) == (Quality.MEASURED, "package")
    assert said.joules == pytest.approx(2.0 * said.seconds)


def test_a_meter_that_fails_in_most_rounds_leaves_the_estimate(simulated):
    device, fits = simulated(noise=0.0), FleetFit()
    for round in range(1, 7):
        told = device.told(decision("a"), round)
        joules = 2.0 if round == 3 else None
        rapl = EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, joules)
        fits.add(replace(told, phases=tuple(replace(p, readings=(*p.readings, rapl)) for p in told.phases)))
    assert fits.cost(device.candidate, choice()).prediction().quality is Quality.ESTIMATED


def test_a_kinds_estimate_does_not_fill_a_hole_among_measured_joules(simulated):
    device, fits = simulated(noise=0.0), FleetFit(Job(500_000, 2e9))
    for round in range(1, 5):
        told = device.told(decision("a"), round)
        rapl = EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, 2.0)
        whole = tuple(replace(p, readings=(rapl,)) for p in told.phases if p.phase is not Phase.UPLOAD)
        fits.add(replace(told, phases=whole))
    assert fits.cost(device.candidate, choice()).joules is None


def test_a_repeated_upload_teaches_nothing_about_the_link(simulated):
    device = simulated(noise=0.0)
    fits, _ = run_rounds(device, [decision("a")] * 3)
    before = fits.cost(device.candidate, choice()).of(Phase.UPLOAD)
    told = device.told(decision("a"), 4)
    again = tuple(replace(p, windows=2, seconds=50.0) if p.phase is Phase.UPLOAD else p for p in told.phases)
    fits.add(replace(told, phases=again))
    assert fits.cost(device.candidate, choice()).of(Phase.UPLOAD) == before


def test_the_first_assignment_of_every_run_is_left_out_once_there_are_others(simulated):
    device, fits = simulated(noise=0.0, warm_up_s=30.0), FleetFit()
    for run in ("r1", "r2"):
        device.done = 0
        run_rounds(device, [decision("a")] * 3, fits, run)
    assert fits.cost(device.candidate, choice()).seconds == pytest.approx(
        sum(device.seconds(decision("a")).values())
    )


def test_a_warm_up_says_less_than_a_calibration(simulated):
    device = simulated(noise=0.0, overhead_s=0.0, warm_up_s=30.0).calibrated()
    fits, _ = run_rounds(device, [decision("a")])
    assert fits.cost(device.candidate, choice()).of(Phase.TRAIN).seconds == pytest.approx(4.0)


def test_a_first_assignment_that_took_no_more_than_expected_counts(simulated):
    device = simulated(noise=0.0, overhead_s=0.0).calibrated()
    fits, _ = run_rounds(device, [decision("a")])
    assert fits.cost(device.candidate, choice()).of(Phase.TRAIN).known is Known.FITTED


def test_what_a_width_costs_at_one_precision_is_learned_for_the_other(simulated):
    device = simulated(noise=0.01, overhead_s=0.0, power=0.2)  # the law says 2
    fits, _ = run_rounds(device, [decision("a", s) for s in (FP32, HALF, FP32, HALF, BF16)])
    said = fits.cost(device.candidate, choice(Setting(0.5, "bf16"))).of(Phase.TRAIN)
    assert said.seconds == pytest.approx(20 * 0.2 * 0.7 * 0.5**0.2, rel=0.15)


def test_a_few_steps_are_told_from_many_and_many_from_a_few(simulated):
    device = simulated(noise=0.05, overhead_s=0.05)
    fits, _ = run_rounds(device, [decision("a", steps=n) for n in (15, 30, 15, 30, 30)])
    truth = sum(device.seconds(decision("a", steps=1)).values())
    assert fits.cost(device.candidate, choice(steps=1)).seconds == pytest.approx(truth, rel=0.25)
    fits, errors = run_rounds(device, [decision("a", steps=1)] * 4, fits, begin=6)
    assert max(max(e) for e in errors[2:]) < 0.15


def test_rounds_told_out_of_order_give_the_same_fit(simulated):
    device = simulated()
    tolds = [device.told(decision("a", steps=n), round) for round, n in enumerate((5, 10, 20, 40), start=1)]
    said = []
    for order in (tolds, [tolds[0], tolds[2], tolds[3], tolds[1]]):
        fits = FleetFit()
        for told in order:
            fits.add(told)
        said.append(fits.cost(device.candidate, choice()))
    assert said[0] == said[1]


CLOCK = LeverInfo("cpufreq", "Hz", 0.5e9, 2e9)


def test_before_a_clock_was_tried_dynamic_joules_go_with_its_square(simulated):
    device = simulated(levers=(CLOCK,), watts=10.0).calibrated()
    device.rests_at(4.0)
    fits = FleetFit()
    full, half = (
        fits.cost(device.candidate, choice(Setting(1.0, "fp32", f))).of(Phase.TRAIN) for f in (None, 1e9)
    )
    assert half.seconds == pytest.approx(2 * full.seconds)
    idle_joules = 4.0 * full.seconds
    assert half.joules == pytest.approx((full.joules - idle_joules) / 4 + 2 * idle_joules)


def test_a_clock_that_was_refused_counts_as_left_alone(simulated):
    device, fits = simulated(noise=0.0, levers=(CLOCK,)), FleetFit()
    told = device.told(decision("a"), 1)
    refused = (LeverOutcome("cpufreq", 1e9, None, "not allowed"),)
    phases = tuple(replace(p, levers=refused) if p.phase is Phase.TRAIN else p for p in told.phases)
    fits.add(replace(told, assignment=replace(told.assignment, frequency_hz=1e9), phases=phases))
    assert fits.cost(device.candidate, choice()).of(Phase.TRAIN).samples == 1


def test_quality_by_bits_is_fitted_over_the_runs_that_were_told(simulated, fid):
    device, fits = simulated(), FleetFit()
    for bits in (2, 3, 4, 6, 8, 16):
        value = 50.0 + 800.0 * 4.0**-bits
        fits.add(device.told(decision("a", bits=bits), 1, f"run-{bits}", metrics=(fid(900.0),)))
        fits.add(device.told(decision("a", bits=bits), 2, f"run-{bits}", metrics=(fid(value),)))
    found = fits.quality("fid")
    assert (found.best, found.at(5)) == (pytest.approx(50.0, rel=0.01), pytest.approx(50.0 + 800 / 4**5, rel=0.01))
    assert (found.samples, fits.quality("loss")) == (6, None)


def test_a_change_takes_two_rounds_in_one_direction():
    up = float(np.log(2))
    assert present([0.0, 0.01, -0.01, up, up]) == 3
    assert present([0.0, 0.01, -0.01, up, 0.0]) == 0
    assert present([0.0, 0.01, -0.01, up, -up]) == 0


def test_a_noisy_device_is_not_taken_for_a_changed_one():
    random = np.random.default_rng(3)
    assert present(list(0.05 * random.standard_normal(200))) == 0


def test_a_line_has_no_negative_part():
    found = line([1.0, 2.0, 3.0, 4.0], [0.5, 2.5, 4.5, 6.5], lambda x: x)
    assert found.fixed == 0.0
    assert found.per_unit > 0


def test_an_assignment_without_a_whole_training_teaches_nothing(simulated):
    device, fits = simulated(), FleetFit()
    told = device.told(decision("a"), 1)
    fits.add(replace(told, phases=(PhaseReport(Phase.TRAIN, 5.0, 2),)))
    assert fits.cost(device.candidate, choice()).seconds is None

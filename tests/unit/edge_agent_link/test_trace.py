import math

import pytest

from edge_agent.link import trace
from edge_agent.link.trace import parse, spec_for
from fleet.errors import BadRequest
from fleet.kinds import kind

PI = kind("raspberry-pi-5").link
SERVER = kind("epyc-8024p").link


def test_a_constant_link_is_what_its_kind_declares():
    state = parse("constant", PI, "pi/0").at(1e6)
    assert (state.rate_up_bps, state.rate_down_bps, state.delay_s, state.jitter_s, state.loss, state.until_s) == (
        PI.rate_up_bps, PI.rate_down_bps, PI.delay_s, PI.jitter_s, PI.loss, math.inf,
    )  # fmt: skip


@pytest.mark.parametrize("spec", ["walk:sigma=0.3,step_s=0.1,seed=7", "rayleigh:distance_m=200,seed=7"])
def test_a_trace_is_a_function_of_time_whatever_was_asked_before(spec):
    times_s = [k * 0.037 for k in range(400)]
    onwards, backwards = parse(spec, SERVER, "a"), parse(spec, SERVER, "a")
    assert [onwards.at(t) for t in times_s] == [backwards.at(t) for t in reversed(times_s)][::-1]


@pytest.mark.parametrize("spec", ["walk:sigma=0.3,step_s=0.1", "rayleigh:distance_m=200,coherence_s=0.1"])
def test_a_state_lasts_until_its_end_and_time_gets_on(spec):
    made = parse(spec, SERVER, "a")
    t_s, seen = 0.0, set()
    for _ in range(3000):
        state = made.at(t_s)
        assert state.until_s > t_s
        assert made.at((t_s + state.until_s) / 2) == state
        seen.add(state.rate_up_bps)
        t_s = state.until_s
    assert len(seen) > 2900


@pytest.mark.parametrize("other", [("walk:sigma=0.3,seed=2", "a"), ("walk:sigma=0.3,seed=1", "b")])
def test_another_seed_or_another_link_is_another_trace(other):
    one, two = parse("walk:sigma=0.3,seed=1", SERVER, "a"), parse(other[0], SERVER, other[1])
    assert [one.at(t) for t in range(10)] != [two.at(t) for t in range(10)]


def test_a_walk_begins_at_the_declared_rate_and_stays_between_its_bounds():
    walk = parse("walk:sigma=1.5,low=0.25", PI, "a")
    rates = [walk.at(t).rate_up_bps for t in range(2000)]
    assert (rates[0], min(rates) >= 0.25 * PI.rate_up_bps, max(rates) <= PI.rate_up_bps) == (
        PI.rate_up_bps,
        True,
        True,
    )
    assert min(rates) < 0.3 * PI.rate_up_bps


def test_rayleigh_fading_has_the_mean_rate_of_shannons_law_over_an_exponential_gain():
    fading = trace.Rayleigh(SERVER, "a", distance_m=300, coherence_s=0.05, seed=5)
    rates = [fading.at(0.05 * k + 0.01).rate_up_bps for k in range(20_000)]
    signal = 0.1 * 300**-4 / (10e6 * 4e-21)
    # Gauss-Laguerre would do as well; this is E[B log2(1 + S h)] for h = Exp(1) by the midpoint rule.
    steps = 20_000
    expected = sum(
        10e6 * math.log2(1 - signal * math.log((k + 0.5) / steps)) / steps for k in range(steps)
    )  # fmt: skip
    assert sum(rates) / len(rates) == pytest.approx(expected, rel=0.01)


def test_no_trace_is_faster_than_its_kind():
    near = parse("rayleigh:distance_m=10", PI, "a")
    assert {(near.at(t).rate_up_bps, near.at(t).rate_down_bps) for t in range(100)} == {
        (PI.rate_up_bps, PI.rate_down_bps)
    }


def test_a_csv_holds_each_row_until_the_next_and_the_last_for_ever(tmp_path):
    file = tmp_path / "drive.csv"
    file.write_text(
        "time_s,rate_up_bps,rate_down_bps,delay_s,loss\n0,1e6,2e6,0.1,0\n10,0,0,0.2,0.5\n\n12.5,9e9,3e6,0.3,0\n"
    )
    drive = parse(f"csv:{file}", PI, "a")
    seen = [drive.at(t) for t in (0, 9.99, 10, 12.5, 1e9)]
    assert [(s.rate_up_bps, s.rate_down_bps, s.delay_s, s.loss, s.until_s) for s in seen] == [
        (1e6, 2e6, 0.1, 0, 10),
        (1e6, 2e6, 0.1, 0, 10),
        (0, 0, 0.2, 0.5, 12.5),
        (PI.rate_up_bps, 3e6, 0.3, 0, math.inf),
        (PI.rate_up_bps, 3e6, 0.3, 0, math.inf),
    ]


def test_a_csv_without_delay_and_loss_has_those_of_the_kind(tmp_path):
    file = tmp_path / "rates.csv"
    file.write_text("time_s,rate_up_bps,rate_down_bps\n0,1e6,2e6\n")
    state = parse(f"csv:{file}", PI, "a").at(3)
    assert (state.delay_s, state.jitter_s, state.loss) == (PI.delay_s, PI.jitter_s, PI.loss)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bad.csv:1: columns are missing; expected time_s, rate_up_bps, rate_down_bps\[, delay_s, loss\]"),
        ("time_s,rate\n0,1\n", "bad.csv:1: columns are time_s, rate; expected"),
        ("time_s,rate_up_bps,rate_down_bps\n", "bad.csv: no rows"),
        ("time_s,rate_up_bps,rate_down_bps\n0,1\n", "bad.csv:2: 2 values for 3 columns"),
        ("time_s,rate_up_bps,rate_down_bps\n0,1,fast\n", "bad.csv:2: rate_down_bps = 'fast' is not a number"),
        ("time_s,rate_up_bps,rate_down_bps\n0,1,nan\n", "bad.csv:2: rate_down_bps = nan is not finite"),
        ("time_s,rate_up_bps,rate_down_bps\n0,-1,1\n", "bad.csv:2: rate_up_bps = -1 is below 0"),
        ("time_s,rate_up_bps,rate_down_bps\n1,1,1\n", "bad.csv:2: time_s begins at 1, not at 0"),
        ("time_s,rate_up_bps,rate_down_bps\n0,1,1\n5,1,1\n5,1,1\n", "bad.csv:4: time_s = 5 is not after 5"),
        ("time_s,rate_up_bps,rate_down_bps\n0,1,1\n5,0,1\n", "bad.csv:3: the last row holds for ever"),
        ("time_s,rate_up_bps,rate_down_bps,loss\n0,1,1,1\n", "bad.csv:2: loss = 1 is not below 1"),
    ],
)  # fmt: skip
def test_a_wrong_csv_is_an_error_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(BadRequest, match=message):
        parse(f"csv:{file}", PI, "a")


def test_a_csv_that_is_not_there_is_an_error_with_its_name(tmp_path):
    with pytest.raises(BadRequest, match="nowhere.csv: cannot be read: .*No such file"):
        parse(f"csv:{tmp_path / 'nowhere.csv'}", PI, "a")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fading", r"link trace 'fading': not constant, walk:\.\.\., rayleigh:\.\.\. or csv:FILE"),
        ("csv:", "link trace 'csv:': not constant"),
        ("walk:", "sigma is missing"),
        ("walk:sigma=0.1,speed=3", "unknown 'speed'; known are sigma, step_s, low, seed"),
        ("walk:sigma=fast", "sigma = 'fast' is not a number"),
        ("walk:sigma=0.1,low=1", "low = 1 is out of range"),
        ("rayleigh:seed=3", "distance_m is missing"),
        ("rayleigh:distance_m=0", "distance_m = 0 is out of range"),
    ],
)
def test_a_wrong_spec_is_an_error_that_says_what_is_known(spec, message):
    with pytest.raises(BadRequest, match=message):
        parse(spec, PI, "a")


def test_a_variable_gives_one_trace_for_all_or_one_for_each_kind():
    named = "raspberry-pi-5=rayleigh:distance_m=120,seed=3; jetson-orin-nano=csv:/x=y.csv"
    assert (
        spec_for("raspberry-pi-5", named),
        spec_for("jetson-orin-nano", named),
        spec_for("mini-pc-n100", named),
        spec_for("mini-pc-n100", "walk:sigma=0.1"),
        spec_for("mini-pc-n100", ""),
    ) == ("rayleigh:distance_m=120,seed=3", "csv:/x=y.csv", "constant", "walk:sigma=0.1", "constant")

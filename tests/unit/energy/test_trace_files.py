import json

import pytest

from edge_agent.energy.__main__ import main
from edge_agent.energy.trace import BadTrace, read

HEAD = '{"wattbed_trace": 1, "agent_version": "0.1.0"}'
SOURCE = json.dumps(
    {
        "source": {
            "id": "rapl:package-0", "kind": "rapl", "component": "cpu", "scope": "package", "quality": "measured",
            "min_window_s": 0.05, "detail": "", "interval": None, "unit_j": None, "wrap_j": 1000.0, "max_watts": 200.0,
            "max_gap_s": 2.0, "rail": None,
        },
        "reads": "joules",
    }
)  # fmt: skip


def reading(t_ns, raw, err=None, src="rapl:package-0"):
    return json.dumps({"t_ns": t_ns, "src": src, "raw": raw, "err": err})


def write(tmp_path, *lines, end="\n"):
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines) + end)
    return path


S = 10**9


def test_a_trace_is_counted_with_its_wraps_resets_gaps_and_errors(tmp_path, capsys):
    path = write(
        tmp_path,
        HEAD,
        SOURCE,
        '{"rejected": {"id": "nvml", "reason": "no library", "fix": ""}}',
        reading(0, 990.0),
        reading(1 * S, 995.0),
        reading(2 * S, 5.0),
        reading(3 * S, None, "EIO"),
        reading(4 * S, 500.0),
        reading(5 * S, 2.0),
        reading(6 * S, 4.0),
        reading(9 * S, 6.0),
    )
    assert main(["replay", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "sources": {
            "rapl:package-0": {
                "joules": 5.0 + 10.0 + 2.0,
                "seconds": 9.0,
                "readings": 8,
                "wraps": 1,
                "resets": 1,
                "gaps": 1,
                "gap_seconds": 3.0,
                "errors": {"EIO": 1},
            }
        }
    }


def test_a_source_that_never_answered_has_no_joules_and_not_zero(tmp_path, capsys):
    main(
        ["replay", str(write(tmp_path, HEAD, SOURCE, reading(0, None, "EIO"), reading(S, None, "EIO"))), "--json"]
    )
    assert json.loads(capsys.readouterr().out)["sources"]["rapl:package-0"]["joules"] is None


@pytest.mark.parametrize(
    ("lines", "end", "said"),
    [
        ([""], "", ":1: the file is empty"),
        (["name,power", "a,3"], "\n", ":1: not JSON: b'name,power'"),
        (['{"Meter": 3}'], "\n", ':1: not a trace: the first line has no "wattbed_trace": 1'),
        (['{"wattbed_trace": 2}'], "\n", ":1: not a trace"),
        ([HEAD, SOURCE, reading(0, 1.0)[:-9]], "", ":3: the file ends in the middle of a line: it was cut short"),
        ([HEAD, SOURCE, reading(0, 1.0)[:-9]], "\n", ":3: not JSON"),
        ([HEAD, "3"], "\n", ":2: not an object"),
        ([HEAD, reading(0, 1.0)], "\n", ":2: a reading of 'rapl:package-0', which no line before declares"),
        ([HEAD, SOURCE, SOURCE], "\n", ":3: source rapl:package-0 is declared twice"),
        ([HEAD, SOURCE.replace('"unit_j"', '"unit"')], "\n", ":2: unknown fields of a source: unit"),
        ([HEAD, SOURCE.replace("measured", "certain")], "\n", ":2: 'certain' is not a valid Quality"),
        ([HEAD, SOURCE.replace('"joules"', '"amperes"')], "\n", ":2: reads is 'amperes', not joules or watts"),
        ([HEAD, SOURCE, '{"t_ns": 1, "raw": 3}'], "\n", ":3: a reading has t_ns, src, raw and err"),
        ([HEAD, SOURCE, reading(5, 1.0), reading(4, 1.0)], "\n", ":4: rapl:package-0 goes back from 5 to 4 ns"),
        ([HEAD, SOURCE, reading(5, None)], "\n", ":3: exactly one of raw and err must be null"),
        ([HEAD, SOURCE, reading(5, "3")], "\n", ":3: raw is '3', not a finite number"),
        ([HEAD, SOURCE, reading(5, float("nan"))], "\n", ":3: raw is nan, not a finite number"),
        ([HEAD, SOURCE, reading(0.5, 3.0)], "\n", ":3: t_ns is 0.5, not a whole number"),
        ([HEAD, '{"source": [], "reads": "watts"}'], "\n", ":2: "),
        ([HEAD, '{"rejected": {"reason": 3}}'], "\n", ":2: "),
    ],
)
def test_a_file_that_is_no_trace_is_an_error_that_names_its_line(tmp_path, lines, end, said):
    path = write(tmp_path, *lines, end=end)
    with pytest.raises(BadTrace) as raised:
        read(path)
    assert f"{path}{said}" in str(raised.value)


def test_a_file_that_is_not_there_is_wrong_use(tmp_path, capsys):
    assert main(["replay", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err

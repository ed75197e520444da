"""What a process says: as text or JSON, with the run it is about, and never with a secret."""

import io
import json
import logging

import pytest

from fleet import logs
from fleet.errors import BadRequest
from fleet.identity import TOKEN_PREFIX

TOKEN = f"{TOKEN_PREFIX}.eyJpZCI6ImFiYyIsInNlY3JldCI6Inh5eiJ9"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\nCCqGSM49AwEH\n-----END PRIVATE KEY-----"


@pytest.fixture(params=[logs.Text, logs.JsonLines])
def said(request):
    """A logger, and what was said with it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(request.param())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, out


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (TOKEN, "joins with %s"),
        (KEY, "wrote %s to disk"),
        ("hunter2hunter2", "plug answered password=%s"),
        ("abc.def.ghi", "Authorization: Bearer %s"),
    ],
)
def test_no_secret_gets_into_a_log_neither_as_a_word_nor_in_an_exception(said, secret, text):
    logger, out = said
    logger.warning(text, secret)
    try:
        raise ValueError(text % secret)
    except ValueError:
        logger.exception("failed")
    assert out.getvalue().count(logs.BLACK) >= 2
    for part in secret.splitlines():
        assert part not in out.getvalue() or part.startswith("-----")


def test_a_line_carries_run_round_and_device(said):
    logger, out = said
    with logs.fields(run="x-1", device=None), logs.fields(round=3, device="pi"):
        logger.info("uploaded")
    logger.info("outside")
    inside, outside = out.getvalue().splitlines()
    if inside.startswith("{"):
        assert {k: json.loads(inside)[k] for k in ("run", "round", "device")} == {
            "run": "x-1",
            "round": 3,
            "device": "pi",
        }
        assert "run" not in json.loads(outside)
    else:
        assert inside.endswith("uploaded [run=x-1 round=3 device=pi]")
        assert outside.endswith("outside")


def test_a_line_of_json_is_one_line_with_its_traceback(capsys):
    record = logging.LogRecord("a.b", logging.ERROR, "f", 1, "two\nlines", (), None)
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    assert {k: v for k, v in json.loads(line).items() if k != "at"} == {
        "level": "ERROR",
        "logger": "a.b",
        "message": "two\nlines",
    }


def test_a_file_is_rotated_and_a_few_old_ones_stay(tmp_path):
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        logs.set_up(logs.LogSettings("INFO", "json", tmp_path / "logs" / "agent.log", 2000, 2))
        for i in range(100):
            root.warning("line %d of many, each as long as the one before it", i)
        root.handlers[0].close()
    finally:
        root.handlers = before
    files = sorted(p.name for p in (tmp_path / "logs").iterdir())
    assert files == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(p.stat().st_size <= 2000 for p in (tmp_path / "logs").iterdir())


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"WATTBED_LOG_LEVEL": "LOUD"}, "WATTBED_LOG_LEVEL = 'LOUD'"),
        ({"WATTBED_LOG_FORMAT": "xml"}, "WATTBED_LOG_FORMAT = 'xml'"),
        ({"WATTBED_LOG_BYTES": "10M"}, "WATTBED_LOG_BYTES = '10M'"),
        ({"WATTBED_LOG_KEPT": "0"}, "WATTBED_LOG_KEPT = '0'"),
    ],
)
def test_a_wrong_variable_is_named(environ, message):
    with pytest.raises(BadRequest, match=message):
        logs.settings(environ)


def test_the_environment_is_read_and_the_old_name_of_the_level_still_counts(tmp_path):
    given = {"WATTBED_LOG": "warning", "WATTBED_LOG_FORMAT": "json", "WATTBED_LOG_FILE": str(tmp_path / "x")}
    assert logs.settings(given) == logs.LogSettings("WARNING", "json", tmp_path / "x")

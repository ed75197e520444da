import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import energy_process

Wattbed = Callable[..., Any]
STUB = """
import json, pathlib, sys
words = sys.argv[1:]
if "--sysfs" in words and not pathlib.Path(words[words.index("--sysfs") + 1], "class").is_dir():
    sys.exit("stub_energy: nothing here can be measured")
if words[0] == "probe":
    source = {"id": "rapl:package-0", "kind": "rapl", "name": "package-0", "component": "cpu", "scope": "package",
              "quality": "measured", "joules": 123.5, "detail": "wraps at 262 kJ"}
    rejected = {"name": "nvml", "reason": "no driver", "fix": "install one\\nthen restart"}
    print(json.dumps({"sources": [source], "rejected": [rejected]}))
elif words[0] == "record":
    pathlib.Path(words[1]).write_text(" ".join(words[2:]))
    print("600 readings of 1 sources")
else:
    print(json.dumps({"sources": {"rapl:package-0": {"joules": None, "seconds": 2.0, "readings": 3, "wraps": 1,
          "resets": 0, "gaps": 0, "errors": {"EIO": 2}}}}))
"""


@pytest.fixture
def energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small `edge_agent.energy` that comes before the real one; the folder of a host's tree."""
    (tmp_path / "stub_energy.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(energy_process, "MODULE", "stub_energy")
    (tmp_path / "sys" / "class").mkdir(parents=True)
    return tmp_path / "sys"


def test_the_doctor_of_another_tree_gives_its_sources_and_what_was_rejected(
    wattbed: Wattbed, energy: Path
) -> None:
    found = json.loads(wattbed("doctor", "--sysfs", str(energy), "--json").out)
    assert (found["checks"], found["sources"][0]["joules"], found["rejected"][0]["fix"]) == (
        [],
        123.5,
        "install one\nthen restart",
    )


def test_people_see_the_reason_and_the_fix_to_paste(wattbed: Wattbed, energy: Path) -> None:
    said = wattbed("doctor", "--sysfs", str(energy)).out
    assert "nvml cannot be read: no driver\n    install one\n    then restart\n" in said
    assert "123.5 J" in said


def test_a_probe_that_fails_is_quoted_without_its_module(wattbed: Wattbed, energy: Path, tmp_path: Path) -> None:
    said = wattbed("doctor", "--sysfs", str(tmp_path), "--json")
    assert (said.code, json.loads(said.out)["message"]) == (1, "nothing here can be measured")


def test_record_passes_on_what_it_was_asked(wattbed: Wattbed, energy: Path, tmp_path: Path) -> None:
    said = wattbed(
        *("energy", "record", "a.jsonl", "--seconds", "2.5", "--hz", "20", "--sysfs", str(energy)), "--json"
    )
    asked = (tmp_path / "a.jsonl").read_text()
    assert (json.loads(said.out)["said"], asked) == (
        "600 readings of 1 sources",
        f"--seconds 2.5 --hz 20 --sysfs {energy}",
    )


def test_replay_shows_what_was_not_measured_as_such(wattbed: Wattbed, energy: Path) -> None:
    said = wattbed("energy", "replay", "a.jsonl").out
    row = next(line for line in said.splitlines() if line.startswith("rapl:package-0"))
    assert row.split() == ["rapl:package-0", "2", "EIO", "—", "2.0", "s", "3", "1", "0", "0"]


def test_the_real_probe_reads_a_tree_without_sources(wattbed: Wattbed, tmp_path: Path) -> None:
    (tmp_path / "sys" / "class").mkdir(parents=True)
    found = json.loads(wattbed("doctor", "--sysfs", str(tmp_path / "sys"), "--json").out)
    rapl = next(r for r in found["rejected"] if r["name"] == "rapl")
    assert (found["sources"], str(tmp_path) in rapl["reason"]) == ([], True)

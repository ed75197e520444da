"""docs/security.md and the tests say the same."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def those_there_are() -> set[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")))
    return found


def test_every_attack_of_the_table_names_tests_that_there_are() -> None:
    rows = [row for row in re.findall(r"^\| .* \|$", PAGE, re.MULTILINE) if "`test_" in row]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    assert named
    assert named <= those_there_are()


def test_every_test_of_an_attack_is_in_the_table() -> None:
    files = ("enrolment/test_attacks.py", "services/test_hostile.py", "coordinator/test_limits.py")
    tests = "".join((ROOT / "tests" / "unit" / name).read_text(encoding="utf-8") for name in files)
    refused = {"test_a_viewer_sees", "test_keys_and_credentials_are_readable_by_their_owner_alone"}
    assert set(re.findall(r"def (test_\w+)\(", tests)) - refused <= set(re.findall(r"`(test_\w+)`", PAGE))

"""docs/cli.md and the commands say the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import app

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
OF_TYPER = {"--help", "--install-completion", "--show-completion"}


def commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below `group` that does something by itself."""
    for part, command in group.commands.items():
        below = getattr(command, "commands", None)
        if below is None or command.invoke_without_command:
            yield f"{name} {part}", command
        if below is not None:
            yield from commands(command, f"{name} {part}")


COMMANDS = dict(commands(typer.main.get_command(app), "wattbed"))


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert sorted(SECTIONS) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_names_the_options_of_its_command(name: str) -> None:
    params = [p for p in COMMANDS[name].params if p.param_type_name == "option"]
    real = {o for p in params for o in (*p.opts, *p.secondary_opts)} - OF_TYPER
    first_cells = [line.split("|")[1] for line in SECTIONS[name].splitlines() if line.startswith("| `")]
    assert {o for cell in first_cells for o in re.findall(r"`(--?[a-z-]+)", cell)} == real


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_a_sentence(name: str) -> None:
    assert re.fullmatch(r"[A-Z][^\n]+\.", (COMMANDS[name].help or "").strip())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_machines(name: str) -> None:
    assert "--json" in {o for p in COMMANDS[name].params for o in p.opts}

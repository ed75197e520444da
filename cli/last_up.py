"""What `wattbed up` started last as a compose testbed, noted in the state folder for the commands that follow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.compose import COORDINATOR, GRPC_TARGET, Compose, Stack, find, reached_at
from fleet.errors import BadRequest

FILE = "compose.json"
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class LastUp:
    """A compose testbed: its project, its files in order, and the coordinator's address.

    `environment` holds the variables of the compose file that put its ports where they are.
    """

    project: str
    files: tuple[str, ...]
    coordinator: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def note(compose: Compose, stack: Stack) -> LastUp:
    """What to note of a testbed that is about to start."""
    shown = [p for s in stack.services.values() for p in s.ports if p.published is not None]
    ports = {compose.variable(p.target)[0]: str(p.published) for p in shown}
    grpc = next((p for p in stack.services[COORDINATOR].ports if p.target == GRPC_TARGET), None)
    at = None if grpc is None or grpc.published is None else f"{reached_at(grpc.host)}:{grpc.published}"
    files = tuple(map(str, compose.files))
    return LastUp(stack.project, files, at, {name: port for name, port in ports.items() if name})


def compose(
    last: LastUp | None, environment: Mapping[str, str], project: str | None = None, overlays: Sequence[Path] = ()
) -> Compose:
    """The compose files to work with: those of the last `up`, unless another project or overlays are asked for.

    Ports stay where the last `up` put them, unless `environment` moves them. BadRequest: there is no compose file.
    """
    same = last if last is not None and project in (None, last.project) else None
    noted = tuple(map(Path, same.files)) if same else ()
    if noted and not overlays and all(file.is_file() for file in noted):
        files = noted
    else:
        files = (find(Path.cwd(), CHECKOUT), *(file.resolve() for file in overlays))
    kept = same.environment if same else {}
    return Compose(files, same.project if same else project, {**kept, **environment})


def load(state: Path) -> LastUp | None:
    """What was noted in the folder `state`, None where nothing was."""
    path = state / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return LastUp(**values | {"files": tuple(values["files"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is not what `wattbed up` notes: {error!r}") from None


def save(state: Path, last: LastUp) -> None:
    """Notes it, wholly or not at all."""
    state.mkdir(parents=True, exist_ok=True)
    draft = state / f"{FILE}.draft"
    draft.write_text(json.dumps(asdict(last), indent=2) + "\n", encoding="utf-8")
    draft.replace(state / FILE)


def forget(state: Path) -> None:
    """Removes the note, and the folder if nothing else is in it."""
    (state / FILE).unlink(missing_ok=True)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()

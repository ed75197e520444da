"""`python -m dashboards` writes the JSON that Grafana reads; `--check` says whether it is what is committed."""

import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.queries import HERE, built

FOLDER = HERE / "grafana"


def as_json(dashboard: Dashboard) -> str:
    """The dashboard as Grafana reads it; the same dashboard gives the same text."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard) + "\n"


def drifted() -> list[str]:
    """Files that are not what the code makes, or that the code does not make."""
    wanted = {f"{uid}.json": as_json(dashboard) for uid, dashboard in built().items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    return sorted(name for name in wanted | there if wanted.get(name) != there.get(name))


def main() -> int:
    """The exit code: 1 when `--check` finds a difference."""
    names = drifted()
    if "--check" in sys.argv[1:]:
        if names:
            print(f"not what the code makes: {', '.join(names)}; run `make dashboards`", file=sys.stderr)
        return 1 if names else 0
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for uid, dashboard in built().items():
        (FOLDER / f"{uid}.json").write_text(as_json(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every query of every dashboard, ready to be put to a Prometheus.

What Grafana does before it sends a query is done here: variables are replaced by values.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard, Panel, RowPanel
from grafana_foundation_sdk.models.prometheus import Dataquery

from dashboards import fleet_energy, optimiser, run, service, testbed_health

HERE = Path(__file__).parent
MAY_BE_EMPTY = HERE / "may_be_empty.toml"

MODULES = (fleet_energy, run, optimiser, service, testbed_health)

EVERYTHING: Mapping[str, str] = {
    "__rate_interval": "1m",
    "__interval": "5s",
    "__range": "30m",
    "device": ".+",
    "method": ".+",
    "kind": ".+",
    "run": ".+",
}
"""Values that ask for every series. The other variables are chosen one at a time: see `queries`."""


@dataclass(frozen=True)
class Asked:
    """One query of one panel. `instant`: asked for its present value; else over a range of time."""

    dashboard: str
    panel: str
    expr: str
    instant: bool


def built() -> dict[str, Dashboard]:
    """The dashboards by uid."""
    return {module.UID: module.build().build() for module in MODULES}


def panels(dashboard: Dashboard) -> Iterator[Panel]:
    """Its panels, without the rows."""
    for panel in dashboard.panels or ():
        if not isinstance(panel, RowPanel):
            assert isinstance(panel, Panel)
            yield panel


def queries(experiment: str, scope: str, quality: str, **others: str) -> list[Asked]:
    """Every query of every panel. `others` are variables with another value than everything."""
    values = {**EVERYTHING, "experiment": experiment, "scope": scope, "quality": quality, **others}
    return [
        Asked(dashboard.title or "", panel.title or "", filled(target.expr, values), bool(target.instant))
        for dashboard in built().values()
        for panel in panels(dashboard)
        for target in panel.targets or ()
        if isinstance(target, Dataquery)
    ]


def filled(expr: str, values: Mapping[str, str]) -> str:
    """`expr` with $name replaced by its value; KeyError for a variable that has none. $1 is PromQL's own."""
    return re.sub(r"\$([A-Za-z_]\w*)", lambda found: values[found[1]], expr)


@cache
def may_be_empty() -> Mapping[tuple[str, str], str]:
    """(dashboard, panel) of those that may show nothing, with the reason."""
    tables = tomllib.loads(MAY_BE_EMPTY.read_text(encoding="utf-8"))
    return {(p["dashboard"], p["panel"]): p["reason"] for p in tables["panel"]}

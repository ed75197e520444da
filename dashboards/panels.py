"""The panels that the dashboards are made of. Each must say its unit and what it shows.

A dashboard is 24 columns wide; on a laptop's screen (1366 x 768) a third of that is the least that can be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import stat, table, timeseries, trend
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="wattbed-prometheus")
"""The data source that dashboards/grafana/provisioning/datasources lays down."""

TAG = "wattbed"
WHOLE, HALF, THIRD = 24, 12, 8
EVERY = ".+"
"""What a variable is when everything is chosen."""

QUALITIES = ("measured", "derived", "estimated")
QUALITY_MEANS = {
    "measured": "read from a counter or sensor of the device itself",
    "derived": "a share of a measured value, divided by CPU time or calculated from it",
    "estimated": "a model's figure, with an interval in the ledger; nothing was measured",
}

AnyPanel = Builder[Panel]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series. `instant`: only its present value is wanted."""

    expr: str
    legend: str
    instant: bool = False


P = TypeVar("P", timeseries.Panel, stat.Panel, table.Panel, trend.Panel)


def _panel(panel: P, title: str, description: str, unit: str, width: int, height: int, *queries: Query) -> P:
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for number, query in enumerate(queries):
        target = Dataquery().ref_id(chr(ord("A") + number)).expr(query.expr).legend_format(query.legend)
        target.datasource(SOURCE)
        if query.instant:
            target.instant().format(PromQueryFormat.TABLE)
        else:
            target.range().format(PromQueryFormat.TIME_SERIES)
        panel.with_target(target)
    return panel


def _legend(calcs: Sequence[str] = ("lastNotNull",)) -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(list(calcs))
    )


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = THIRD,
    height: int = 9,
    stacked: bool = False,
    steps: bool = False,
    lowest: float | None = 0.0,
) -> timeseries.Panel:
    """Series over time. `steps`: values hold until the next. Predictions, by their legend, are dashed."""
    panel = _panel(timeseries.Panel(), title, description, unit, width, height, *queries)
    panel.legend(_legend()).tooltip(
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    panel.line_width(1).fill_opacity(30 if stacked else 5).show_points(common.VisibilityMode.AUTO)
    if lowest is not None:
        panel.axis_soft_min(lowest)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if steps:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    dash = {"fill": "dash", "dash": [8, 6]}
    panel.override_by_regexp("/predicted/", [DynamicConfigValue(id_val="custom.lineStyle", value=dash)])
    return panel


def bounded(panel: timeseries.Panel, low: float, high: float) -> timeseries.Panel:
    """Draws the band between `low` and `high` in which nothing needs to be looked at."""
    steps = [
        Threshold(color="red", value=None),
        Threshold(color="green", value=low),
        Threshold(color="red", value=high),
    ]
    panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
    return panel.thresholds_style(style)


def number(
    title: str, description: str, unit: str, *queries: Query, width: int = THIRD, height: int = 4
) -> stat.Panel:
    """The latest value of each series, large, with its history behind it. No data says "no data", not 0."""
    panel = _panel(stat.Panel(), title, description, unit, width, height, *queries)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    return panel.no_value("no data")


def alarming(panel: stat.Panel, above: float) -> stat.Panel:
    """Red from `above` on."""
    steps = [Threshold(color="green", value=None), Threshold(color="red", value=above)]
    return panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def listing(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    columns: Sequence[str],
    width: int = WHOLE,
    height: int = 9,
    units_of: dict[str, str] | None = None,
) -> table.Panel:
    """A table of present values: `columns` are labels, then one value column per query, named by its legend."""
    panel = _panel(table.Panel(), title, description, unit, width, height, *queries).show_header(True)
    if len(queries) > 1:
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
        values = {f"Value #{chr(ord('A') + n)}": query.legend for n, query in enumerate(queries)}
    else:
        values = {"Value": queries[0].legend}
    order = {name: index for index, name in enumerate((*columns, *values))}
    panel.with_transformation(
        DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": [*columns, *values]}})
    )
    panel.with_transformation(
        DataTransformerConfig(
            id_val="organize", options={"excludeByName": {}, "indexByName": order, "renameByName": values}
        )
    )
    for column, its_unit in (units_of or {}).items():
        panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=its_unit)])
    return panel


def hide_value(panel: table.Panel, column: str) -> table.Panel:
    """Leaves the value out of a table whose labels say everything."""
    return panel.override_by_name(column, [DynamicConfigValue(id_val="custom.hidden", value=True)])


def against(
    title: str, description: str, unit: str, x: Query, *queries: Query, width: int = HALF, height: int = 10
) -> trend.Panel:
    """Series over `x` instead of over time; x must not fall."""
    panel = _panel(trend.Panel(), title, description, unit, width, height, x, *queries)
    panel.with_transformation(
        DataTransformerConfig(id_val="joinByField", options={"byField": "Time", "mode": "outer"})
    )
    names = {"include": {"names": [x.legend, *(q.legend for q in queries)]}}
    panel.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=names))
    panel.x_field(x.legend).legend(_legend()).line_width(1).show_points(common.VisibilityMode.AUTO)
    panel.override_by_name(x.legend, [DynamicConfigValue(id_val="unit", value=units.Joule)])
    return panel


def yes_or_no(panel: stat.Panel, yes: str, no: str) -> stat.Panel:
    """Shows 1 and 0 as words."""
    words = {
        "1": ValueMappingResult(text=yes, color="green", index=0),
        "0": ValueMappingResult(text=no, color="red", index=1),
    }
    return panel.mappings([ValueMap(options=words)])


def variable(
    name: str, label: str, query: str, description: str, *, many: bool = True, newest_first: bool = False
) -> QueryVariable:
    """A choice at the head of a dashboard: any number of the values, all by default, or (`many` False) one."""
    made = QueryVariable(name).label(label).description(description).datasource(SOURCE).query(query)
    made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(VariableSort.NUMERICAL_DESC if newest_first else VariableSort.ALPHABETICAL_ASC)
    if many:
        made.multi(True).include_all(True).all_value(EVERY)
        made.current(VariableOption(selected=True, text="All", value="$__all"))
    return made


DEVICE = ("device", "Device", "label_values(wattbed_device_attached, device)", "Devices that have been here.")
EXPERIMENT = (
    "experiment",
    "Experiment",
    "label_values(wattbed_run_info, experiment)",
    "An experiment of which a run went on in the time that is shown.",
)
RUN = (
    "run",
    "Run",
    'label_values(wattbed_run_info{experiment="$experiment"}, run)',
    "A run of that experiment; the latest comes first.",
)
SCOPE = (
    "scope",
    "Scope",
    "label_values(wattbed_energy_source_info, scope)",
    "What the joules cover: the wall contains the board, the board the module, the module the package. One at a "
    "time.",
)
QUALITY = (
    "quality",
    "Quality",
    "label_values(wattbed_energy_source_info, quality)",
    "How the joules came to be known. One at a time.",
)


def of_run(expr: str) -> str:
    """Series of an experiment, where they are of the run that is chosen; the label `run` is added."""
    run = 'max by (experiment, run) (wattbed_run_info{experiment="$experiment", run=~"$run"})'
    return f"({expr}) * on (experiment) group_left (run) {run}"


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[QueryVariable],
    rows: Sequence[tuple[str, Sequence[AnyPanel]]],
) -> Dashboard:
    """Rows of panels, side by side until the width is full. Links to the others take time and choices along."""
    made = Dashboard(title).uid(uid).description(description).tags([TAG]).editable()
    made.time("now-30m", "now").refresh("5s").timezone(common.TimeZoneBrowser)
    links = DashboardLink("wattbed").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    made.link(links.include_vars(True).keep_time(True).tooltip("The other dashboards of the testbed"))
    for each in variables:
        made.with_variable(each)
    identity = 0
    for name, panels in rows:
        identity += 1
        made.with_row(Row(name).id(identity))
        for panel in panels:
            identity += 1
            made.with_panel(_numbered(panel, identity))
    return made


class _numbered(Builder[Panel]):  # noqa: N801
    """A panel with the id that links to it need."""

    def __init__(self, panel: AnyPanel, identity: int) -> None:
        self._panel = panel
        self._id = identity

    def build(self) -> Panel:
        built = self._panel.build()
        built.id_val = self._id
        return built


def of_one_run() -> list[QueryVariable]:
    """The variables of a dashboard about one run: which, its joules of which kind, and its devices."""
    return [
        variable(*EXPERIMENT, many=False),
        variable(*RUN, many=False, newest_first=True),
        variable(*SCOPE, many=False),
        variable(*QUALITY, many=False),
        variable(*DEVICE),
    ]

"""*Fleet energy*: who draws what now, and what the joules went into. Every quality is a panel of its own."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    DEVICE,
    HALF,
    QUALITIES,
    QUALITY_MEANS,
    SCOPE,
    AnyPanel,
    Query,
    dashboard,
    lines,
    listing,
    number,
    variable,
)

UID = "wattbed-fleet-energy"


def build() -> Dashboard:
    """The dashboard."""
    return dashboard(
        UID,
        "Fleet energy",
        "Watts and joules of the fleet. Measured, derived and estimated are never added up, nor are scopes.",
        [variable(*SCOPE, many=False), variable(*DEVICE)],
        [
            ("Now", [_now(quality) for quality in QUALITIES]),
            ("Live watts per device", [_devices(quality) for quality in QUALITIES]),
            ("What it goes into", [_phases(quality) for quality in QUALITIES]),
            ("Joules of assignments", _assignments()),
            ("Hosts, as their own counters see them", _hosts()),
        ],
    )


def _means(quality: str) -> str:
    return f"{quality.capitalize()}: {QUALITY_MEANS[quality]}."


def _now(quality: str) -> AnyPanel:
    watts = (
        f'device_quality_scope:wattbed_power_watts:sum{{quality="{quality}", scope="$scope", device=~"$device"}}'
    )
    return number(
        f"{quality.capitalize()} watts",
        f"Present power of the chosen devices within the chosen scope. {_means(quality)}",
        units.Watt,
        Query(f"sum({watts})", quality),
    )


def _devices(quality: str) -> AnyPanel:
    watts = (
        f'device_quality_scope:wattbed_power_watts:sum{{quality="{quality}", scope="$scope", device=~"$device"}}'
    )
    return lines(
        f"Watts per device, {quality}",
        f"Power of each device within the chosen scope, stacked. {_means(quality)}",
        units.Watt,
        Query(watts, "{{device}}"),
        stacked=True,
    )


def _phases(quality: str) -> AnyPanel:
    watts = (
        "agent_phase_quality_scope:wattbed_agent_energy_joules:rate1m"
        f'{{quality="{quality}", scope="$scope", agent=~"$device"}}'
    )
    return lines(
        f"Watts by phase, {quality}",
        "Mean power over a minute by what the agents were doing, stacked; everything outside an assignment is "
        "idle. " + _means(quality),
        units.Watt,
        Query(f"sum by (phase) ({watts})", "{{phase}}"),
        stacked=True,
    )


def _assignments() -> list[AnyPanel]:
    joules = (
        "device_phase_quality_scope:wattbed_assignment_energy_joules:sum"
        '{scope="$scope", device=~"$device", quality="%s"}'
    )
    per_phase = [
        lines(
            f"Joules by phase, {quality}",
            "Energy of assignments since the log began, as the ledger has it, by phase; it rises when a window is "
            f"reported, at its end. {_means(quality)}",
            units.Joule,
            Query(f"sum by (phase) ({joules % quality})", "{{phase}}"),
            stacked=True,
        )
        for quality in QUALITIES
    ]
    rows = listing(
        "Joules by device and phase",
        "Energy of each device's assignments since the log began, by phase and quality, within the chosen scope. "
        "Rows of different quality are not to be added up.",
        units.Joule,
        Query(
            "max by (device, phase, quality) (device_phase_quality_scope:wattbed_assignment_energy_joules:sum"
            '{scope="$scope", device=~"$device"})',
            "joules",
            instant=True,
        ),
        columns=("device", "phase", "quality"),
        width=HALF,
    )
    unmeasured = lines(
        "Windows nobody measured",
        "Windows of assignments that no source could say anything about, since the log began. Their joules are "
        "missing above; they are not zero.",
        units.Short,
        Query(
            'sum by (device) (wattbed_assignment_unmeasured_windows_total{device=~"$device"}) or '
            '0 * sum by (device) (wattbed_assignment_windows_total{device=~"$device"})',
            "{{device}}",
        ),
        width=HALF,
    )
    return [*per_phase, rows, unmeasured]


def _hosts() -> list[AnyPanel]:
    host = lines(
        "Watts per host and component",
        "What the counters of each host say, before it is divided among agents, within the chosen scope. Several "
        "techniques for one component stand side by side.",
        units.Watt,
        Query(
            "sum by (host, component, source, quality) "
            '(rate(wattbed_host_energy_joules_total{scope="$scope"}[$__rate_interval]))',
            "{{host}} {{component}} by {{source}}, {{quality}}",
        ),
        width=HALF,
    )
    rails = lines(
        "Watts per rail",
        "Parts that overlap the totals, such as a processor's cores or a board's supply rails. For looking into a "
        "device; never to be added up.",
        units.Watt,
        Query(
            "sum by (host, source, rail) (rate(wattbed_rail_energy_joules_total[$__rate_interval]))",
            "{{host}} {{rail}} by {{source}}",
        ),
        width=HALF,
        lowest=None,
    )
    return [host, rails]

"""*Service*: images on demand, and the calls that the coordinator serves: how many, how long, how many bytes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards import generation
from dashboards.panels import (
    DEVICE,
    HALF,
    QUALITY,
    SCOPE,
    AnyPanel,
    Query,
    alarming,
    dashboard,
    lines,
    number,
    variable,
)

UID = "wattbed-service"

METHOD = (
    "method",
    "Method",
    "label_values(wattbed_grpc_requests_total, method)",
    "gRPC methods that have been called.",
)
WINDOW = "[$__rate_interval]"
CALLS = f'rate(wattbed_grpc_requests_total{{method=~"$method"}}{WINDOW})'
ERRORS = f'rate(wattbed_grpc_requests_total{{method=~"$method", status!~"OK|CANCELLED"}}{WINDOW})'


def build() -> Dashboard:
    """The dashboard."""
    return dashboard(
        UID,
        "Service",
        "Calls to the coordinator, and images on demand: how many, how long, and how many failed.",
        [
            variable(*METHOD),
            variable(*DEVICE),
            variable(*SCOPE, many=False),
            variable(*QUALITY, many=False),
        ],
        [
            ("Now", _now()),
            ("Requests", _requests()),
            ("Latency", _latency()),
            ("Bytes and updates", _bytes()),
            *generation.rows(),
        ],
    )


def _now() -> list[AnyPanel]:
    return [
        number(
            "Requests per second",
            "Calls of the chosen methods that ended, whatever their status.",
            units.RequestsPerSecond,
            Query(f"sum({CALLS})", "requests"),
        ),
        alarming(
            number(
                "Share of errors",
                "Calls that ended in an error, of all that ended. A call that was cancelled is none: agents "
                "cancel what they no longer need.",
                units.PercentUnit,
                Query(f"(sum({ERRORS}) or 0 * sum({CALLS})) / (sum({CALLS}) > 0)", "errors"),
            ),
            above=0.01,
        ),
        number(
            "Open calls",
            "Calls that go on now: a stream per attached device, watched runs, and transfers under way.",
            units.Short,
            Query('sum by (method) (wattbed_grpc_requests_running{method=~"$method"})', "{{method}}"),
        ),
    ]


def _requests() -> list[AnyPanel]:
    return [
        lines(
            "Requests by method",
            "Calls that ended, per second, of each of the chosen methods.",
            units.RequestsPerSecond,
            Query(f"sum by (method) ({CALLS})", "{{method}}"),
            width=HALF,
        ),
        lines(
            "Errors by method",
            "Calls that ended in an error, per second, by method. 0: every call was served.",
            units.RequestsPerSecond,
            Query(f"sum by (method) ({ERRORS}) or 0 * sum by (method) ({CALLS})", "{{method}}"),
            width=HALF,
        ),
        lines(
            "Requests by status",
            "Calls that ended, per second, by gRPC status.",
            units.RequestsPerSecond,
            Query(f"sum by (status) ({CALLS})", "{{status}}"),
            width=HALF,
        ),
        lines(
            "Open calls over time",
            "Calls that go on, by method. Attach is one per device.",
            units.Short,
            Query('sum by (method) (wattbed_grpc_requests_running{method=~"$method"})', "{{method}}"),
            width=HALF,
            steps=True,
        ),
    ]


def _latency() -> list[AnyPanel]:
    buckets = f'rate(wattbed_grpc_request_seconds_bucket{{method=~"$method"}}{WINDOW})'
    took = f'rate(wattbed_grpc_request_seconds_sum{{method=~"$method"}}{WINDOW})'
    count = f'rate(wattbed_grpc_request_seconds_count{{method=~"$method"}}{WINDOW})'
    return [
        lines(
            "Latency, all methods",
            "Time to serve a call: half, 95 % and 99 % of the calls took less. Streams that stay open (Attach, "
            "WatchRun) are left out; GetBlob and PutBlob last as long as their transfer.",
            units.Seconds,
            *[
                Query(f"histogram_quantile({q}, sum by (le) ({buckets}))", name)
                for q, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
            ],
        ),
        lines(
            "Latency by method, 95 %",
            "95 % of the calls of a method took less than this.",
            units.Seconds,
            Query(f"histogram_quantile(0.95, sum by (method, le) ({buckets}))", "{{method}}"),
        ),
        lines(
            "Mean latency by method",
            "Mean time to serve a call of each method.",
            units.Seconds,
            Query(f"sum by (method) ({took}) / sum by (method) ({count})", "{{method}}"),
        ),
    ]


def _bytes() -> list[AnyPanel]:
    wire = f'rate(wattbed_wire_bytes_total{{device=~"$device"}}{WINDOW})'
    return [
        lines(
            "Blob bytes by direction",
            "Models down and updates up, as counted on the wire when a transfer ends or is cut.",
            units.BytesPerSecondSI,
            Query(f"sum by (direction) ({wire})", "{{direction}}"),
        ),
        lines(
            "Blob bytes by device",
            "The same by device, both directions together.",
            units.BytesPerSecondSI,
            Query(f"sum by (device) ({wire})", "{{device}}"),
        ),
        lines(
            "Updates received and refused",
            "Updates since the log began. A refused one came too late, was damaged, or was not asked for.",
            units.Short,
            Query('sum by (outcome) (wattbed_updates_total{device=~"$device"})', "{{outcome}}"),
            steps=True,
        ),
    ]

"""*Testbed health*: which devices are there, what they may use, and whether their meters work."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    DEVICE,
    HALF,
    AnyPanel,
    Query,
    alarming,
    dashboard,
    hide_value,
    lines,
    listing,
    number,
    variable,
)

UID = "wattbed-testbed"

KIND = ("kind", "Kind", "label_values(wattbed_device_info, kind)", "Kinds of devices that have been here.")
MINE = 'device=~"$device"'
AGENT = 'agent=~"$device"'
FIRING = 'ALERTS{alertstate="firing", alertname=~"Wattbed.+"}'


def build() -> Dashboard:
    """The dashboard."""
    return dashboard(
        UID,
        "Testbed health",
        "Devices, their limits and links, their meters, and the coordinator itself.",
        [variable(*KIND), variable(*DEVICE)],
        [
            ("Now", _now()),
            ("Devices", _devices()),
            ("Limits and links, by kind", _limits()),
            ("Relay, where the kernel cannot delay packets", _relay()),
            ("Meters", _meters()),
            ("Alerts and rounds", _alerts()),
            ("Coordinator", _coordinator()),
        ],
    )


def _kind_of_device(expr: str) -> str:
    """Adds the label `kind` to series that have `device`, and keeps those of the chosen kinds."""
    kind = 'max by (device, kind) (wattbed_device_info{kind=~"$kind"})'
    return f"({expr}) * on (device) group_left (kind) {kind}"


def _kind_of_agent(expr: str) -> str:
    """The same for series that have `agent`."""
    info = 'label_replace(wattbed_device_info{kind=~"$kind"}, "agent", "$1", "device", "(.+)")'
    return f"({expr}) * on (agent) group_left (kind) max by (agent, kind) ({info})"


def _now() -> list[AnyPanel]:
    return [
        number(
            "Devices attached",
            "Devices of the chosen kinds whose stream to the coordinator is open.",
            units.Short,
            Query(f"sum({_kind_of_device(f'wattbed_device_attached{{{MINE}}}')})", "attached"),
        ),
        alarming(
            number(
                "Alerts firing",
                "Alerts of the testbed that fire now; the list is below.",
                units.Short,
                Query(f"count({FIRING}) or vector(0)", "alerts"),
            ),
            above=1,
        ),
        alarming(
            number(
                "Sources down",
                "Sources of joules that were found and whose last reading failed.",
                units.Short,
                Query("count(wattbed_energy_source_up == 0) or 0 * count(wattbed_energy_source_up)", "sources"),
            ),
            above=1,
        ),
    ]


def _devices() -> list[AnyPanel]:
    facts = ("device", "kind", "machine", "cpu_model", "agent_version")
    return [
        lines(
            "Devices attached by kind",
            "Devices of each kind whose stream is open.",
            units.Short,
            Query(f"sum by (kind) ({_kind_of_device(f'wattbed_device_attached{{{MINE}}}')})", "{{kind}}"),
            steps=True,
        ),
        lines(
            "Agents scraped by kind",
            "Agents that serve /metrics and that Prometheus reads, by kind. An agent that is scaled up shows here "
            "within 15 s. One that cannot be reached is shown by the coordinator, from its heartbeats.",
            units.Short,
            Query('sum by (device_kind) (up{job="agents", device_kind=~"$kind"})', "{{device_kind}}"),
            steps=True,
        ),
        listing(
            "What the devices are",
            "Every device that has been here since the log began; 1: attached now.",
            units.Short,
            Query(
                f"max by ({', '.join(facts)}) (wattbed_device_attached{{{MINE}}} * on (device) "
                f'group_left ({", ".join(facts[1:])}) wattbed_device_info{{kind=~"$kind"}})',
                "attached",
                instant=True,
            ),
            columns=facts,
            width=8,
        ),
    ]


def _limits() -> list[AnyPanel]:
    used = f"rate(wattbed_device_cpu_seconds_total{{{MINE}}}[$__rate_interval])"
    return [
        lines(
            "CPU: quota by kind",
            "CPU seconds per second that one device of the kind may use. A device without a quota has no line.",
            units.Short,
            Query(f"max by (kind) ({_kind_of_agent(f'wattbed_device_cpu_quota_cores{{{AGENT}}}')})", "{{kind}}"),
            steps=True,
        ),
        lines(
            "CPU: used per device",
            "CPU seconds per second that the agent's processes use, from its heartbeats. It stays below the quota."
            "",
            units.Short,
            Query(_kind_of_device(used), "{{device}}, {{kind}}"),
        ),
        lines(
            "Memory: limit by kind, and used per device",
            "Memory that one device of the kind may use, and what the processes of each agent hold.",
            units.BytesIEC,
            Query(
                f"max by (kind) ({_kind_of_agent(f'wattbed_device_memory_limit_bytes{{{AGENT}}}')})",
                "{{kind}}, limit",
            ),
            Query(_kind_of_agent(f"wattbed_device_memory_bytes{{{AGENT}}}"), "{{agent}}"),
        ),
        lines(
            "Link rate by kind",
            "Rate of the emulated link of one device of the kind, each way. A link of its own has no line.",
            units.BitsPerSecondSI,
            Query(
                f"max by (kind, direction) ({_kind_of_agent(f'wattbed_link_rate_bits_per_second{{{AGENT}}}')})",
                "{{kind}} {{direction}}",
            ),
            steps=True,
        ),
        lines(
            "Link delay by kind",
            "Delay of the emulated link of one device of the kind, one way.",
            units.Seconds,
            Query(f"max by (kind) ({_kind_of_agent(f'wattbed_link_delay_seconds{{{AGENT}}}')})", "{{kind}}"),
            steps=True,
        ),
        hide_value(
            listing(
                "What emulates the links",
                "What shapes the rate, the delay and the loss of each device's link: tc's tbf and netem, "
                "netfilter, or the relay where the kernel has no netem.",
                units.Short,
                Query(
                    f"max by (agent, rate_by, delay_by, loss_by, trace) (wattbed_link_info{{{AGENT}}})",
                    "emulated",
                    instant=True,
                ),
                columns=("agent", "rate_by", "delay_by", "loss_by", "trace"),
                width=8,
            ),
            "emulated",
        ),
    ]


def _relay() -> list[AnyPanel]:
    return [
        lines(
            "Bytes through the relay",
            "What the relay passes on between agents and the coordinator, by kind of device. Nothing where the "
            "kernel emulates the whole link.",
            units.BytesPerSecondSI,
            Query(
                "sum by (kind, direction) "
                '(rate(wattbed_relay_payload_bytes_total{kind=~"$kind"}[$__rate_interval]))',
                "{{kind}} {{direction}}",
            ),
            width=HALF,
        ),
        lines(
            "Held back for lost packets",
            "Seconds per second that the relay holds data back, as a connection does that waits for a packet to "
            "be sent again.",
            units.PercentUnit,
            Query(
                "sum by (kind, direction) "
                '(rate(wattbed_relay_stall_seconds_total{kind=~"$kind"}[$__rate_interval]))',
                "{{kind}} {{direction}}",
            ),
            width=HALF,
        ),
    ]


def _meters() -> list[AnyPanel]:
    where = 'device=~"$device|_host"'
    return [
        listing(
            "Sources of joules",
            "Every source that is read: what it covers, how good it is, and whether its last reading succeeded "
            "(1).",
            units.Short,
            Query(
                f"max by (device, source, scope, quality) (wattbed_energy_source_info{{{where}}} * on (host, "
                f"device, source) group_left () max by (host, device, source) (wattbed_energy_source_up))",
                "up",
                instant=True,
            ),
            columns=("device", "source", "scope", "quality"),
            width=HALF,
        ),
        hide_value(
            listing(
                "Sources that cannot be read",
                "Sources that were looked for, and why each cannot be used. Empty: everything that was looked for "
                "is there.",
                units.Short,
                Query(
                    f"max by (device, source, reason) (wattbed_energy_source_rejected_info{{{where}}})",
                    "rejected",
                    instant=True,
                ),
                columns=("device", "source", "reason"),
                width=HALF,
            ),
            "rejected",
        ),
        lines(
            "Read errors",
            "Readings that failed in the last minute, by source. 0: all succeeded.",
            units.Short,
            Query(
                f"sum by (device, source) (increase(wattbed_energy_read_errors_total{{{where}}}[1m])) or "
                f"0 * sum by (device, source) (wattbed_energy_source_up{{{where}}})",
                "{{device}} {{source}}",
            ),
        ),
        lines(
            "Age of the last reading",
            "How long ago each source was read with success; twice the sampling interval is no news.",
            units.Seconds,
            Query(
                f"max by (device, source) (wattbed_energy_sample_age_seconds{{{where}}})", "{{device}} {{source}}"
            ),
        ),
        lines(
            "What metering costs",
            "CPU seconds per second that agents and host meters spend on metering.",
            units.PercentUnit,
            Query(
                f"sum by (host, device) (rate(wattbed_energy_meter_cpu_seconds_total{{{where}}}[1m]))",
                "{{device}} on {{host}}",
            ),
        ),
        lines(
            "Gaps",
            "Time since the meter started that nobody can say the joules of: failed readings, resets and gaps too "
            "long to tell how often a counter wrapped.",
            units.Seconds,
            Query(
                f"sum by (device, source) (wattbed_energy_gap_seconds_total{{{where}}})", "{{device}} {{source}}"
            ),
            width=HALF,
        ),
        lines(
            "Wraps and resets of counters",
            "A counter that passed its range is unwrapped and loses nothing; one that fell otherwise was reset, "
            "and a gap is recorded.",
            units.Short,
            Query(
                f"sum by (device, source) (wattbed_energy_counter_wraps_total{{{where}}})",
                "{{device}} {{source}}, wraps",
            ),
            Query(
                f"sum by (device, source) (wattbed_energy_counter_resets_total{{{where}}})",
                "{{device}} {{source}}, resets",
            ),
            width=HALF,
        ),
    ]


def _alerts() -> list[AnyPanel]:
    return [
        hide_value(
            listing(
                "Alerts",
                "What fires now. The page of Prometheus called Alerts has their descriptions. Empty: nothing "
                "fires.",
                units.Short,
                Query(
                    f"max by (alertname, severity, device, agent, experiment, source) ({FIRING})",
                    "firing",
                    instant=True,
                ),
                columns=("alertname", "severity", "device", "agent", "experiment", "source"),
                width=HALF,
            ),
            "firing",
        ),
        lines(
            "Rounds and runs",
            "Rounds by outcome and runs by how they ended, since the log began.",
            units.Short,
            Query("sum by (outcome) (wattbed_rounds_total)", "rounds {{outcome}}"),
            Query("sum by (outcome) (wattbed_runs_ended_total)", "runs {{outcome}}"),
            width=HALF,
            steps=True,
        ),
    ]


def _coordinator() -> list[AnyPanel]:
    return [
        lines(
            "CPU and aggregation",
            "CPU seconds per second of the coordinator's process, and the time per second it spends making a "
            "model of the updates.",
            units.PercentUnit,
            Query("rate(wattbed_coordinator_process_cpu_seconds_total[$__rate_interval])", "CPU"),
            Query("rate(wattbed_aggregate_seconds_total[$__rate_interval])", "aggregation"),
        ),
        lines(
            "Memory",
            "Memory that the coordinator's process holds. It does not grow with the number of agents in a round.",
            units.BytesIEC,
            Query("wattbed_coordinator_process_resident_memory_bytes", "resident"),
        ),
        lines(
            "Events in the log",
            "Events per second that were written and synced to disk.",
            units.Short,
            Query("rate(wattbed_log_events_total[$__rate_interval])", "events"),
        ),
    ]

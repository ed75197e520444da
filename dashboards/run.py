"""*Run*: what a run has come to, in quality, joules and bytes, and what each device was asked for."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    HALF,
    THIRD,
    AnyPanel,
    Query,
    against,
    dashboard,
    lines,
    listing,
    number,
    of_one_run,
    of_run,
)

UID = "wattbed-run"

JOULES = of_run('wattbed_run_energy_joules_total{scope="$scope", quality="$quality"}')
FID = of_run('wattbed_model_quality{metric="fid"}')
HELD_OUT_LOSS = of_run('wattbed_model_quality{metric="held_out_loss"}')


def build() -> Dashboard:
    """The dashboard."""
    return dashboard(
        UID,
        "Run",
        "One run: quality against joules, bytes, and the settings of every device over its rounds.",
        of_one_run(),
        [
            ("Where it stands", _numbers()),
            ("Quality against joules", _against()),
            ("Quality over time", _quality()),
            ("Rounds", _rounds()),
            ("What each device was asked for", _settings()),
        ],
    )


def _numbers() -> list[AnyPanel]:
    return [
        number(
            "Round",
            "The round the run is in, or was in last, and how many it is asked for.",
            units.Short,
            Query(of_run("wattbed_run_round"), "round"),
            Query(of_run("wattbed_run_rounds"), "of"),
        ),
        number(
            "Joules so far",
            "Energy of the run's assignments up to now, one number per quality and scope: they overlap, and are "
            "not to be added up.",
            units.Joule,
            Query(of_run("wattbed_run_energy_joules_total"), "{{quality}}, {{scope}}"),
        ),
        number(
            "Bytes so far",
            "Bytes of the run as counted on the wire, also of transfers that were cut.",
            units.BytesSI,
            Query(of_run("wattbed_run_wire_bytes_total"), "{{direction}}"),
        ),
    ]


def _against() -> list[AnyPanel]:
    x = Query(f"sum({JOULES})", "joules")
    return [
        against(
            "FID against joules",
            "Distance of generated from real images at the joules spent by then, of the chosen scope and quality. "
            "Lower and further left is better. FID is of the evaluation's own feature network, not Inception.",
            units.Short,
            x,
            Query(f"max({FID})", "FID"),
        ),
        against(
            "Loss against joules",
            "Loss on data that no device trained on, and mean training loss of the devices, at the joules spent "
            "by then.",
            units.Short,
            x,
            Query(f"max({HELD_OUT_LOSS})", "held-out loss"),
            Query(f"avg({of_run('wattbed_round_loss')})", "training loss"),
        ),
    ]


def _quality() -> list[AnyPanel]:
    return [
        lines(
            "FID",
            "Latest evaluation of the model: Frechet distance of generated from real images. Lower is better.",
            units.Short,
            Query(FID, "FID"),
            steps=True,
        ),
        lines(
            "Recall, coverage and accuracy",
            "Latest evaluation of the model. Of images: the share of real ones that lie among the generated "
            "(recall) and that have one near (coverage); higher is more diverse. Of a classifier: the share it "
            "gets right.",
            units.PercentUnit,
            Query(of_run('wattbed_model_quality{metric=~"recall|coverage|accuracy"}'), "{{metric}}"),
            steps=True,
        ),
        lines(
            "Loss",
            "Loss on held-out data, and each device's training loss in the round that closed last.",
            units.Short,
            Query(HELD_OUT_LOSS, "held out"),
            Query(of_run('wattbed_round_loss{device=~"$device"}'), "{{device}}, training"),
            steps=True,
        ),
    ]


def _rounds() -> list[AnyPanel]:
    return [
        lines(
            "Joules per round",
            "Energy of the round that closed last, one line per quality and scope; not to be added up. A device's "
            "last upload is reported after the round has closed, and is added then.",
            units.Joule,
            Query(of_run("experiment_quality_scope:wattbed_round_measured_joules:sum"), "{{quality}}, {{scope}}"),
            steps=True,
        ),
        lines(
            "Bytes per round",
            "Bytes on the wire for the round that closed last, over all devices.",
            units.BytesSI,
            Query(of_run("experiment_direction:wattbed_round_wire_bytes:sum"), "{{direction}}"),
            steps=True,
        ),
        lines(
            "Seconds per round",
            "How long the round that closed last was open.",
            units.Seconds,
            Query(of_run("wattbed_round_seconds"), "round"),
            steps=True,
        ),
        lines(
            "Joules per device, last round",
            "Energy of each device in the round that closed last, of the chosen scope and quality.",
            units.Joule,
            Query(
                of_run(
                    "experiment_device_quality_scope:wattbed_round_measured_joules:sum"
                    '{device=~"$device", scope="$scope", quality="$quality"}'
                ),
                "{{device}}",
            ),
            steps=True,
        ),
        lines(
            "Bytes per device, last round",
            "Bytes on the wire of each device for the round that closed last.",
            units.BytesSI,
            Query(of_run('wattbed_round_wire_bytes{device=~"$device"}'), "{{device}} {{direction}}"),
            steps=True,
        ),
        lines(
            "Devices it waits for",
            "Devices whose update of the open round is not in yet. The round's number shows where rounds begin.",
            units.Short,
            Query(of_run("wattbed_run_waiting_devices"), "devices"),
            Query(of_run("wattbed_run_round"), "round"),
            steps=True,
        ),
    ]


def _settings() -> list[AnyPanel]:
    by_device = 'device=~"$device"'
    return [
        lines(
            "Bits up per device",
            "Bits per value of each device's update, round by round.",
            units.Short,
            Query(of_run(f'wattbed_assignment_bits{{direction="up", {by_device}}}'), "{{device}}"),
            steps=True,
        ),
        lines(
            "Bits down per device",
            "Bits per value of the model that each device starts from, round by round.",
            units.Short,
            Query(of_run(f'wattbed_assignment_bits{{direction="down", {by_device}}}'), "{{device}}"),
            steps=True,
        ),
        lines(
            "Training steps per device",
            "Steps of local training that each device is asked for, round by round.",
            units.Short,
            Query(of_run(f"wattbed_assignment_train_steps{{{by_device}}}"), "{{device}}"),
            steps=True,
            width=THIRD,
        ),
        lines(
            "Width per device",
            "Share of the network's channels that each device trains, round by round.",
            units.PercentUnit,
            Query(of_run(f"wattbed_assignment_width{{{by_device}}}"), "{{device}}"),
            steps=True,
            width=HALF,
        ),
        listing(
            "Assignments of the present round",
            "What each device is asked for in the round that is open, or was last.",
            units.Short,
            Query(_now(f"wattbed_assignment_info{{{by_device}}}", "precision"), "assigned", instant=True),
            Query(_now(f'wattbed_assignment_bits{{direction="up", {by_device}}}'), "bits up", instant=True),
            Query(_now(f'wattbed_assignment_bits{{direction="down", {by_device}}}'), "bits down", instant=True),
            Query(_now(f"wattbed_assignment_train_steps{{{by_device}}}"), "steps", instant=True),
            columns=("device", "precision"),
            width=HALF,
        ),
    ]


def _now(expr: str, *labels: str) -> str:
    return f"max by ({', '.join(('device', *labels))}) ({of_run(expr)})"

"""*Optimiser*: what was predicted beside what was measured, and what was decided."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import (
    HALF,
    AnyPanel,
    Query,
    bounded,
    dashboard,
    lines,
    listing,
    of_one_run,
    of_run,
)

UID = "wattbed-optimiser"

CHOSEN = 'device=~"$device", scope="$scope", quality="$quality"'
BY_DEVICE = 'device=~"$device"'
JOULES = f"experiment_device_quality_scope:wattbed_round_measured_joules:sum{{{CHOSEN}}}"
JOULES_RATIO = f"experiment_device_quality_scope:wattbed_round_predicted_over_measured_joules:ratio{{{CHOSEN}}}"
SECONDS = f"experiment_device:wattbed_round_measured_seconds:sum{{{BY_DEVICE}}}"
SECONDS_RATIO = f"experiment_device:wattbed_round_predicted_over_measured_seconds:ratio{{{BY_DEVICE}}}"

OFF_LOW, OFF_HIGH = 0.75, 1.25
"""A quarter off: where the alert WattbedPredictionOff begins."""


def build() -> Dashboard:
    """The dashboard."""
    return dashboard(
        UID,
        "Optimiser",
        "Predictions beside measurements, device by device, for the round that closed last.",
        of_one_run(),
        [
            ("Predicted beside measured", _beside()),
            ("Predicted over measured", _ratios()),
            ("Where it stands", _table()),
            ("What was decided, and how devices behave", _decided()),
        ],
    )


def _beside() -> list[AnyPanel]:
    return [
        lines(
            "Joules, predicted and measured",
            "What each device's assignment was expected to cost (dashed) and what it cost, of the chosen scope "
            "and quality. A device of which nothing was known yet has no prediction.",
            units.Joule,
            Query(of_run(JOULES), "{{device}} {{quality}}"),
            Query(of_run(f"wattbed_round_predicted_joules{{{BY_DEVICE}}}"), "{{device}} predicted"),
            steps=True,
            width=HALF,
        ),
        lines(
            "Seconds, predicted and measured",
            "How long each device's assignment was expected to take (dashed) and how long it took, all phases "
            "together.",
            units.Seconds,
            Query(of_run(SECONDS), "{{device}} measured"),
            Query(of_run(f"wattbed_round_predicted_seconds{{{BY_DEVICE}}}"), "{{device}} predicted"),
            steps=True,
            width=HALF,
        ),
    ]


def _ratios() -> list[AnyPanel]:
    return [
        bounded(
            lines(
                "Joules, predicted over measured",
                "1 is right, 2 is twice too much. The band is a quarter either way; outside it the alert fires.",
                units.PercentUnit,
                Query(of_run(JOULES_RATIO), "{{device}}"),
                steps=True,
                width=HALF,
            ),
            OFF_LOW,
            OFF_HIGH,
        ),
        bounded(
            lines(
                "Seconds, predicted over measured",
                "1 is right, 2 is twice too much. The band is a quarter either way.",
                units.PercentUnit,
                Query(of_run(SECONDS_RATIO), "{{device}}"),
                steps=True,
                width=HALF,
            ),
            OFF_LOW,
            OFF_HIGH,
        ),
    ]


def _table() -> list[AnyPanel]:
    def now(expr: str, legend: str) -> Query:
        return Query(f"max by (device) ({of_run(expr)})", legend, instant=True)

    return [
        listing(
            "Error by device",
            "The round that closed last: what was predicted, what was measured, and from how many earlier "
            "assignments the prediction was made. An error of 25 % means a quarter too much.",
            units.Short,
            now(f"wattbed_round_predicted_joules{{{BY_DEVICE}}}", "predicted joules"),
            now(JOULES, "joules"),
            now(f"{JOULES_RATIO} - 1", "error of joules"),
            now(f"wattbed_round_predicted_seconds{{{BY_DEVICE}}}", "predicted seconds"),
            now(SECONDS, "seconds"),
            now(f"{SECONDS_RATIO} - 1", "error of seconds"),
            now(f"wattbed_round_prediction_samples{{{BY_DEVICE}}}", "made of"),
            columns=("device",),
            units_of={
                "predicted joules": units.Joule,
                "joules": units.Joule,
                "error of joules": units.PercentUnit,
                "predicted seconds": units.Seconds,
                "seconds": units.Seconds,
                "error of seconds": units.PercentUnit,
            },
        )
    ]


def _decided() -> list[AnyPanel]:
    return [
        lines(
            "Bits up",
            "Bits per value of the update that the policy chose for each device.",
            units.Short,
            Query(of_run(f'wattbed_assignment_bits{{direction="up", {BY_DEVICE}}}'), "{{device}}"),
            steps=True,
        ),
        lines(
            "Training steps",
            "Steps of local training that the policy chose for each device.",
            units.Short,
            Query(of_run(f"wattbed_assignment_train_steps{{{BY_DEVICE}}}"), "{{device}}"),
            steps=True,
        ),
        lines(
            "Watts while training",
            "Mean power of each device while it trained in the round that closed last, of the chosen scope and "
            "quality. The alert on anomalies compares it with the device's own last hour.",
            units.Watt,
            Query(
                of_run(f"experiment_device_quality_scope:wattbed_round_train_watts:mean{{{CHOSEN}}}"), "{{device}}"
            ),
            steps=True,
        ),
    ]

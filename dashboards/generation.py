"""Rows of *Service* about images on demand: requests, latency, deadlines, joules per image, predictions."""

from grafana_foundation_sdk.models import units

from dashboards.panels import HALF, AnyPanel, Query, alarming, lines, number

WINDOW = "[$__rate_interval]"
ENERGY = '{device=~"$device", scope="$scope", quality="$quality"}'
DEVICES = '{device=~"$device"}'
JOULES = f"rate(wattbed_generation_energy_joules_total{ENERGY}{WINDOW})"
IMAGES = f"rate(wattbed_generated_images_total{DEVICES}{WINDOW})"
PER_IMAGE = "Energy of all phases of batches over the images they made, of one scope and quality"


def rows() -> list[tuple[str, list[AnyPanel]]]:
    """By name."""
    return [
        ("Images on demand", _requests()),
        ("Joules per image", _joules()),
        ("Predicted beside measured", _both()),
    ]


def _requests() -> list[AnyPanel]:
    buckets = f"rate(wattbed_request_latency_seconds_bucket{DEVICES}{WINDOW})"
    return [
        lines(
            "Requests for images by outcome",
            "Requests that are over, since the log began. Refused ones were told at once what would be feasible.",
            units.Short,
            Query("sum by (outcome) (wattbed_requests_total)", "{{outcome}}"),
            width=HALF,
            steps=True,
        ),
        lines(
            "Requests for images under way",
            "Without a place, in a device's queue, or in a batch that a device is making.",
            units.Short,
            Query("sum by (stage) (wattbed_requests_waiting)", "{{stage}}"),
            width=HALF,
            steps=True,
        ),
        lines(
            "Latency of requests for images",
            "From a request to its images being safe at the coordinator: half, 95 % and 99 % of those served took "
            "less.",
            units.Seconds,
            *[
                Query(f"histogram_quantile({q}, sum by (le) ({buckets}))", name)
                for q, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
            ],
            width=HALF,
        ),
        lines(
            "Latency of requests for images by place, 95 %",
            "95 % of the requests that were served on devices, or at edge servers, took less.",
            units.Seconds,
            Query(f"histogram_quantile(0.95, sum by (place, le) ({buckets}))", "{{place}}"),
            width=HALF,
        ),
        alarming(
            number(
                "Deadlines missed",
                "Requests that were admitted and came late, or expired in a queue, since the log began.",
                units.Short,
                Query("sum(wattbed_request_deadline_misses_total)", "missed"),
            ),
            above=1,
        ),
        number(
            "Requests placed anew",
            "Requests whose device was lost or failed with them, and that went to another, since the log began.",
            units.Short,
            Query("sum(wattbed_request_retries_total)", "retries"),
        ),
        number(
            "Requests per batch",
            "Requests in a batch on average: those that wait together are made together where that saves joules.",
            units.Short,
            Query(
                f"sum(wattbed_generation_batched_requests_total{DEVICES}) / "
                f"sum(wattbed_generation_batches_total{DEVICES})",
                "requests",
            ),
        ),
    ]


def _joules() -> list[AnyPanel]:
    def by(label: str) -> Query:
        return Query(
            f"sum by ({label}, scope, quality) ({JOULES}) / on ({label}) group_left sum by ({label}) ({IMAGES})",
            f"{{{{{label}}}}}",
        )

    return [
        lines(
            "Joules per image by place", f"{PER_IMAGE}: on devices, and at edge servers.", units.Joule, by("place")
        ),
        lines(
            "Joules per image by width",
            f"{PER_IMAGE}, by width: the root of the mean of w^2 over the steps.",
            units.Joule,
            by("width"),
        ),
        lines("Joules per image by steps", f"{PER_IMAGE}, by denoising steps.", units.Joule, by("steps")),
        lines("Joules per image by device", f"{PER_IMAGE}, by device.", units.Joule, by("device"), width=HALF),
        lines(
            "Images made by device",
            "Images per second, of batches that were made from end to end.",
            units.Short,
            Query(f"sum by (device) ({IMAGES})", "{{device}}"),
            width=HALF,
        ),
    ]


def _both() -> list[AnyPanel]:
    measured = f"rate(wattbed_generation_measured_joules_total{ENERGY}{WINDOW})"
    return [
        lines(
            "Denoising: predicted over measured joules",
            "What batches were predicted to take over what they took, by device. 1: as predicted.",
            units.Short,
            Query(
                f"sum by (device) (rate(wattbed_generation_predicted_joules_total{DEVICES}{WINDOW})) / "
                f"on (device) group_right sum by (device, scope, quality) ({measured})",
                "{{device}}",
            ),
        ),
        lines(
            "Denoising: predicted over measured seconds",
            "The same for time. Deadlines are promised with a margin on top of it.",
            units.Short,
            Query(
                f"sum by (device) (rate(wattbed_generation_predicted_seconds_total{DEVICES}{WINDOW})) / "
                f"sum by (device) (rate(wattbed_generation_seconds_total{DEVICES}{WINDOW}))",
                "{{device}}",
            ),
        ),
        lines(
            "Models on devices' disks",
            "Bytes of models to generate with, and how many it may be, by device.",
            units.BytesSI,
            Query(f"sum by (device, of) (wattbed_device_model_bytes{DEVICES})", "{{device}}, {{of}}"),
        ),
    ]

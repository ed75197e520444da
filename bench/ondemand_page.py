"""What the runs of bench/ondemand.py add up to, as Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from ondemand_runs import CHOSEN, FILES, FIXED, FROM_ROUND, FULL, Ran
from ondemand_testbed import LINKS, QUOTA_PART
from provenance import table

from fleet.kinds import kind

WITHIN = 0.05
"""How much worse a FID may be and still count as the same."""

POINT = 0.01
"""How far below the last accuracy at 32 bits a model counts as just as accurate."""

SEEDS = 3
"""How many of each scheme a comparison should have."""

PUBLISHED = 0.53
"""[P] arXiv 2111.07911: joules saved against 32 bits, at the most."""


@dataclass(frozen=True)
class Group:
    """The runs of one scheme, by seed."""

    scheme: str
    runs: tuple[Ran, ...]

    def of(self, value: Callable[[Ran], float]) -> list[float]:
        """A value of each run."""
        return [value(run) for run in self.runs]

    def spread(self, value: Callable[[Ran], float], form: str = ",.1f") -> str:
        """Mean, least and most over the seeds."""
        found = self.of(value)
        if len(found) == 1:
            return f"{found[0]:{form}}"
        return f"{mean(found):{form}} ({min(found):{form}} to {max(found):{form}}, n={len(found)})"

    def more_than(self, other: "Group", value: Callable[[Ran], float]) -> float:
        """How much more this scheme's value is than the other's, in the mean over the seeds that both have."""
        theirs = {run.seed: value(run) for run in other.runs}
        return mean(value(run) - theirs[run.seed] for run in self.runs if run.seed in theirs)

    def over(self, other: "Group", value: Callable[[Ran], float]) -> list[float]:
        """This scheme's value over the other's, seed by seed."""
        theirs = {run.seed: value(run) for run in other.runs}
        return [value(run) / theirs[run.seed] for run in self.runs if theirs.get(run.seed)]


def groups(runs: Sequence[Ran], workload: str) -> dict[str, Group]:
    """The runs of a workload by scheme, in the order of the tables."""
    found = {}
    for scheme in (*FIXED[workload], CHOSEN[workload]):
        of = sorted((r for r in runs if (r.workload, r.scheme) == (workload, scheme)), key=lambda r: r.seed)
        if of:
            found[scheme] = Group(scheme, tuple(of))
    return found


def page(runs: Sequence[Ran]) -> str:
    """The whole page."""
    parts = [HEAD, *filter(None, [unfinished(runs)]), devices(runs)]
    for workload, section in (("diffusion", diffusion), ("classifier", classifier)):
        found = groups(runs, workload)
        if found:
            parts.append(section(found))
    return "\n\n".join(parts)


def unfinished(runs: Sequence[Ran]) -> str:
    """Which runs are missing for SEEDS seeds of every scheme; empty if none is."""
    lacking = []
    for workload in CHOSEN:
        found = groups(runs, workload)
        for scheme in (*FIXED[workload], CHOSEN[workload]):
            count = len(found[scheme].runs) if scheme in found else 0
            if count < SEEDS:
                lacking.append(f"{workload} {scheme} {count}")
    said = f"**Not finished.** {SEEDS} seeds of each scheme are meant; there are of " + ", ".join(lacking) + "."
    return said if lacking else ""


HEAD = """# On-demand bits and chosen precision against fixed ones

`bench/ondemand.py`: one coordinator, four agents as processes on one machine; the same rounds, steps and seeds for
every scheme. Joules of a device are those of its kind's CPU-time model on this machine's processor time
(estimated; idle watts count for as long as it is at work). Those of the radio are modelled from bytes and seconds
on the air (estimated). Those of the paper's chip are spent nowhere. No column adds two of the three. Spreads are
least to most over the seeds."""


def devices(runs: Sequence[Ran]) -> str:
    """What the devices and their links are."""
    rows = []
    for number, (name, trace) in enumerate(LINKS.items(), start=1):
        known = kind(name)
        quota = QUOTA_PART * known.emulation.cpus if known.emulation and all(r.quotas for r in runs) else None
        watts = (
            f"{known.energy.idle_watts:g} + {known.energy.watts_per_core:g} per busy core ({known.energy.scope})"
        )
        rows.append(
            (f"agent-{number}", name, "none" if quota is None else f"{quota:g} cores", watts, f"`{trace}`")
        )
    said = table(["device", "kind", "CPU quota", "watts", "link"], rows)
    return f"""{said}

A quota is a ceiling: where the machine has other work, seconds grow, and with them the joules of idle watts."""


def diffusion(found: dict[str, Group]) -> str:
    """On-demand bits against fixed ones."""
    rows = [
        (
            scheme,
            group.spread(lambda r: r.last("fid")),
            group.spread(lambda r: r.last("recall"), ".3f"),
            group.spread(lambda r: r.last("coverage"), ".3f"),
            group.spread(lambda r: sum(r.joules["training"].values()), ",.0f"),
            group.spread(lambda r: sum(r.joules["transfers"].values()), ",.0f"),
            group.spread(lambda r: r.radio_joules, ",.2f"),
            group.spread(lambda r: r.up_bytes / 1e6, ",.2f"),
            group.spread(lambda r: r.down_bytes / 1e6, ",.2f"),
            group.spread(lambda r: r.seconds, ",.0f"),
        )
        for scheme, group in found.items()
    ]
    any_run = next(iter(found.values())).runs[0]
    head = (
        *("scheme", "FID", "recall", "coverage", "training J", "transfers J", "radio J"),
        *("MB up", "MB down", "seconds"),
    )
    return f"""## Diffusion on Fashion-MNIST

`experiments/{FILES["diffusion"]}`, {any_run.rounds} rounds of {any_run.steps} steps on {len(LINKS)} devices.
fp32 sends 32 bits both ways; every other scheme sends the model down as on-demand does. Diversity is recall and
coverage. Training and transfers are joules of the devices while they train and encode, and while they download and
upload.

{table(head, rows)}

- fid: {any_run.notes.get("fid", "")}
- recall, coverage: {any_run.notes.get("recall", "")}

{bits_sent(found)}

The tolerances were set after a trial with seed 0, whose wider ones (20e-3, 8e-3, 6e-3, 5e-3) asked for 2, 3, 3 and
3 bits, and whose FID was 1.058 times that of fp32: that on-demand holds its FID with this seed was chosen, not
found.

{verdict(found)}

{chance(found)}

{predicted(found)}"""


def bits_sent(found: dict[str, Group]) -> str:
    """Which bits on-demand chose."""
    group = found.get(CHOSEN["diffusion"])
    if group is None:
        return ""
    names = sorted({name for run in group.runs for of in run.bits for name in of})
    rows = []
    for name, kind_name in zip(names, LINKS, strict=False):
        by_round = [
            [run.bits[i][name] for run in group.runs if name in run.bits[i]] for i in range(group.runs[0].rounds)
        ]
        rows.append((name, kind_name, *(f"{mean(b):.3g}" for b in by_round)))
    head = ["device", "kind", *(f"round {i}" for i in range(1, group.runs[0].rounds + 1))]
    return f"Bits that on-demand sent, means over the seeds:\n\n{table(head, rows)}"


def verdict(found: dict[str, Group]) -> str:
    """Where on-demand is the cheapest of those as good, and where it is not."""
    mine, full = found.get(CHOSEN["diffusion"]), found.get(FULL)
    if mine is None or full is None:
        return ""
    rows = []
    for scheme, other in found.items():
        if other is mine:
            continue
        ratio = other.over(mine, lambda r: r.last("fid"))
        rival = scheme == FULL or mean(ratio) <= 1 + WITHIN
        apart = [1 - x for x in mine.over(other, lambda r: r.device_joules + r.radio_joules)]
        joules, moved = mean(apart), 1 - mean(mine.over(other, lambda r: float(r.bytes)))
        saved = [
            1 - mean(mine.over(other, value))
            for value in (
                lambda r: sum(r.joules["training"].values()),
                lambda r: sum(r.joules["transfers"].values()),
                lambda r: r.radio_joules,
            )
        ]
        held = "held" if joules > 0 and moved > 0 else "NOT held"
        rows.append(
            (
                scheme,
                f"{mean(ratio):.3f} ({min(ratio):.3f} to {max(ratio):.3f})",
                f"{moved:+.1%}",
                f"{joules:+.1%} ({min(apart):+.1%} to {max(apart):+.1%})",
                *(f"{s:+.1%}" for s in saved),
                held if rival else "not as good: no rival",
            )
        )
    own = mine.over(full, lambda r: r.last("fid"))
    quality = "held" if mean(own) <= 1 + WITHIN else "NOT held"
    head = [
        *("against", "its FID over on-demand's", "bytes saved", "joules saved", "of training", "of transfers"),
        *("of radio", "fewer joules and bytes"),
    ]
    return f"""What on-demand saves, in the mean over the seeds. Joules are those of devices and radio
together; a scheme is a rival if its FID is at most {WITHIN:.0%} above on-demand's.

{table(head, rows)}

On-demand's FID over that of fp32, seed by seed: {mean(own):.3f} ({min(own):.3f} to {max(own):.3f}).
At most {1 + WITHIN}: {quality}.
All schemes train alike, so what they differ by under *of training* is the machine, not the scheme."""


def chance(found: dict[str, Group]) -> str:
    """What the nearest rival differs by, beside what the machine makes of the same training."""
    mine = found.get(CHOSEN["diffusion"])
    others = [g for g in found.values() if g is not mine]
    if mine is None or not others:
        return ""
    nearest = min(others, key=lambda g: g.more_than(mine, _moving))
    gap = nearest.more_than(mine, _moving)
    training = [t for g in found.values() for t in g.of(lambda r: sum(r.joules["training"].values()))]
    around = max(abs(t - mean(training)) for t in training)
    said = f"""Of the others {nearest.scheme} has the cheapest transfers, {gap:,.0f} J more a run than on-demand's,
radio included, of {mean(mine.of(_whole)):,.0f} J in all. Training, the same steps in every run, came to
{mean(training):,.0f} J and was off that by up to {around:,.0f} J by chance."""
    if 0 < gap < around:
        said += f"""
So totals of so few runs cannot tell the two apart, whichever sign they give; transfers and bytes can. For the bits
to show in the total, a round would have to move {around / gap:.0f} times as much for the same training: a larger
model, slower links, or fewer steps between uploads."""
    elif gap <= 0:
        said += """
On-demand asks for as many bits or more there: with these tolerances it is no cheaper. They would have to be
wider."""
    return said


def _moving(run: Ran) -> float:
    return sum(run.joules["transfers"].values()) + run.radio_joules


def _whole(run: Ran) -> float:
    return run.device_joules + run.radio_joules


def predicted(found: dict[str, Group]) -> str:
    """How far predictions were off."""
    rows = [
        (scheme, *(_percent(group, value) for value in (lambda r: r.joules_error, lambda r: r.seconds_error)))
        for scheme, group in found.items()
    ]
    rows = [row for row in rows if row[1:] != ("—", "—")]
    if not rows:
        return ""
    said = table(["scheme", "joules off by", "seconds off by"], rows)
    return f"""Predicted against actual: medians over the assignments from round {FROM_ROUND} on, means over seeds.

{said}"""


def _percent(group: Group, value: Callable[[Ran], float | None]) -> str:
    known = [v for run in group.runs if (v := value(run)) is not None]
    return f"{mean(known):.0%}" if known else "—"


def classifier(found: dict[str, Group]) -> str:
    """Chosen precision against 32 bits and fixed ones."""
    full = found.get(FULL)
    if full is None:
        return ""
    aims = {run.seed: run.last("accuracy") - POINT for run in full.runs}
    rows = []
    for scheme, group in found.items():
        runs = [run for run in group.runs if run.seed in aims]
        ends = [reached(run, aims[run.seed]) for run in runs]
        known = [(run, end) for run, end in zip(runs, ends, strict=True) if end is not None]
        run = group.runs[0]
        rows.append(
            (
                scheme,
                f"{', '.join(sorted({p for r in group.runs for p in r.precisions}))}",
                f"{mean(b for r in group.runs for of in r.bits for b in of.values()):.3g}",
                f"{run.steps} x {run.taking_part}",
                group.spread(lambda r: r.last("accuracy"), ".3f"),
                f"{len(known)} of {len(runs)}",
                _mean([end[0] for _, end in known], ",.0f"),
                _mean([run.device_joules * end[1] for run, end in known], ",.0f"),
                _mean([run.radio_joules * end[2] for run, end in known], ",.3f"),
                _mean([(run.chip_joules or 0.0) * end[2] for run, end in known], ",.3f"),
                _mean([run.bytes * end[2] / 1e6 for run, end in known], ",.2f"),
            )
        )
    head = (
        *("scheme", "precision", "bits up", "steps x devices", "last accuracy", "reached it", "rounds"),
        *("device J", "radio J", "chip J", "MB"),
    )
    return f"""## Classifier of Fashion-MNIST at a chosen precision

`experiments/{FILES["classifier"]}`, {full.runs[0].rounds} rounds. Other schemes take as many steps and
devices as the policy chose, and the bits of their name for precision and update. Rounds, joules and bytes are
those until the model was first within a point (0.01) of the last accuracy at 32 bits with the same seed, in the
mean over the seeds that got there. Chip: what those steps would take on the paper's chip, by multiplications and
memory. A simulated precision spends as many device joules as the full one, or more.

{table(head, rows)}

{savings(found, aims)}

{predicted(found)}"""


def reached(run: Ran, accuracy: float) -> tuple[float, float, float] | None:
    """Round, share of joules and share of rounds when the model first was so accurate; None if it never was."""
    for at in run.curve:
        if at["accuracy"] >= accuracy:
            return at["round"], at["share"], at["round"] / run.rounds
    return None


def savings(found: dict[str, Group], aims: dict[int, float]) -> str:
    """Both savings against 32 bits beside the published one."""
    mine, full = found.get(CHOSEN["classifier"]), found[FULL]
    if mine is None:
        return ""
    by_seed = {run.seed: run for run in full.runs}
    chip, spent = [], []
    for run in mine.runs:
        other = by_seed.get(run.seed)
        ends = (reached(run, aims[run.seed]), reached(other, aims[run.seed])) if other else (None, None)
        if other is None or ends[0] is None or ends[1] is None:
            continue
        (_, share, part), (_, other_share, other_part) = ends
        if run.chip_joules and other.chip_joules:
            paper = (run.chip_joules + run.radio_joules) * part
            chip.append(1 - paper / ((other.chip_joules + other.radio_joules) * other_part))
        devices = run.device_joules * share + run.radio_joules * part
        spent.append(1 - devices / (other.device_joules * other_share + other.radio_joules * other_part))
    rows = [
        ("published, arXiv 2111.07911, at the most", f"{PUBLISHED:.0%}"),
        ("the paper's accounting: chip and radio, both modelled", _savings(chip)),
        ("what the devices took, estimated, and the radio", _savings(spent)),
    ]
    return f"Saved by `precision` against 32 bits at the same accuracy:\n\n{table(['joules', 'saved'], rows)}"


def _savings(found: list[float]) -> str:
    if not found:
        return "the accuracy was not reached"
    return f"{mean(found):.0%} ({min(found):.0%} to {max(found):.0%}, n={len(found)})"


def _mean(found: list[float], form: str) -> str:
    return f"{mean(found):{form}}" if found else "—"

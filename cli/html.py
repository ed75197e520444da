"""A run's report as one page that needs nothing else: styles, plots and sample grids are inside it."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from cli import cells, plots, request_view
from cli.ledger_view import all_devices, chief_metric, choices, counted, ends, metric, metric_names, totals
from cli.request_report import Served
from cli.sheets import Sheet, headline, metric_notes, sheets
from fleet.domain import RunReport

NOTHING = Served()
STYLE = """
:root { --ink: #22303c; --soft: #5f6f7d; --line: #d9dfe5; --paper: #ffffff; --wash: #f4f6f8 }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .2rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem }
p { margin: .3rem 0 } .soft, figcaption, dt { color: var(--soft) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; margin: 1.6rem 0 }
dl div { background: var(--wash); border-radius: .5rem; padding: .8rem 1rem }
dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums }
.plots, .grids { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)) }
.grids { grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)) }
figure { margin: 0 } figure svg { width: 100%; height: auto }
figure svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif !important }
figure img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); border-radius: .3rem }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .88rem }
th, td { padding: .3rem .7rem .3rem 0; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
th { color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line) }
td { border-bottom: 1px solid var(--line) } .l { text-align: left }
pre { background: var(--wash); border-radius: .5rem; padding: 1rem; overflow-x: auto; font-size: .82rem }
@media print { body { max-width: none; padding: 0 } h2 { break-after: avoid }
  figure, tr { break-inside: avoid } }
"""

NOTE = f"""<p class="soft">Joules of different quality or scope are never added. “estimated” comes from a model of
the device kind, not from a meter; “wall” contains “board”, “board” contains “module”, “module” contains “package”.
“+” marks a total that some windows are missing from. {cells.NOT_MEASURED} means not measured.</p>"""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""


def page(report: RunReport, grids: Mapping[str, bytes], served: Served = NOTHING) -> str:
    """The page. `grids`: sample grids as PNG, by sha256; a grid that is not there is named as missing."""
    title = f"{report.run.experiment}: {report.run.run}"
    return PAGE.format(title=escape(title), style=STYLE, body="\n".join(_body(report, grids, served)))


def _body(report: RunReport, grids: Mapping[str, bytes], served: Served) -> Iterator[str]:
    yield f"<h1>{escape(report.run.experiment)}</h1>"
    yield f'<p class="soft">{escape(headline(report))}</p>'
    yield _facts(report)
    if found := [figure for figure in _plots(report) if figure]:
        yield '<h2>What it cost and what it gave</h2><div class="plots">' + "".join(found) + "</div>"
    if any(r.grid_sha256 for r in report.rounds):
        yield '<h2>Samples</h2><div class="grids">' + "".join(_grids(report, grids)) + "</div>"
    if served.reports:
        yield _table(request_view.summary(served.reports))
    if served.grids:
        shown = (_figure(_image(png, caption), caption) or "" for caption, png in served.grids.items())
        yield '<h2>Images by width and steps</h2><div class="grids">' + "".join(shown) + "</div>"
    yield from map(_table, sheets(report))
    yield NOTE
    for note in metric_notes(report):
        yield f'<p class="soft">{escape(note)}</p>'
    if report.experiment_json:
        yield f"<h2>Experiment</h2><pre>{escape(_pretty(report.experiment_json))}</pre>"


def _pretty(text: str) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def _facts(report: RunReport) -> str:
    moved = counted(all_devices(report))
    facts = [
        ("rounds", f"{report.run.round} of {report.run.rounds}"),
        (
            "bytes up, down, on the wire",
            f"{cells.size(moved.wire_up_bytes)}, {cells.size(moved.wire_down_bytes)}",
        ),
        ("joules", cells.energy(totals(all_devices(report), choices(report)))),
    ]
    for name in metric_names(report):
        if (both := ends(report, name)) is not None:
            facts.append((f"{name}, start to end", f"{cells.number(both[0])} → {cells.number(both[1])}"))
    return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts) + "</dl>"


def _plots(report: RunReport) -> Iterator[str | None]:
    name = chief_metric(report)
    if name is not None:
        drawn = plots.metric_against_joules(report, name)
        yield _figure(drawn, f"{name} of the model against the joules spent until it existed")
    for what, drawn in plots.joules_by_device(report):
        yield _figure(drawn, f"{what} joules of each round, by device")
    yield _figure(plots.predicted_beside_measured(report), "joules of each assignment, predicted and as they came")


def _figure(content: str | None, caption: str) -> str | None:
    return content and f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _grids(report: RunReport, grids: Mapping[str, bytes]) -> Iterator[str]:
    chief = chief_metric(report)
    for r in report.rounds:
        if r.grid_sha256 is None:
            continue
        value = metric(r, chief) if chief else None
        caption = f"round {r.round}" if value is None else f"round {r.round}, {chief} {cells.number(value)}"
        if r.grid_sha256 in grids:
            image = _image(grids[r.grid_sha256], f"samples of round {r.round}")
        else:
            image = f"<p>The coordinator no longer has grid {cells.digest(r.grid_sha256)}.</p>"
        yield _figure(image, caption) or ""


def _image(png: bytes, what: str) -> str:
    return f'<img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(sheet: Sheet) -> str:
    def line(tag: str, values: Sequence[str]) -> str:
        marks = [' class="l"' if i < len(sheet.words) else "" for i in range(len(values))]
        pairs = zip(marks, values, strict=True)
        return "<tr>" + "".join(f"<{tag}{mark}>{escape(v)}</{tag}>" for mark, v in pairs) + "</tr>"

    body = "".join(line("td", row) for row in sheet.rows)
    head = line("th", (*sheet.words, *sheet.numbers))
    return f'<h2>{escape(sheet.title)}</h2><div class="wide"><table>{head}{body}</table></div>'

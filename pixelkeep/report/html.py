"""Writes a comparison as one HTML page without scripts or other files, for phones, dark screens and paper."""

from __future__ import annotations

from html import escape

from pixelkeep.report.charts import against_cost, by_size, differences, swatch
from pixelkeep.report.comparison import Table, interval, method, notes, signed, tables, unit_of, verdict

# The colours of Okabe and Ito, which colour-blind people can tell apart; the first arm is grey.
_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#59636e;--line:#d5dae0;--card:#f5f7f9;
--a0:#6b7480;--a1:#0072b2;--a2:#d55e00;--a3:#009e73;--a4:#cc79a7;--a5:#b8860b}
@media (prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e6e9ec;--soft:#9aa4af;--line:#39414a;--card:#1e2329;
--a0:#a3adb8;--a1:#56b4e9;--a2:#f0894a;--a3:#3cc49a;--a4:#e0a0c4;--a5:#e6c04a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1100px;padding:16px;background:var(--bg);color:var(--fg);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2em 0;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:1.8em 0 .5em}
p,li{max-width:75ch;overflow-wrap:anywhere}
.soft{color:var(--soft);font-size:.9rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:14px}
.card,figure{margin:0;padding:12px;border:1px solid var(--line);border-radius:8px;background:var(--card);min-width:0}
.card h3{margin:0 0 .3em;font-size:1rem;overflow-wrap:anywhere}
.card p{margin:.15em 0}
.better{border-left:5px solid var(--a3)}.worse{border-left:5px solid var(--a2)}.open{border-left:5px solid var(--a0)}
figcaption{font-weight:600;font-size:.95rem;margin-bottom:4px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;padding:0;margin:0 0 10px;list-style:none}
.legend li{display:flex;align-items:center;gap:6px}
.swatch{width:14px;height:14px;flex:none}
.chart{display:block;width:100%;max-width:480px;height:auto;margin:auto}
.chart text{fill:var(--soft);font-size:12px}
.chart .over{fill:var(--fg);stroke:var(--card);stroke-width:5;paint-order:stroke}
.chart .rule{stroke:var(--line);stroke-width:1}.chart .zero{stroke:var(--fg);stroke-width:1.5;stroke-dasharray:4 3}
.chart line[class^=arm]{stroke-width:2.5;stroke-linecap:round}
.arm0{fill:var(--a0);stroke:var(--a0)}.arm1{fill:var(--a1);stroke:var(--a1)}.arm2{fill:var(--a2);stroke:var(--a2)}
.arm3{fill:var(--a3);stroke:var(--a3)}.arm4{fill:var(--a4);stroke:var(--a4)}.arm5{fill:var(--a5);stroke:var(--a5)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem;min-width:60%}
th,td{padding:5px 12px 5px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th.l,td.l{text-align:left}
@media (max-width:480px){table{font-size:.74rem;min-width:100%}th,td{white-space:normal;padding-right:6px}
th:first-child,td:first-child{overflow-wrap:anywhere;min-width:4.5em}th{vertical-align:bottom}}
@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#fff;
--a0:#6b7480;--a1:#0072b2;--a2:#d55e00;--a3:#009e73;--a4:#cc79a7;--a5:#b8860b}
body{max-width:none;padding:0;font-size:10pt}.card,figure,.scroll{break-inside:avoid}h2{break-after:avoid}
.grid{grid-template-columns:1fr 1fr}.scroll{overflow:visible}table{font-size:8.5pt}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def as_page(document: dict) -> str:
    """Return the HTML page of a comparison.

    Args:
        document: Document of the comparison, as ``pixelkeep compare --json`` prints it.
    """
    title = f"Comparison: {document['name']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(str(document["data"]))}, baseline <b>{escape(document["baseline"])}</b></p>',
        f'<div class="grid">{"".join(_cards(document))}</div>',
        f'<h2>Pictures</h2><ul class="legend">{_legend(document)}</ul><div class="grid">{_figures(document)}</div>',
        *(f"<h2>{escape(t.title)}</h2>{_table(t)}" for t in tables(document)),
        f"<h2>Notes</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in notes(document))}</ul>"
        if notes(document)
        else "",
        f'<h2>How it was made</h2><p class="soft">{escape(method(document))}</p>',
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _cards(document: dict) -> list[str]:
    """Return a card for each arm that has differences, coloured by its verdict on AP_S.

    This is the verdict at equal cost if there is one, else that against the baseline.
    """
    cards = []
    for arm in document["arms"]:
        own = [d for d in document["differences"] if d["arm"] == arm["name"]]
        if not own:
            continue
        joints = [d for d in document["equal_cost"] if d["arm"] == arm["name"]]
        verdicts = {d["verdict"] for d in joints or own if d["metric"] == "AP_S"}
        kind = next((v for v in ("better", "worse") if v in verdicts), "open")
        lines = "".join(map(_line, own))
        if joints:
            unit = unit_of(document["equal"])
            lines += f'<p class="soft">At equal {unit}, against {escape(joints[0]["stronger"])}:</p>'
            lines += "".join(map(_line, joints))
        cards.append(f'<div class="card {kind}"><h3>{escape(arm["name"])}</h3>{lines}</div>')
    return cards


def _line(d: dict) -> str:
    return f"<p>{d['metric']} <b>{signed(d['value'])}</b> ({interval(d)}): {verdict(d)}</p>"


def _legend(document: dict) -> str:
    return "".join(f"<li>{swatch(i)} {escape(arm['name'])}</li>" for i, arm in enumerate(document["arms"]))


def _figures(document: dict) -> str:
    arms = document["arms"]
    gflops = [arm["gflops"] and (arm["gflops"],) for arm in arms]
    params = [arm["params"] and (arm["params"] / 1e6,) for arm in arms]
    latency = [arm["latency"] and [arm["latency"][key] for key in ("ms", "low", "high")] for arm in arms]
    names = [arm["name"] for arm in arms]
    charts = [
        ("Difference from the baseline, 95 % interval", differences(document["differences"], names)),
        ("AP by object size", by_size(arms)),
        ("AP_S against compute", against_cost(arms, gflops, "GFLOPs an image")),
        ("AP_S against size", against_cost(arms, params, "million parameters")),
        ("AP_S against latency", against_cost(arms, latency, "ms an image")),
    ]
    return "".join(f"<figure><figcaption>{name}</figcaption>{chart}</figure>" for name, chart in charts if chart)


def _table(table: Table) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=l' if table.words(i) else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    head = f"<thead><tr>{row(table.header, 'th')}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'

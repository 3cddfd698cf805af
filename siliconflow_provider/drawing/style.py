"""The style sheet of reports and pages: light and dark, narrow and wide, without any file of its own."""

from __future__ import annotations

_LIGHT = """--sf-page:#fff;--sf-panel:#f6f8fa;--sf-text:#1f2328;--sf-muted:#59636e;--sf-line:#d1d9e0;
--sf-queued:#818b98;--sf-running:#0969da;--sf-finalizing:#8250df;--sf-good:#1a7f37;--sf-bad:#cf222e;--sf-warning:#9a6700;
color-scheme:light;"""
_DARK = """--sf-page:#0d1117;--sf-panel:#151b23;--sf-text:#e6edf3;--sf-muted:#9198a1;--sf-line:#3d444d;
--sf-queued:#8b949e;--sf-running:#4493f8;--sf-finalizing:#ab7df8;--sf-good:#3fb950;--sf-bad:#f85149;--sf-warning:#d29922;
color-scheme:dark;"""

# `data-theme` of the element of class `siliconflow` overrides the theme of the reader's system.
STYLE = f"""
.siliconflow{{{_LIGHT}}}
@media (prefers-color-scheme:dark){{.siliconflow:not([data-theme=light]){{{_DARK}}}}}
.siliconflow[data-theme=dark]{{{_DARK}}}
.siliconflow{{background:var(--sf-page);color:var(--sf-text);font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}}
body.siliconflow{{margin:0}}
.siliconflow main{{max-width:1500px;margin:0 auto;padding:16px}}
.siliconflow h1{{font-size:22px;margin:0 0 4px}}
.siliconflow h2{{font-size:17px;margin:28px 0 8px}}
.siliconflow a{{color:var(--sf-running)}}
.siliconflow code{{font:13px ui-monospace,monospace}}
.sf-muted{{color:var(--sf-muted)}}
.sf-badge{{display:inline-block;padding:0 8px;border:1px solid;border-radius:10px;font-weight:600;white-space:nowrap}}
.sf-good{{color:var(--sf-good)}}.sf-bad{{color:var(--sf-bad)}}.sf-warning{{color:var(--sf-warning)}}
.sf-facts{{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:8px;margin:12px 0}}
.sf-facts>div{{background:var(--sf-panel);border:1px solid var(--sf-line);border-radius:6px;padding:6px 10px}}
.sf-facts dt{{color:var(--sf-muted);font-size:12px}}
.sf-facts dd{{margin:0;font-size:16px;font-variant-numeric:tabular-nums}}
.sf-table{{border-collapse:collapse;width:100%}}
.sf-table caption{{text-align:left;color:var(--sf-muted);padding-bottom:4px}}
.sf-table th,.sf-table td{{text-align:left;vertical-align:top;padding:5px 10px 5px 0}}
.sf-table th,.sf-table td{{border-bottom:1px solid var(--sf-line)}}
.sf-table th{{color:var(--sf-muted);font-weight:600;white-space:nowrap}}
.sf-table ul{{margin:0;padding-left:16px}}
.sf-table td{{min-width:4em;font-variant-numeric:tabular-nums}}
.sf-text{{max-height:180px;overflow:auto;min-width:7em;max-width:70ch}}
.sf-word{{white-space:nowrap}}
.sf-svg{{display:block;overflow:visible;min-width:60px}}
.sf-svg text{{font:11px system-ui,sans-serif;fill:var(--sf-muted)}}
.sf-svg line{{stroke:var(--sf-muted);stroke-width:1}}
.sf-svg .sf-tick{{stroke:var(--sf-line)}}
.sf-track{{fill:var(--sf-line)}}.sf-done{{fill:var(--sf-good)}}.sf-failed{{fill:var(--sf-bad)}}
.sf-queued{{fill:var(--sf-queued);background:var(--sf-queued)}}
.sf-running{{fill:var(--sf-running);background:var(--sf-running)}}
.sf-finalizing{{fill:var(--sf-finalizing);background:var(--sf-finalizing)}}
.sf-svg .sf-ended,.sf-svg .sf-open{{stroke-width:3;stroke:var(--sf-muted)}}
.sf-svg .sf-is-completed{{stroke:var(--sf-good)}}
.sf-svg .sf-is-failed{{stroke:var(--sf-bad)}}
.sf-svg .sf-is-expired,.sf-svg .sf-is-cancelled{{stroke:var(--sf-warning)}}
.sf-svg .sf-now{{stroke:var(--sf-text)}}.sf-now{{background:var(--sf-text)}}
.sf-svg .sf-window{{stroke:var(--sf-bad);stroke-dasharray:3 2}}.sf-window{{background:var(--sf-bad)}}
.sf-chart{{margin:0}}
.sf-row{{display:grid;grid-template-columns:minmax(0,220px) 1fr minmax(0,260px)}}
.sf-row{{gap:0 12px;align-items:center;padding:2px 0}}
.sf-group{{font-weight:600;margin-top:6px}}
.sf-note,.sf-axis .sf-label{{color:var(--sf-muted);font-size:12px}}
.sf-legend{{display:flex;flex-wrap:wrap;gap:2px 16px;margin-top:6px;color:var(--sf-muted);font-size:12px}}
.sf-key{{display:inline-block;width:16px;margin-right:5px;vertical-align:middle}}
.sf-key.sf-queued{{height:3px}}.sf-key.sf-running{{height:12px}}.sf-key.sf-finalizing{{height:7px}}
.sf-key.sf-now,.sf-key.sf-window{{width:2px;height:12px}}
@media (max-width:700px){{
.siliconflow main{{padding:10px}}
.sf-facts{{grid-template-columns:repeat(auto-fill,minmax(120px,1fr))}}
.sf-row{{grid-template-columns:1fr;padding:4px 0}}
.sf-row .sf-svg{{grid-row:3}}
.sf-table thead{{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}}
.sf-table,.sf-table tbody,.sf-table tr,.sf-table td,.sf-table caption{{display:block}}
.sf-table tr{{border-bottom:1px solid var(--sf-line);padding:6px 0}}
.sf-table td{{border:0;padding:1px 0}}
.sf-table td:empty{{display:none}}
.sf-table td:not([data-label=""])::before{{content:attr(data-label) ": ";color:var(--sf-muted)}}
}}
""".replace("\n", "")

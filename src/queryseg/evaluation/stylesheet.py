"""How a report looks; light or dark as the reader's system wishes."""

STYLESHEET = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2327; --soft: #667079; --line: #e3e5e7; --heat: #2a9d8f; --bar: #2a9d8f;
  --wrong: #d64545; --unseen: #b4690e; --c0: #2a6f97; --c1: #c8553d; --c2: #588157; --c3: #8e6bbf; --c4: #b8860b;
  --c5: #4a5a68; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14181b; --card: #1c2226; --ink: #e6e9eb; --soft: #98a3ab; --line: #2f373d; --heat: #1f8377; --bar: #38b2a3;
  --wrong: #ff6b6b; --unseen: #e9a548; --c0: #6db3dc; --c1: #f0886f; --c2: #93c48b; --c3: #bfa3e6; --c4: #e3bf55;
  --c5: #a9b6c1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 36px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 22px 0 8px; }
section > p:last-child { margin-bottom: 0; }
.soft { color: var(--soft); }
.lead { color: var(--soft); margin: 0 0 24px; }
.warning { border-left: 4px solid #d64545; background: var(--card); padding: 10px 14px; margin: 0 0 14px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin: 0 0 20px; }
.figures { display: flex; flex-wrap: wrap; gap: 16px; margin: 0 0 20px; }
.figures > div { flex: 1 1 200px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 20px; }
.figures strong { display: block; font-size: 34px; line-height: 1.15; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: left; }
.domains { width: 100%; }
.domains th, .domains td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.domains thead th { color: var(--soft); font-weight: 500; font-size: 13px; }
.domains .number { text-align: right; }
.domains .difference { display: inline-block; min-width: 60px; color: var(--soft); }
.domains thead .across { text-align: center; }
.domains tr.mean td, .domains tr.mean th { border-bottom: 0; font-weight: 600; }
.track { position: relative; display: block; width: 100%; min-width: 200px; height: 12px; border-radius: 3px;
  background: var(--line); }
.track i { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 3px; background: var(--bar); }
.track b { position: absolute; top: 5px; height: 2px; min-width: 2px; background: var(--ink); }
.tag { font-size: 12px; border: 1px solid currentColor; border-radius: 99px; padding: 1px 9px; color: var(--soft); }
.tag.unseen { color: var(--unseen); }
.matrix { font-size: 13px; }
.matrix thead th { vertical-align: bottom; padding: 0 0 6px; font-weight: 500; text-align: center; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; }
.matrix thead i, .legend i { display: inline-block; width: 13px; height: 13px; border-radius: 3px;
  border: 1px solid rgb(128 128 128 / 45%); }
.matrix thead i { display: block; margin: 6px auto 0; }
.matrix tbody th { padding: 0 14px 0 0; white-space: nowrap; position: sticky; left: 0; background: var(--card); }
.matrix td { min-width: 42px; height: 32px; padding: 0 5px; text-align: center; border: 1px solid var(--card);
  background: color-mix(in srgb, var(--heat) calc(var(--score) * 82%), var(--card)); }
.matrix td.absent { color: var(--soft); background: none; }
.scores { width: 100%; }
.scores th, .scores td { padding: 7px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
.scores tbody th { padding-left: 0; }
.scores tbody tr.follows th:first-child { color: transparent; }
.scores tbody tr.continued th, .scores tbody tr.continued td { border-bottom-color: transparent; }
.scores thead th { color: var(--soft); font-weight: 500; font-size: 13px; vertical-align: bottom; }
.scores thead .number, .scores td { text-align: right; }
.scores td { background: color-mix(in srgb, var(--heat) calc(var(--score, 0) * 60%), var(--card)); }
.scores td.seen { outline: 2px dashed var(--soft); outline-offset: -3px; }
.scores td.best { font-weight: 700; }
.scores small, .scores thead small { display: block; font-weight: 400; font-size: 11.5px; color: var(--soft); }
.scores td small { color: var(--ink); opacity: 0.75; }
.confusion td { min-width: 21px; height: 22px; padding: 0; font-size: 10.5px; border-color: var(--line); }
.confusion td:not([style]) { background: none; }
.confusion td.wrong { background: color-mix(in srgb, var(--wrong) calc(var(--score) * 82%), var(--card)); }
.confusion thead th:first-child { font-size: 11px; text-align: right; padding-right: 10px; white-space: nowrap; }
.confusion thead span { font-size: 12px; }
.confusion thead i { width: 11px; height: 11px; }
.confusion tbody th { font-weight: 500; font-size: 12px; text-align: right; padding-right: 8px; }
.side-by-side { display: flex; flex-wrap: wrap; gap: 4px 28px; }
.side-by-side > div { width: min-content; max-width: 100%; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 6px; margin: 0 0 16px; }
.worst figure { margin: 0; }
.worst img { width: 100%; height: auto; display: block; border-radius: 4px; }
.worst figcaption { font-size: 12.5px; color: var(--soft); margin-top: 2px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 18px; }
.chart { width: 100%; max-width: 620px; height: auto; font-size: 11px; }
.chart text { fill: var(--soft); }
.chart .chart-title { fill: var(--ink); font-size: 12px; font-weight: 600; }
.chart .grid { stroke: var(--line); }
.chart polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve-0 { stroke: var(--c0); } .curve-1 { stroke: var(--c1); } .curve-2 { stroke: var(--c2); }
.curve-3 { stroke: var(--c3); } .curve-4 { stroke: var(--c4); } .curve-5 { stroke: var(--c5); }
.chart .name-0 { fill: var(--c0); } .chart .name-1 { fill: var(--c1); } .chart .name-2 { fill: var(--c2); }
.chart .name-3 { fill: var(--c3); } .chart .name-4 { fill: var(--c4); } .chart .name-5 { fill: var(--c5); }
.plot { font-size: 12px; }
.plot .run { font-weight: 600; }
.plot .front { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 6 4; }
.plot .diagonal { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
.plot .published { fill: var(--card); stroke: var(--soft); stroke-width: 1.5; }
.fill-0 { fill: var(--c0); } .fill-1 { fill: var(--c1); } .fill-2 { fill: var(--c2); }
.fill-3 { fill: var(--c3); } .fill-4 { fill: var(--c4); } .fill-5 { fill: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.legend i.wrong { background: var(--wrong); }
.strip { margin: 0 0 12px; }
.strip div { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 6px; }
.strip img { width: 100%; height: auto; display: block; border-radius: 4px; }
.strip figcaption { font-size: 12px; color: var(--soft); margin-top: 3px; }
.panels { overflow-x: auto; }
.panels img { display: block; border-radius: 4px; }
.heads { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 6px; font-size: 13px;
  color: var(--soft); margin: 10px 0 -14px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font-size: 12px; line-height: 1.45; }
"""

/** The page that a lab's figures stand on: one file, nothing fetched, no scripts, light and dark. Pure. */
import { escapeText } from "../../plot/svg.ts";

export interface Section {
  readonly title: string;
  /** HTML. */
  readonly body: string;
  /** Ids of what it shows. */
  readonly experiments: readonly string[];
}

/** Most ids that are listed; of more only the count is shown, and the journal has them. */
const NAMED = 2000;

export function page(title: string, lead: string, sections: readonly Section[]): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeText(title)}</title>
<style>${STYLE}</style>
<h1>${escapeText(title)}</h1>
${lead}
${sections.map(section).join("\n")}
</html>
`;
}

function section({ title, body, experiments }: Section): string {
  const ids = [...new Set(experiments)];
  const named = ids.slice(0, NAMED).map((id) => id.slice(0, 8));
  const more = ids.length > NAMED ? ` and ${ids.length - NAMED} more` : "";
  const list =
    ids.length === 0
      ? ""
      : `<details><summary>${ids.length} experiments</summary><p class="ids">${named.join(" ")}${more}</p></details>`;
  return `<section><h2>${escapeText(title)}</h2>\n${body}\n${list}</section>`;
}

export function plots(figures: readonly { readonly caption: string; readonly svg: string }[]): string {
  return `<div class="plots">${figures
    .map(({ caption, svg }) => `<figure><figcaption>${escapeText(caption)}</figcaption>\n${svg}</figure>`)
    .join("\n")}</div>`;
}

export function htmlTable(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((text) => `<th>${escapeText(text)}</th>`).join("");
  const body = rows.map((row) => `<tr>${row.map((text) => `<td>${escapeText(text)}</td>`).join("")}</tr>`);
  return `<table><tr>${head}</tr>\n${body.join("\n")}</table>`;
}

export const note = (text: string) => `<p class="note">${escapeText(text)}</p>`;

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #8884; --0: #0a58ca; --1: #b3400a; --2: #1a7f37; --3: #7a3aa8; --4: #5b6470; --5: #a3195b; --good: 26 127 55; --bad: 179 64 10; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --0: #6ea8fe; --1: #ff9d5c; --2: #5fd07a; --3: #cf9bff; --4: #aab4bf; --5: #ff8fc0; --good: 95 208 122; --bad: 255 157 92; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
section { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--faint); text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
figure { margin: 0; flex: 1 1 26rem; max-width: 38rem; }
figcaption { font-weight: 600; }
svg { width: 100%; font-size: 12px; }
svg text { fill: currentColor; }
.tick { opacity: .75; }
.name, .head { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.name { font-size: 10px; }
svg .named { fill: var(--hue); }
.head { font-weight: 600; }
.bound { stroke: currentColor; stroke-width: 2; }
.grid { stroke: var(--faint); fill: none; }
.line { fill: none; stroke: var(--hue); stroke-width: 2; }
.thin { fill: none; stroke: var(--hue); stroke-width: 1; opacity: .5; }
.one { stroke: currentColor; opacity: .6; }
circle { fill: var(--hue); }
.faint { opacity: .45; }
.flip { font-weight: 700; }
.cell { stroke: var(--paper); }
.hue-0 { --hue: var(--0); } .hue-1 { --hue: var(--1); } .hue-2 { --hue: var(--2); } .hue-3 { --hue: var(--3); } .hue-4 { --hue: var(--4); } .hue-5 { --hue: var(--5); }
.note { opacity: .75; }
.ids { font: 12px/1.5 ui-monospace, monospace; opacity: .75; word-spacing: .2em; }
`;

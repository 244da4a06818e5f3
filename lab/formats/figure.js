/** `node lab/formats/figure.js`: README's figure out of journal.jsonl, contrasts by model, as one file for light and dark pages. */
import { readFileSync, writeFileSync } from "node:fs";
import { forest, mainOf, plainOf } from "../../dist/lab/report/figures.js";
import { contrast, findSpec, fromLines, Methods, Snapshot } from "../../dist/lab.js";

const folder = new URL("./", import.meta.url);
const place = new URL("journal.jsonl", folder);
const known = new Snapshot(fromLines(readFileSync(place, "utf8"), "journal.jsonl"));
const methods = new Methods();
const plain = mainOf(plainOf(known));
const pairs = [
  ["K int4 g32 rotated, V int4 g32", "int4 g32"],
  ["K int4 g32 rotated less mean, V int4 g32", "K int4 g32 less mean, V int4 g32"],
  ["kvarn 4", "int4 g32"],
  ["kivi 4", "int4 g32"],
];
const contrasts = pairs.map(([a, b]) => {
  const [one, other] = [a, b].map((name) => findSpec(known, name, methods).id);
  const models = plain.models.filter(({ name }) => !name.includes("needle")).map(({ id }) => id);
  return contrast(known, one, other, { models });
});
const svg = /<svg [\s\S]*<\/svg>/.exec(forest(plain, contrasts).body)?.[0] ?? "";
const page = readFileSync(new URL("report.html", folder), "utf8");
const style = /<style>([\s\S]*?)<\/style>/.exec(page)?.[1] ?? "";
writeFileSync(
  new URL("contrasts.svg", folder),
  `${svg
    .replace(
      "<svg ",
      '<svg xmlns="http://www.w3.org/2000/svg" width="900" font-family="system-ui, sans-serif" font-size="13" ',
    )
    .replace('">', `"><style>${style} svg { color: var(--ink); background: var(--paper) }</style>`)}\n`,
);

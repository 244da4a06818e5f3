/**
 * `npm run docs`: the documents and the API pages as one static site, dist/docs/. Markdown is rendered by marked; API
 * pages come from the declarations in dist/ (api-pages.js), which are built first if they are missing. Fails on a link
 * that leads nowhere.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Marked } from "marked";
import { entriesOf, exportsOf, headOf } from "./api-pages.js";
import { anchorOf, brokenLinks, documents } from "./docs-links.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const site = join(root, "dist/docs");

const NAVIGATION = [
  ["README.md", "Nibble"],
  ["docs/guide.md", "Guide"],
  ["docs/library.md", "Library"],
  ["docs/server.md", "Server"],
  ["docs/page.md", "Chat page"],
  ["docs/attention.md", "Attention"],
  ["docs/guessing.md", "Guessing"],
  ["docs/figures.md", "Figures"],
  ["docs/formats.md", "Formats"],
  ["docs/families.md", "Families"],
  ["docs/limits.md", "Limits"],
  ["docs/how-to-add.md", "How to add"],
  ["ARCHITECTURE.md", "Architecture"],
  ["STYLE.md", "Style"],
  ["docs/api/index.md", "API"],
];

const CSS = `body{margin:0;font:16px/1.55 system-ui,sans-serif;color:#1c1c1c;background:#fff;display:flex}
nav{flex:none;width:12rem;padding:1.5rem;border-right:1px solid #ddd;min-height:100vh}nav a{display:block;padding:.15rem 0}
main{flex:1;min-width:0;max-width:56rem;padding:1rem 2rem 4rem}a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}
pre{background:#f5f5f3;padding:.8rem;overflow-x:auto}code{font:14px/1.45 ui-monospace,monospace;background:#f5f5f3}
table{border-collapse:collapse;display:block;overflow-x:auto}td,th{border:1px solid #ddd;padding:.3rem .6rem;vertical-align:top;text-align:left}
img{max-width:100%}@media(max-width:50rem){body{display:block}nav{width:auto;min-height:0}}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}pre,code{background:#242424}td,th,nav{border-color:#444}a{color:#8ab4f8}}`;

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
/** README is the site's first page. */
const pageOf = (path) => (path === "README.md" ? "index.html" : path.replace(/\.md$/, ".html"));

function render(path, markdown) {
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, raw }) {
        const id = anchorOf(raw.replace(/^#+ /, ""));
        return `<h${depth} id="${id}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      link({ href, tokens }) {
        const [file, anchor] = href.split("#");
        const to =
          /^[a-z]+:/.test(href) || !file.endsWith(".md")
            ? href
            : `${linkTo(path, file)}${anchor ? `#${anchor}` : ""}`;
        return `<a href="${escaped(to)}">${this.parser.parseInline(tokens)}</a>`;
      },
    },
  });
  const here = dirname(pageOf(path));
  const links = NAVIGATION.map(
    ([target, title]) => `<a href="${relative(here, pageOf(target)) || "index.html"}">${title}</a>`,
  ).join("");
  const title = /^# (.+)$/m.exec(markdown)?.[1] ?? path;
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${CSS}</style><nav>${links}</nav><main>${marked.parse(markdown)}</main></html>`;
  const target = join(site, pageOf(path));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, html);
}

function linkTo(path, file) {
  const target = relative(root, join(root, dirname(path), file));
  return relative(dirname(pageOf(path)), pageOf(target));
}

const broken = brokenLinks(root);
if (broken.length > 0) throw new Error(`links that lead nowhere:\n${broken.join("\n")}`);
if (!existsSync(join(root, "dist/index.d.ts"))) {
  const { status } = spawnSync(process.execPath, [join(root, "scripts/build.js")], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
rmSync(site, { recursive: true, force: true });
for (const path of documents(root)) render(path, readFileSync(join(root, path), "utf8"));

const names = [];
for (const [entry, path] of entriesOf(root)) {
  const all = [...exportsOf(path).values()].sort((a, b) => a.name.localeCompare(b.name));
  const page = `docs/api/${entry.replace("/", "-")}.md`;
  const parts = all.map(
    ({ kind, name, doc, text }) => `## ${name}\n\n*${kind}*\n\n${doc}\n\n\`\`\`ts\n${text}\n\`\`\``,
  );
  const list = all.map(({ name }) => `[${name}](#${anchorOf(name)})`).join(" · ");
  render(page, [`# ${entry}`, headOf(path), list, ...parts].join("\n\n"));
  names.push(`- [${entry}](${entry.replace("/", "-")}.md): ${all.length} names`);
}
render("docs/api/index.md", `# API\n\n${names.join("\n")}\n`);
// Files that documents show or link to besides each other.
for (const path of ["bench/results", "LICENSE", "examples"])
  cpSync(join(root, path), join(site, path), { recursive: true });
console.log(`dist/docs: ${documents(root).length} documents, ${names.length} entries of the library`);

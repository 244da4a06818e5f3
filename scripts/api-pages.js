/**
 * Makes documents of the library's public names from the declarations that the compiler writes to dist/: an entry's
 * exports are followed to their declaration, which is shown with its docstring. (TypeDoc needs the compiler's
 * JavaScript API, which TypeScript 7 does not have; delete this file once it does.)
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const DECLARATION =
  /^(\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?export (?:declare )?(?:abstract )?(class|interface|type|function|const) (\w+)/gm;

const asDeclarations = (path) => path.replace(/\.(ts|js)$/, ".d.ts");

/** Everything that a file of declarations exports, by name: { kind, name, doc, text }. */
export function exportsOf(path) {
  const text = readFileSync(path, "utf8");
  const found = new Map();
  for (const match of text.matchAll(DECLARATION)) {
    const [all, doc = "", kind, name] = match;
    const begin = match.index + doc.length;
    const known = found.get(name);
    const more = text.slice(begin, endOf(text, match.index + all.length));
    // Overloads of a function.
    if (known?.kind === kind && kind === "function") known.text += `\n${more}`;
    else found.set(name, { kind, name, doc: words(doc), text: more });
  }
  for (const [, list, from] of text.matchAll(/^export (?:type )?(\{[^}]*\}|\*) from "(\.[^"]+)";/gm)) {
    const target = join(dirname(path), asDeclarations(from));
    if (!existsSync(target)) continue;
    const others = exportsOf(target);
    const names =
      list === "*"
        ? [...others.keys()]
        : list
            .slice(1, -1)
            .split(",")
            .map((name) => name.trim());
    for (const each of names.filter((name) => name !== "")) {
      const [name, as = name] = each.replace(/^type /, "").split(" as ");
      const other = others.get(name);
      if (other) found.set(as, { ...other, name: as });
    }
  }
  return found;
}

/** The file of declarations of each entry, by the name that a program imports: "nibble-llm/server". */
export function entriesOf(root) {
  const { name, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return Object.entries(exports).map(([path, { types }]) => [name + path.slice(1), join(root, types)]);
}

/** The names that an entry exports: each must have a page. */
export function namesOf(path) {
  const code = readFileSync(path, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const listed = [...code.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, list]) => list.split(","));
  const named = listed
    .map((item) =>
      item
        .trim()
        .split(/ as | /)
        .at(-1),
    )
    .filter((name) => name !== "");
  const declared = [...code.matchAll(DECLARATION)].map(([, , , name]) => name);
  return [...new Set([...named, ...declared])];
}

/** The docstring at the head of a file. */
export function headOf(path) {
  const found = /^\/\*\*(?:(?!\*\/)[\s\S])*\*\//.exec(readFileSync(path, "utf8"));
  return found ? words(found[0]) : "";
}

/** A comment's text with its line breaks: examples are indented. */
function words(comment) {
  return comment
    .replace(/^\/\*\*\s?|\s*\*\/\s*$/g, "")
    .replace(/^\s*\* ?/gm, "")
    .trim();
}

/** The end of a declaration: the brace that closes its first one, or the semicolon outside of all. */
function endOf(text, from) {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const letter = text[at];
    if (text.startsWith("/*", at)) at = text.indexOf("*/", at) + 1;
    else if ("{([".includes(letter)) depth++;
    else if ("})]".includes(letter)) {
      depth--;
      if (depth === 0 && letter === "}" && /^\s*(\n|$)/.test(text.slice(at + 1, at + 3))) return at + 1;
    } else if (letter === ";" && depth === 0) return at + 1;
  }
  return text.length;
}

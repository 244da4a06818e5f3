/** For Vite: leaves out parts of libraries and of src/ that no page runs and that a bundler cannot remove by itself. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Only the lexer and parser of the template library, from its sources: its one built file includes its runtime.
 * Templates run in our own evaluator (src/format/jinja/). Delete this when the library has entries for its parts.
 */
export function parserAlone(root) {
  const parts = ["lexer", "parser"].map((part) => join(root, "node_modules/@huggingface/jinja/src", part));
  const entry = "\0jinja-parser";
  return {
    name: "parser-alone",
    enforce: "pre",
    resolveId: (id) => (id === "@huggingface/jinja" ? entry : null),
    load: (id) =>
      id === entry ? parts.map((part) => `export * from ${JSON.stringify(part)};`).join("\n") : null,
  };
}

/**
 * marked without its HTML renderer, and for the options that the page uses: GitHub's Markdown. Its module ends by
 * building a parser with everything attached, and makes the rules of all options. Delete this when marked has entries
 * for its parts.
 */
export function lexerAlone() {
  return {
    name: "lexer-alone",
    transform(code, id) {
      if (!/[\\/]marked\.esm\.js$/.test(id)) return null;
      const names = ["Lexer", "Tokenizer"].map(
        (name) => new RegExp(`export\\{.*?\\b(\\w+) as ${name}\\b`).exec(code)?.[1],
      );
      const end = /\bvar (\w+)=new \w+;function \w+\(\w+,\w+\)\{return \1\.parse\(/.exec(code);
      const rules =
        /(\{normal:\w+,gfm:\w+),pedantic:\w+\},(\w+=\{normal:\w+,gfm:\w+),breaks:\w+,pedantic:\w+\}/;
      const builder = /function (\w+)\(\w+,\w+=""\)\{let \w+=typeof \w+=="string"/.exec(code)?.[1];
      if (names.includes(undefined) || !end || !rules.test(code) || builder === undefined)
        this.error("marked's module is not built as before: see lexerAlone");
      const lexer = code
        .slice(0, end.index)
        .replace(rules, "$1},$2}")
        .replace(new RegExp(`(?<=[=:(])${builder}\\(`, "g"), "/*@__PURE__*/$&")
        .replace(/this\.options\.gfm\b/g, "true")
        .replace(/this\.options\.(?:breaks|extensions|hooks|pedantic|silent)\b/g, "null");
      return { code: `${lexer}export{${names[0]} as Lexer,${names[1]} as Tokenizer};`, map: null };
    },
  };
}

/** temml without all but `render`: its module exports one object of everything. Delete this when temml exports names. */
export function renderAlone() {
  const all = /export \{ temml\$1 as default \};\s*$/;
  return {
    name: "render-alone",
    transform(code, id) {
      if (!/[\\/]temml\.mjs$/.test(id)) return null;
      if (!all.test(code)) this.error("temml's module ends otherwise than before: see renderAlone");
      return { code: code.replace(all, "export default { render };"), map: null };
    },
  };
}

/** Code behind methods that the chat page never calls: open and saved texts, the profile of a step. */
const NEVER_CALLED = {
  "src/engine/text-save.ts": ["saveText", "restoreText"],
  "src/engine/open-text.ts": ["OpenText"],
  "src/model/fingerprint.ts": ["fingerprint"],
  "src/device/webgpu/profile.ts": ["profileStep"],
};

export function calledAlone(root) {
  const left = new Map(Object.entries(NEVER_CALLED).map(([file, names]) => [join(root, file), names]));
  return {
    name: "called-alone",
    enforce: "pre",
    buildStart() {
      for (const [file, names] of left)
        for (const name of names)
          if (!new RegExp(`export (?:async function\\*?|class) ${name}\\b`).test(readFileSync(file, "utf8")))
            this.error(`${file} has no ${name}: see calledAlone`);
    },
    load: (id) =>
      left
        .get(id)
        ?.map((name) => `export const ${name} = undefined;`)
        .join("\n") ?? null,
  };
}

/** Lazily loaded scripts have no style sheets and scripts of their own, which Vite's helper would wait for. */
export function plainImports() {
  return {
    name: "plain-imports",
    enforce: "pre",
    load: (id) =>
      id === "\0vite/preload-helper.js" ? "export const __vitePreload = (load) => load();" : null,
  };
}

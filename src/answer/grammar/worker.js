// @ts-check
/**
 * The thread of grammars: compiles them, follows texts, reports which tokens may come next. It is a thread of its own,
 * since the library (@mlc-ai/web-xgrammar) aborts on what it does not understand and may take long. Plain JavaScript
 * because Node loads it as it stands, from the sources and from dist/.
 */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { parentPort, workerData } from "node:worker_threads";

// The library is CommonJS in a package that says it is not, so Node reads it as a module without these two names. As
// such it leaves its exports in a global. To be deleted once its package.json has an "exports" that Node can import
// (looked at: 0.1.27).
const globals = /** @type {any} */ (globalThis);
globals.require = createRequire(import.meta.url);
globals.__filename = fileURLToPath(import.meta.url);
/** Its message before it aborts. */
let said = "";
console.error = (...words) => {
  said += `${words.join(" ")}\n`;
};
console.log = console.warn = () => {};

await import("@mlc-ai/web-xgrammar");
/** @type {typeof import("@mlc-ai/web-xgrammar")} */
const { Grammar, GrammarCompiler, GrammarMatcher, TokenizerInfo } = globals.xgrammar;

/** bytes of all tokens in a row, starts[id] to starts[id + 1]; a token without bytes is one that no grammar may use. */
const { bytes, starts, endIds, vocab, mostGrowth } = workerData;
// Made when they are read: 150,000 views at once are 25 MB. Declared to take strings; a std::string takes bytes, too, and
// tokens are not always UTF-8.
const given = /** @type {string[]} */ (
  new Proxy([], {
    get: (_, key) =>
      key === "length" ? starts.length - 1 : bytes.slice(starts[Number(key)], starts[Number(key) + 1]),
  })
);
const info = await TokenizerInfo.createTokenizerInfo(given, "raw", false, vocab, endIds);
const compiler = await GrammarCompiler.createGrammarCompiler(info, false);

// The library's memory grows only this way; where it must not, the library aborts.
const { prototype } = WebAssembly.Memory;
const grow = prototype.grow;
let left = mostGrowth;
prototype.grow = function (pages) {
  left -= pages * 65536;
  if (left >= 0) return grow.call(this, pages);
  const reason = `it needs more than ${Math.round(mostGrowth / 2 ** 20)} MiB`;
  // The library adds to it.
  said ||= `${reason}\n`;
  throw new RangeError(reason);
};

/** The most recent grammars, by their text: programs use the same one again and again. */
const KEPT = 16;
/** @type {Map<string, import("@mlc-ai/web-xgrammar").CompiledGrammar>} */
const compiled = new Map();
/** @type {Map<number, import("@mlc-ai/web-xgrammar").GrammarMatcher>} */
const matchers = new Map();

/** @param {import("./grammar.ts").Grammar} grammar */
async function compile({ text, tags }) {
  const key = JSON.stringify([text, tags]);
  const found =
    compiled.get(key) ?? (await (tags ? compiler.compileStructuralTag(tags) : compileText(text ?? "")));
  compiled.delete(key);
  compiled.set(key, found);
  if (compiled.size > KEPT) {
    const [oldest] = compiled;
    compiled.delete(oldest[0]);
    oldest[1].dispose();
  }
  return found;
}

/**
 * The library's own function for a text leaks the grammar, 4 to 14 kB each time.
 * @param {string} text
 */
async function compileText(text) {
  const grammar = await Grammar.fromEBNF(text);
  try {
    return await compiler.compileGrammar(grammar);
  } finally {
    grammar.dispose();
  }
}

/**
 * After the last token the library leaves the bits as they are.
 * @param {import("@mlc-ai/web-xgrammar").GrammarMatcher} matcher
 */
async function maskOf(matcher) {
  const mask = await matcher.getNextTokenBitmask();
  if (vocab % 32 > 0) mask[mask.length - 1] &= (1 << (vocab % 32)) - 1;
  return mask;
}

/** @param {any} message */
async function answer({ kind, matcher: id, grammar, ids, token }) {
  if (kind === "start") {
    const found = await compile(grammar);
    // Asking for it with each matcher would make a handle each time, never disposed of.
    found.tokenizerInfo = () => info;
    // Without an end token a text ends where the grammar does.
    const matcher = await GrammarMatcher.createGrammarMatcher(found, undefined, endIds.length === 0);
    matchers.set(id, matcher);
    for (const before of ids) accept(matcher, before);
    return matcher.isTerminated() ? null : maskOf(matcher);
  }
  const matcher = matchers.get(id);
  if (!matcher) throw new Error("no such matcher");
  accept(matcher, token);
  return matcher.isTerminated() ? null : maskOf(matcher);
}

/**
 * @param {import("@mlc-ai/web-xgrammar").GrammarMatcher} matcher
 * @param {number} token
 */
function accept(matcher, token) {
  if (!matcher.acceptToken(token)) throw new Error(`token ${token} is not of the grammar`);
}

/** One message comes at a time, except those that free a matcher. */
let last = Promise.resolve();
parentPort?.on("message", (message) => {
  last = last.then(async () => {
    if (message.kind === "free") {
      matchers.get(message.matcher)?.dispose();
      matchers.delete(message.matcher);
      return;
    }
    said = "";
    const started = performance.now();
    try {
      const mask = await answer(message);
      parentPort?.postMessage({ mask, ms: performance.now() - started });
    } catch (error) {
      parentPort?.postMessage({ failed: said || (error instanceof Error ? error.message : String(error)) });
    }
  });
});
parentPort?.postMessage({ isReady: true });

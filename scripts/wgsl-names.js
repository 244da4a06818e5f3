/**
 * Short names for the kernels of a page's bundle: a name that a kernel's text declares becomes one or two letters, the
 * same in all texts, so that a library file fits every kernel. Unchanged are WGSL's own names, the names of values that
 * the loader rewrites, Params with its fields, which the packer looks up by name, and main.
 */

const NAME = /[A-Za-z_]\w*/g;
const LETTERS = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"];
const SECOND = [..."0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"];

/**
 * `kernels` and `libs`: all texts of a bundle, without comments. Returns a function that shortens the names in a text.
 */
export function shortNames(kernels, libs) {
  const texts = [...kernels, ...libs].map(({ text }) => text);
  // With all variants of a library file: they declare the same names.
  const programs = kernels.map(({ text, libs: used }) =>
    [text, ...libs.filter(({ name }) => used.includes(name.split(".")[0])).map((lib) => lib.text)].join("\n"),
  );
  const kept = new Set(["main", "Params"]);
  const keep = (name) => kept.add(name);
  for (const text of texts) {
    for (const [, block] of text.matchAll(/\/\/ <values>([\s\S]*?)\/\/ <\/values>/g))
      for (const [name] of block.matchAll(NAME)) keep(name);
    for (const [fields] of text.matchAll(/struct Params\{[\s\S]*?\}/g))
      for (const [, field] of fields.matchAll(/(\w+):/g)) keep(field);
    for (const [, attribute, argument] of text.matchAll(/@(\w+)(?:\((\w+)\))?/g))
      [attribute, argument].map(keep);
  }
  const declared = new Set();
  for (const program of programs) {
    const callable = found(program, /\b(?:fn|struct|alias) (\w+)/g);
    const variables = found(program, /\b(?:let|const|var(?:<[^>]*>)?) (\w+)/g);
    // Parameters and fields, and variables with a type.
    const typed = found(program, /\b([A-Za-z_]\w*):/g);
    typed.delete("default");
    for (const names of [callable, variables, typed]) for (const name of names) declared.add(name);
    // A name that a text uses and does not declare is WGSL's own, even if another text declares it.
    for (const { 0: name, index } of program.matchAll(NAME)) {
      const isCalled = program[index + name.length] === "(";
      const isMember = program[index - 1] === ".";
      const own = isMember
        ? typed
        : isCalled
          ? callable
          : callable.has(name) || variables.has(name)
            ? null
            : typed;
      if (own && !own.has(name)) keep(name);
    }
  }
  const counts = new Map();
  for (const text of texts)
    for (const [name] of text.matchAll(NAME)) counts.set(name, (counts.get(name) ?? 0) + 1);
  // Names that may be a vector's components are kept, too.
  const long = [...declared].filter((name) => !kept.has(name) && !/^[xyzw]+$|^[rgba]+$/.test(name));
  long.sort((a, b) => counts.get(b) - counts.get(a));
  // Two letters, the second not lower case: no word of WGSL is written like this.
  const pairs = LETTERS.flatMap((first) => SECOND.map((second) => first + second));
  const free = [...LETTERS, ...pairs].filter((name) => !counts.has(name));
  const short = new Map(
    long.map((name, i) => [name, free[i]]).filter(([name, to]) => to.length < name.length),
  );
  return (text) => text.replace(/(?<![\w.])\d[\w.]*|[A-Za-z_]\w*/g, (word) => short.get(word) ?? word);
}

function found(text, pattern) {
  return new Set([...text.matchAll(pattern)].map(([, name]) => name));
}

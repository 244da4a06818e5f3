/**
 * WGSL sources -> shader text. A kernel is true WGSL with working defaults; this file rewrites the right-hand sides of
 * its marked `const` and `alias` lines, appends its library files, and puts `enable`s before the first line, so that
 * the compiler's line numbers stay the file's.
 */
import { ArgumentError } from "../../format/errors.ts";
import type { KernelSource } from "./kernel-source.ts";
import { KERNELS, type KernelName, LIBS } from "./kernels.ts";
import { prune } from "./prune.ts";

/** A number becomes a literal of the const's own type; a string is used unchanged (an alias, a type, an expression). */
export type KernelValues = Readonly<Record<string, number | boolean | string>>;

export interface KernelSpec {
  readonly kernel: KernelName;
  readonly values: KernelValues;
  /** Variant of each library that has several: { reduce: "subgroup" }. */
  readonly libs?: Readonly<Record<string, string>>;
}

/**
 * Kernels that are compiled without the branches that they never take. The reason is unknown, the effect measured:
 * attention after 131,072 tokens took 118 us with them and 74 without (rq4), but prompts' products of 512 tokens 7.8 ms
 * with them and 9.5 without (H200, 2026-11-28).
 */
const PRUNED = /^attend/;

const BLOCK = /(\/\/ <values>\n)([\s\S]*?)(\/\/ <\/values>)/;

/**
 * The text to compile. Throws ArgumentError for a value that the kernel does not have, or a library that does not
 * exist.
 */
export function shaderText(spec: KernelSpec, enables: readonly string[]): string {
  const source = KERNELS[spec.kernel] as KernelSource;
  const unused = new Set(Object.keys(spec.values));
  const specialised = source.text.replace(BLOCK, (_, open: string, block: string, close: string) => {
    const lines = block.replace(
      /^(const|alias) (\w+)(: *\w+)? = [^;]*;/gm,
      (line, keyword: string, name: string, type = "") => {
        const value = spec.values[name];
        unused.delete(name);
        return value === undefined ? line : `${keyword} ${name}${type} = ${literal(value, type)};`;
      },
    );
    return open + lines + close;
  });
  if (unused.size > 0)
    throw new ArgumentError(`value of kernel ${spec.kernel}`, [...unused].join(", "), "names in its block");
  const libs = source.libs.map((name) => {
    const variant = spec.libs?.[name];
    const file = variant ? `${name}.${variant}` : name;
    const text = LIBS[file];
    if (text === undefined)
      throw new ArgumentError(`library of kernel ${spec.kernel}`, file, Object.keys(LIBS).join(", "));
    return text;
  });
  const front = enables.map((name) => `enable ${name}; `).join("");
  const text = [front + specialised, ...libs].join("\n");
  return PRUNED.test(spec.kernel) ? prune(text) : text;
}

function literal(value: number | boolean | string, type: string): string {
  if (typeof value !== "number") return String(value);
  if (type.includes("f32")) return Number.isInteger(value) ? `${value}.0` : `${value}`;
  return type.includes("u32") ? `${value}u` : `${value}`;
}

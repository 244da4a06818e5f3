/**
 * A method from a file (Node only): `--method ./mine.js`, a module whose default export is a Method. Its name gets the first
 * digits of the file's SHA-256, so that results of two versions never mix. The file is a program, run with all rights of this
 * process: only the command line can name one, never a spec.
 */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { FormatError, NibbleError } from "../../format/errors.ts";
import { sha256 } from "../hash.ts";
import type { Method } from "./method.ts";

export async function loadMethod(path: string): Promise<Method> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new NibbleError("io", `method ${path}: ${(cause as Error).message}`, { cause });
  }
  const digest = sha256(bytes).slice(0, 12);
  const module = await import(`${pathToFileURL(resolve(path)).href}?${digest}`).catch((cause) => {
    throw new FormatError(`method ${path}`, `no module (${cause?.message ?? cause})`, "JavaScript", {
      cause,
    });
  });
  const found = module.default as Partial<Method> | undefined;
  const isList = (list: unknown): list is number[] =>
    Array.isArray(list) && list.length > 0 && list.every((x) => Number.isInteger(x) && x >= 0);
  const isNeed = (need: unknown) => need === "token" || need === "page";
  const fail = (what: string, allowed: string): never => {
    throw new FormatError(`method ${path}`, what, allowed);
  };
  if (typeof found !== "object" || found === null)
    fail("no default export", "an object { name, needs, bits, apply, ... }");
  const { name, title = "", needs, bits, groups = [0], bitsOf, apply, rotates } = found!;
  if (typeof name !== "string" || !/^[\w.-]{1,40}$/.test(name))
    fail(`name ${String(name)}`, "letters, digits, . _ -");
  if (!needs || !isNeed(needs.keys) || !isNeed(needs.values))
    fail("needs", '{ keys: "token" or "page", values: the same }');
  if (!isList(bits)) fail("bits", "a list of whole numbers, such as [4]");
  if (!isList(groups)) fail("groups", "a list of whole numbers; [0]: its own");
  if (typeof bitsOf !== "function")
    fail("no bitsOf", "bitsOf({ bits, group, headDim, part }) -> bits a value");
  if (typeof apply !== "function")
    fail("no apply", "apply(vectors, { bits, group, headDim, part, seed }) in place");
  return {
    ...{ name: `${name}@${digest}`, title, needs: needs!, bits: bits!, groups, rotates },
    bitsOf: (shape) => bitsOf!.call(found, shape),
    apply: (vectors, setting) => apply!.call(found, vectors, setting),
  };
}

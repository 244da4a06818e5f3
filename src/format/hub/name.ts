/**
 * Parses the name of a model on the Hub as people type it: `hf:owner/name`, followed by `@revision` and
 * `:quantization`. No part of a name can lead out of the cache folder or the Hub's own paths.
 */
import { ArgumentError } from "../errors.ts";

export interface HubName {
  /** The name as it was typed. */
  readonly text: string;
  readonly owner: string;
  readonly name: string;
  /** A branch, tag or commit. */
  readonly revision: string;
  /** A quantization in any case ("q8_0"), or the path of a file in the repository ("sub/x.gguf"); null: the default. */
  readonly quant: string | null;
}

const SYNTAX = "hf:owner/name, optionally followed by @revision or :quantization (hf:owner/name:Q8_0)";

/** The Hub's rule: letters, digits, "-", "_", "."; neither "--" nor ".."; no "-" or "." at either end. */
const PART = /^(?!.*(--|\.\.))[A-Za-z0-9_]([\w.-]{0,94}[A-Za-z0-9_])?$/;
const REVISION = /^[A-Za-z0-9_][\w./-]{0,199}$/;
const QUANT = /^[A-Za-z0-9_][\w. +/-]{0,199}$/;

/** Whether a MODEL argument names a model on the Hub. */
export function isHubName(text: string): boolean {
  return text.startsWith("hf:");
}

/** Throws ArgumentError "model" for an invalid name. */
export function hubName(text: string): HubName {
  const match = /^hf:([^/@:]*)\/([^/@:]*)((?:[@:][^@:]*)*)$/.exec(text);
  const [, owner = "", name = "", rest = ""] = match ?? [];
  const ends = rest.match(/[@:][^@:]*/g) ?? [];
  const [revision, quant] = ["@", ":"].map((mark) => ends.filter((end) => end[0] === mark));
  const fine =
    [owner, name].every((part) => PART.test(part) && !part.endsWith(".git")) &&
    revision.length <= 1 &&
    quant.length <= 1 &&
    revision.every((end) => REVISION.test(end.slice(1)) && isPath(end.slice(1))) &&
    quant.every((end) => QUANT.test(end.slice(1)) && isPath(end.slice(1)));
  if (!match || !fine) throw new ArgumentError("model", JSON.stringify(text), SYNTAX);
  return {
    text,
    owner,
    name,
    revision: revision[0]?.slice(1) ?? "main",
    quant: quant[0]?.slice(1) ?? null,
  };
}

/** Whether a relative path with "/" between its parts stays inside the folder where it starts. */
export function isPath(path: string): boolean {
  return path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

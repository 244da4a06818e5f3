/**
 * Finds a checkpoint's family and reads its config: by `general.architecture` in GGUF, by `model_type` in config.json.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { UnsupportedError } from "../format/errors.ts";
import { describe } from "../format/json.ts";
import { checkConfig, type ModelConfig } from "./config.ts";
import type { Family, Harmless } from "./families/family.ts";
import { FAMILIES } from "./families/registry.ts";
import { FolderFile } from "./folder-file.ts";
import { GgufCheckpoint } from "./gguf-file.ts";
import { Fields } from "./read.ts";

export interface Read {
  readonly family: Family;
  readonly config: ModelConfig;
  readonly harmless: Harmless | null;
}

export async function readConfig(checkpoint: Checkpoint): Promise<Read> {
  const { kind, metadata, name } = checkpoint;
  if (kind === "gguf") {
    const architecture = new Fields(metadata, name).text("general.architecture");
    const [family, type] = find("Architecture", architecture, (family) => family.gguf);
    const file = new GgufCheckpoint(checkpoint, family, architecture, type);
    const config = checkConfig(await type.config(file), name);
    return { family, config, harmless: type.harmless ?? null };
  }
  const place = `${name}/config.json`;
  const modelType = new Fields(metadata, place).text("model_type");
  const [family, type] = find("Model type", modelType, (family) => family.folders);
  const config = await type.config(new FolderFile(checkpoint, family, modelType, type));
  return { family, config: checkConfig(config, place), harmless: type.harmless ?? null };
}

/** UnsupportedError with the known names and the one that is most similar. */
function find<Type>(
  what: string,
  name: string,
  typesOf: (family: Family) => Readonly<Record<string, Type>>,
): [Family, Type] {
  for (const family of FAMILIES) {
    const types = typesOf(family);
    if (Object.hasOwn(types, name)) return [family, types[name]];
  }
  const known = FAMILIES.flatMap((family) => Object.keys(typesOf(family)));
  const near = known.find((one) => slipsBetween(one, name) <= Math.max(1, name.length / 5));
  const hint =
    near &&
    ` The nearest is ${describe(near)}; if the model differs from it in name only, change the name in the file.`;
  throw new UnsupportedError(`${what} ${describe(name)}`, `Known: ${known.join(", ")}.${hint ?? ""}`);
}

/** Edit distance of two names; a very long `b` counts as entirely different. */
function slipsBetween(a: string, b: string): number {
  if (b.length > LONGEST) return b.length;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++)
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (letter === b[j] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}

const LONGEST = 64;

/** The two-layer llama of the engine's tests as the lab's model, on the reference device: milliseconds an experiment. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LabModel } from "../../src/lab/lab-model.ts";
import { tinyModel } from "../engine/tiny-model.ts";

const FOLDER = mkdtempSync(join(tmpdir(), "nibble-lab-test-"));
export const TINY = join(FOLDER, "tiny.gguf");
writeFileSync(TINY, tinyModel());
process.once("exit", () => rmSync(FOLDER, { recursive: true, force: true }));

export const openTiny = () => LabModel.open(TINY, { device: "reference", context: 128 });

/** Ids of letters. */
export const letters = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => 259 + ((i * i + seed * i + (i >> 2)) % 5));

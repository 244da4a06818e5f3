/**
 * Evidence that kernels which only a real GPU runs are right: which of their texts (kernel-texts.ts) passed the conformance suite
 * there. bench/conformance.ts writes rows, kernel-evidence.test.ts compares them with the texts of today. Rows of a file may
 * come from several parts of one run; a line { newer, reason } admits a kernel that is newer than its evidence until the
 * file is replaced by another run's.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import type { Texts } from "./kernel-texts.ts";

/** Of one variant, of some cases. */
export interface EvidenceRow {
  readonly op: "kernels";
  readonly adapter: string;
  readonly date: string;
  readonly variant: string;
  readonly traits: Traits;
  /** By kernel: hashes of texts that were run by cases which passed, and by cases which did not. */
  readonly passed: Readonly<Record<string, readonly string[]>>;
  readonly failed: Readonly<Record<string, readonly string[]>>;
}

/** A kernel that may be newer than its evidence; "*": all. */
interface NewerRow {
  readonly newer: string;
  readonly reason: string;
}

/** Collects texts by kernel. */
export class TextSets {
  readonly texts = new Map<string, Set<string>>();

  add(more: Texts): void {
    for (const [kernel, hashes] of more) {
      const own = this.texts.get(kernel) ?? new Set();
      for (const hash of hashes) own.add(hash);
      this.texts.set(kernel, own);
    }
  }

  /** As rows have them. */
  get listed(): Record<string, string[]> {
    return Object.fromEntries([...this.texts].sort().map(([kernel, hashes]) => [kernel, [...hashes].sort()]));
  }
}

export interface Evidence {
  /** The traits of each variant that was run. */
  readonly traits: ReadonlyMap<string, Traits>;
  readonly newer: readonly NewerRow[];
  /** How many of a kernel's texts have run in no case, or in one that failed. */
  unproven(texts: Texts): Record<string, number>;
}

/** null where there is no such file. */
export function readEvidence(path: string): Evidence | null {
  return existsSync(path) ? evidenceOf(readFileSync(path, "utf8")) : null;
}

export function evidenceOf(lines: string): Evidence {
  const all: (EvidenceRow | NewerRow)[] = lines
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => JSON.parse(line));
  const rows = all.filter((row) => "op" in row);
  const newer = all.filter((row) => "newer" in row);
  const hashesOf = (part: "passed" | "failed") =>
    new Set(rows.flatMap((row) => Object.values(row[part]).flat()));
  const [passed, failed] = [hashesOf("passed"), hashesOf("failed")];
  const admitted = new Set(newer.map(({ newer }) => newer));
  return {
    traits: new Map(rows.map(({ variant, traits }) => [variant, traits])),
    newer,
    unproven(texts) {
      const found: Record<string, number> = {};
      for (const [kernel, hashes] of texts) {
        const count = [...hashes].filter((hash) => !passed.has(hash) || failed.has(hash)).length;
        if (count > 0 && !admitted.has("*") && !admitted.has(kernel)) found[kernel] = count;
      }
      return found;
    },
  };
}

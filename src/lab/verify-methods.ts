/**
 * A lab's methods as `verify` reports formats (Node only): the same text, windows and rows, over an f16 cache in which each
 * method's keys and values are put in place after their append. So a researcher's own method can be compared with formats that
 * ship, by layer too, without a kernel.
 */
import { findModel } from "../engine/find-model.ts";
import { AbortedError } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import { openModel } from "../model/model.ts";
import { Tally } from "../study/verify/divergence.ts";
import { verdict } from "../study/verify/verdict.ts";
import type { VerifyOptions } from "../study/verify/verify.ts";
import type { DepthRow, VerifyRow } from "../study/verify/verify-rows.ts";
import { planStudy, type VerifyTests } from "../study/verify/verify-tests.ts";
import { LabModel, type LabModelOptions } from "./lab-model.ts";
import { METHODS, Methods } from "./methods/methods.ts";
import { loadMethod } from "./methods/outside.ts";
import { shippedBook } from "./shipped-book.ts";
import { specBits } from "./space.ts";
import { normalSpec } from "./spec.ts";
import type { Spec } from "./types.ts";

export interface VerifyMethodsOptions
  extends Pick<VerifyTests, "depths" | "positions" | "layers">,
    VerifyOptions,
    Pick<LabModelOptions, "device" | "threads" | "offline" | "memoryBytes"> {
  /**
   * Names of the lab's methods, or paths of modules whose default export is one. Each is measured at 4 bits if it has them, else at
   * its first, and at its first group; keys and values alike.
   */
  methods: readonly string[];
  text?: string;
  onLoad?: LabModelOptions["onProgress"];
}

/** name: what `load` takes. Throws what `LabModel.open`, `loadMethod` and `planStudy` do. */
export async function* verifyMethods(
  name: string,
  { methods: paths, text, signal, onLoad, onProgress, ...options }: VerifyMethodsOptions,
): AsyncGenerator<VerifyRow, void> {
  const own = await Promise.all(
    paths.map((path) => METHODS.find(({ name }) => name === path) ?? loadMethod(path)),
  );
  const methods = new Methods(own);
  const { depths, positions, layers } = options;
  const tests = { depths, positions, kv: ["int4"], needles: 0 };
  const body = text ?? (await shippedBook()).body;
  const looked = await openCheckpoint(await findModel(name, options));
  const study = await (async () => {
    const [{ config }, tokenizer] = [await openModel(looked), await looked.tokenizer()];
    const device = { name: "wasm", kvFormats: null };
    return planStudy(
      { tokenizer, template: null, trainedContext: config.trainedContext, device },
      body,
      tests,
    );
  })().finally(() => looked.close());

  const { ids, windows, context } = study;
  const model = await LabModel.open(name, { ...options, context, onProgress: onLoad, signal });
  try {
    const alone = layers ? model.layers : [];
    const readings = 1 + own.length * (1 + alone.length);
    const each = windows.reduce((sum, { to }) => sum + to, 0);
    let done = 0;
    /** One reading of the text. spec null: f16. */
    const read = async function* (kv: string, spec: Spec | null): AsyncGenerator<DepthRow> {
      const tallies: Tally[] = [];
      for (const { from, to } of windows) {
        const tally = new Tally();
        tallies.push(tally);
        const row = () => ({
          ...({ kind: "depth", depth: from, kv } as const),
          ...{ positions: tally.positions, perplexity: tally.perplexity, divergence: tally.divergence },
        });
        const part = model.text("verify", "search", ids.slice(0, to), from);
        try {
          for await (const { found, truth } of model.compare(spec, part, to - from, 0, methods, signal)) {
            tally.add(found, ids[from + tally.positions + 1], truth);
            const share = (done + from + tally.positions) / (readings * each);
            onProgress?.({
              doing: `${kv}: measuring from ${from}`,
              done: tally.positions,
              total: to - from,
              share,
            });
          }
        } catch (error) {
          if (error instanceof AbortedError && tally.positions > 0) yield row();
          throw error;
        }
        done += to;
        yield row();
      }
      if (tallies.length < 2) return;
      const { positions, perplexity, divergence } = Tally.all(tallies);
      yield { kind: "depth", depth: null, kv, positions, perplexity, divergence };
    };

    let overF16: VerifyRow[] = [];
    for (const method of [null, ...own]) {
      const kv = method?.name ?? "f16";
      const part = method && {
        method: method.name,
        bits: method.bits.includes(4) ? 4 : method.bits[0],
        group: method.groups[0],
      };
      const spec = part && normalSpec({ keys: part, values: part });
      const bits = spec ? specBits(spec, methods, { headDim: model.headDim, context }).bits : 16;
      const cacheBytes = Math.round((model.cacheBytes * bits) / 16);
      yield { kind: "format", kv, device: model.device, context, cacheBytes };
      const rows: VerifyRow[] = [];
      for await (const row of read(kv, spec)) {
        rows.push(row);
        yield row;
      }
      if (!spec) overF16 = rows;
      yield verdict(kv, rows, overF16, model.tokenizer.vocab);
      if (spec)
        for (const layer of alone)
          for await (const row of read(kv, { ...spec, layers: [layer, layer + 1] }))
            yield { ...row, kind: "layer", layer };
    }
  } finally {
    await model.close();
  }
}

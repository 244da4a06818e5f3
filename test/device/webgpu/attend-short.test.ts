/** attendShort over what it serves of the conformance suite, and which steps take it. */
import { expect, it } from "vitest";
import type { StepShape } from "../../../src/device/webgpu/dispatch.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { caseSteps } from "../case-runs.ts";
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";
import { ALL_TRAITS } from "./gpu.ts";

const named = (...names: string[]) =>
  names.map((each) => deviceCases.find(({ name }) => name === `appendKv, attend ${each}`)!);

conform(
  "short contexts, subgroups of 4",
  { few: 4, short: 100_000 },
  named(
    "int4, 4/2 heads of 128, steps [60,4], window null, softcap 5",
    "int4, 16/1 heads of 64, steps [50,50,50,1], window 32, softcap 0",
    "int4, 4/1 heads of 128, steps [[70,33,2],[1,1,1],[0,1,1]], window 33, softcap 0",
    "int4, keys of 1e5, steps 40,1",
  ),
);
conform(
  "short contexts, no subgroups",
  { subgroups: false, few: 4, short: 100_000 },
  named(
    "int4, 6/2 heads of 96, steps [70,1], window null, softcap 0",
    "with sinks int4, 4/2 heads of 64, steps [1,1], window null, softcap 0",
    "int4, queries of 1e6, steps 40,1",
  ),
);

/** Labels of attention in a step of rows alone at these positions. */
async function attentionOf(format: string, positions: readonly number[]) {
  const { graph } = await caseSteps(
    named(`${format}, 4/2 heads of 64, steps [33,1,1], window null, softcap 0`)[0],
  );
  const limits = { maxStorageBufferBindingSize: 2 ** 31, maxBufferSize: 2 ** 31 };
  const { modes } = compileGraph(graph, { ...ALL_TRAITS, few: 4, short: 64 }, limits);
  const singles = positions.map((position) => ({ position, packed: 0 }));
  const step = {
    tokens: singles.length,
    singles,
    spanned: singles.length,
    longs: [],
  } as unknown as StepShape;
  const dispatches = modes[singles.length === 1 ? "decode" : "few"];
  const labels = dispatches.filter(({ workgroups }) => workgroups(step) !== null).map(({ label }) => label);
  return labels.filter((label) => label.startsWith("attend"));
}

it("serves rows that see few positions of int4 together, and no others", async () => {
  const spans = ["attendDecode", "attendMerge"];
  expect(await attentionOf("int4", [63])).toEqual(["attendShort"]);
  expect(await attentionOf("int4", [64])).toEqual(spans);
  expect(await attentionOf("int4", [31, 31])).toEqual(["attendShort"]);
  expect(await attentionOf("int4", [31, 32])).toEqual(spans);
  expect(await attentionOf("rq4", [0])).toEqual(spans);
});

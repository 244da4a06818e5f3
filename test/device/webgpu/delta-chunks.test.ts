/** gatedDelta's kernel for prompts, which no device takes unless it is asked to, over what it serves of the conformance suite. */
import { expect, it } from "vitest";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { caseSteps } from "../case-runs.ts";
import { deviceCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";
import { ALL_TRAITS, describeGpu, nullDevice } from "./gpu.ts";

const named = (...names: string[]) => names.map((each) => deviceCases.find(({ name }) => name === each)!);

conform(
  "prompts in chunks, no subgroups",
  { subgroups: false, few: 1, deltaChunks: true },
  named(
    "gatedDelta of 3/1 heads of 40 x 32, steps [3,61]",
    "gatedDelta of 4/2 heads of 32 x 32, extreme gates, steps [40,67]",
    "gatedDelta of 2/1 heads of 128 x 128, tiled, steps [1,11,2]",
  ),
);
conform(
  "prompts in chunks, subgroups of 4",
  { few: 1, deltaChunks: true },
  named("gatedDelta of 4/2 heads of 32 x 32, steps [[19,2,0],[1,1,20],[9,0,1],[1,1,1]]"),
);

/** The kernels of gatedDelta in a case's steps of one row and of many. */
async function kernelsOf(name: string, deltaChunks: boolean) {
  const { graph } = await caseSteps(deviceCases.find((each) => each.name.startsWith(name))!);
  const limits = { maxStorageBufferBindingSize: 2 ** 31, maxBufferSize: 2 ** 31 };
  const { modes } = compileGraph(graph, { ...ALL_TRAITS, few: 1, several: 1, batch: 1, deltaChunks }, limits);
  return [modes.decode, modes.prompt].map(
    (dispatches) => dispatches.find(({ label }) => label === "gatedDelta")!.kernel,
  );
}

const LONG = "gatedDelta of 6/2 heads of 128 x 128";

it("serves prompts over keys that lanes share evenly, and nothing else", async () => {
  const names = async (name: string, deltaChunks: boolean) =>
    (await kernelsOf(name, deltaChunks)).map(({ kernel }) => kernel);
  expect(await names(LONG, true)).toEqual(["gatedDelta", "gatedDeltaChunks"]);
  expect(await names(LONG, false)).toEqual(["gatedDelta", "gatedDelta"]);
  expect(await names("gatedDelta of 2/1 heads of 80 x 48", true)).toEqual(["gatedDelta", "gatedDelta"]);
});

describeGpu("prompts in chunks", () => {
  it("compile for subgroups of 32, within the workgroup memory that every device has", async () => {
    const [, kernel] = await kernelsOf(LONG, true);
    await (await nullDevice()).pipeline(kernel);
  });
});

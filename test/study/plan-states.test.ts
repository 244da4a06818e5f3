/** Recurrent states in plans: their slots, what a slot takes in published shapes, and who asks for more. */
import { describe, expect, it } from "vitest";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { planContext, planMemory } from "../../src/engine/plan.ts";
import { attentionsOf } from "../../src/model/config.ts";
import { planTable } from "../../src/study/plan/plan-table.ts";
import { plannedModel } from "../../src/study/plan/planned.ts";

const MIB = 2 ** 20;
const device = referenceDevice();

describe("a plan for recurrent layers", () => {
  it.each([
    // llama.cpp's log says 144 MiB for the 27B's states (and 5.6 of convolutions), 60 for the 35B's.
    { shape: "qwen-3.5-27b", parameters: 26.9e9, layers: 48, heads: 144, attention: 16 },
    { shape: "qwen-3.5-35b-a3b", parameters: 34.7e9, layers: 30, heads: 60, attention: 10 },
    { shape: "qwen-3.5-9b", parameters: 8.95e9, layers: 24, heads: 48, attention: 8 },
    { shape: "qwen-3-next-80b-a3b", parameters: 79.7e9, layers: 36, heads: 72, attention: 12 },
  ])("$shape: $heads MiB of states a slot, and convolutions", async ({ shape, ...wanted }) => {
    const model = await plannedModel(shape);
    const table = planTable(model, device, { context: 32_768 });
    const { states } = table.plan;
    expect(states).toMatchObject({ layers: wanted.layers, slots: 8 });
    const { mixed, kernel } = { mixed: 2 * 16 * 128, kernel: 4 };
    const valueHeads = (wanted.heads * MIB) / (wanted.layers * 4 * 128 * 128);
    const convolutions = wanted.layers * (kernel - 1) * (mixed + valueHeads * 128) * 4;
    expect(states!.bytes / 8).toBe(wanted.heads * MIB + convolutions);
    expect(attentionsOf(model.config)).toHaveLength(wanted.attention);
    expect(Math.abs(table.model.parameters / wanted.parameters - 1)).toBeLessThan(0.01);
    const { weightBytes, activationBytes, workspaceBytes, overheadBytes, cacheBytes } = table.plan;
    const parts = weightBytes + cacheBytes + states!.bytes + activationBytes + workspaceBytes + overheadBytes;
    expect(table.plan.totalBytes).toBe(parts);
  });

  it("has three slots for each text at a time, and one for each snapshot", async () => {
    const model = await plannedModel("qwen-3.5-9b");
    const slots = (options: { parallel?: number; snapshots?: number }) =>
      planContext(model, device, { context: 1024, ...options }).graph.stateSlots;
    expect(slots({})).toBe(8);
    expect(slots({ parallel: 4 })).toBe(20);
    expect(slots({ snapshots: 0 })).toBe(3);
    expect(slots({ parallel: 2, snapshots: 30 })).toBe(36);
    expect(() => planMemory(model, device, { snapshots: -1 })).toThrow("snapshots");
  });

  it("has none for models without them", async () => {
    const model = await plannedModel("llama-3.2-1b");
    expect(planContext(model, device, { context: 1024 }).graph.stateSlots).toBe(0);
    expect(planTable(model, device, { context: 1024 }).plan.states).toBeNull();
  });
});

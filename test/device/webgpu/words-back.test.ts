/** Words on their way back from a GPU in software while later submits write them anew. */
import { expect, it, vi } from "vitest";
import { WordsBack } from "../../../src/device/webgpu/words-back.ts";
import { DeviceError } from "../../../src/format/errors.ts";
import { describeGpu, softwareDevice } from "./gpu.ts";

const STORAGE = 128 | 8 | 4;

/** Words 2 and on of a buffer of eight, and submits that write them. */
async function open() {
  const gpu = await softwareDevice();
  const { device } = gpu;
  const source = device.createBuffer({ size: 32, usage: STORAGE });
  const words = new WordsBack(gpu, source, 8);
  const submit = (count: number, first: number) => {
    device.queue.writeBuffer(source, 0, Uint32Array.of(99, 99, first, first + 1, first + 2, 0, 0, 0));
    const encoder = device.createCommandEncoder();
    const take = words.encode(encoder, count);
    device.queue.submit([encoder.finish()]);
    return take();
  };
  return { gpu, submit };
}

describeGpu("words back", () => {
  it("are those of their submit, however many are under way, through few buffers", async () => {
    const { gpu, submit } = await open();
    const made = vi.spyOn(gpu.device, "createBuffer");
    for (let round = 0; round < 3; round++) {
      const under = [10, 20, 30, 40].map((first, i) => submit(1 + (i % 3), first + round));
      expect((await Promise.all(under)).map((found) => [...found])).toEqual([
        [10 + round],
        [20 + round, 21 + round],
        [30 + round, 31 + round, 32 + round],
        [40 + round],
      ]);
    }
    expect(made).toHaveBeenCalledTimes(4);
  });

  it("of a device that is lost do not come: one error", async () => {
    const { gpu, submit } = await open();
    await submit(1, 5);
    const under = [submit(1, 6), submit(2, 7)];
    gpu.device.destroy();
    const errors = await Promise.all(under.map((words) => words.catch((error: unknown) => error)));
    for (const error of errors) {
      expect(error).toBeInstanceOf(DeviceError);
      expect(error).toBe(errors[0]);
    }
  });
});

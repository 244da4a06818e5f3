/** One text over an allocation, alone: its pages, the slots of its states, and how far it is. */
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, Device, Graph } from "../../src/device/contract.ts";
import { argmax } from "../../src/engine/sample.ts";
import type { Model } from "../../src/model/model.ts";
import { setAllPages } from "./golden.ts";

export class OneText {
  #position = 0;
  /** Of two, the one with its states. */
  #slot = 0;

  constructor(
    readonly graph: Graph,
    readonly allocation: Allocation,
  ) {
    setAllPages(graph, allocation);
  }

  static async open(
    model: Model,
    device: Device,
    options: { chunk: number; context: number; codec: string; oneVector?: boolean },
  ) {
    const { chunk, context, codec, oneVector = device.oneVector } = options;
    const graph = model.record({
      ...{ context, maxTokens: chunk, maxOutputs: chunk, codec: kvCodec(codec), keepLabels: true, oneVector },
    });
    const allocation = await device.allocate(graph);
    for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
    return new OneText(graph, allocation);
  }

  async run(ids: readonly number[], outputs = ids.length): Promise<void> {
    const position = this.#position;
    const from = position === 0 ? null : this.#slot;
    this.#slot ^= 1;
    const state = this.graph.states.length > 0 ? { from, to: this.#slot } : null;
    await this.allocation.run({ runs: [{ text: 0, ids: Uint32Array.from(ids), position, outputs, state }] });
    this.#position += ids.length;
  }

  /** Everything that has a name, and logits, of all ids in chunks. */
  async values(all: readonly number[], chunk: number): Promise<Map<string, Float32Array>> {
    const labelled = [...this.graph.labels, ["logits", this.graph.logits] as const];
    const found = new Map(labelled.map(([name, { cols }]) => [name, new Float32Array(all.length * cols)]));
    for (let at = 0; at < all.length; at += chunk) {
      const ids = all.slice(at, at + chunk);
      await this.run(ids);
      for (const [name, value] of labelled)
        found.get(name)!.set(await this.allocation.read(value, 0, ids.length), at * value.cols);
    }
    return found;
  }

  /** The prompt, and the likeliest ids after it, `count` in all. */
  async greedy(prompt: readonly number[], count: number): Promise<number[]> {
    const ids = [...prompt];
    await this.run(ids, 1);
    while (ids.length < count) {
      ids.push(argmax(await this.allocation.read(this.graph.logits, 0, 1)));
      await this.run(ids.slice(-1));
    }
    return ids;
  }
}

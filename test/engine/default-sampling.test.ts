/** Sampling as makers say: what their files say, what holds where they say nothing, ids that never come, texts without end. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultSampling, Suppressed } from "../../src/engine/default-sampling.ts";
import { type GenerateOptions, Generation, generateTokens, withDefaults } from "../../src/engine/generate.ts";
import { Repeats } from "../../src/engine/repeats.ts";
import { samplingFromConfig, samplingFromGguf } from "../../src/format/makers-sampling.ts";
import { gaussian, random } from "../device/random-tensor.ts";
import { piecesTokenizer, scripted } from "./scripted.ts";

const NONE = { suppress: [], suppressFirst: [] };

describe("makers say", () => {
  it.each([
    [{}, {}],
    [{ do_sample: true }, { temperature: 1, topK: 50, topP: 1, minP: 0 }],
    [
      { do_sample: true, temperature: 0.6, top_k: 20, top_p: 0.95 },
      { temperature: 0.6, topK: 20, topP: 0.95, minP: 0 },
    ],
    [{ temperature: 0.6 }, { temperature: 0.6, topK: 50, topP: 1, minP: 0 }],
    [{ do_sample: false, temperature: 0.6 }, { temperature: 0 }],
    [{ repetition_penalty: 1.1, eos_token_id: [1, 2] }, { repeatPenalty: 1.1 }],
    [{ do_sample: null, top_k: null }, {}],
  ])("generation_config.json %j", (config, expected) => {
    expect(samplingFromConfig(config)).toEqual({ ...NONE, ...expected });
  });

  it("ids that never come", () => {
    const found = samplingFromConfig({ suppress_tokens: [5, 7], begin_suppress_tokens: [220] });
    expect(found).toEqual({ suppress: [5, 7], suppressFirst: [220] });
  });

  it("keys of a GGUF, whose float32 is read as it was meant", () => {
    const metadata = { "general.sampling.temp": Math.fround(0.7), "general.sampling.top_k": 20 };
    expect(samplingFromGguf(metadata)).toEqual({ ...NONE, temperature: 0.7, topK: 20 });
  });

  it.each([
    [{ temperature: -1 }, /generation_config.json: temperature: -1; allowed: 0 to 100/],
    [{ top_k: 1.5 }, /top_k: 1.5; allowed: integers -1 to/],
    [{ top_p: "high" }, /top_p: "high"; allowed: 0 to 1/],
    [{ repetition_penalty: 0 }, /repetition_penalty: 0; allowed: above 0 to 100/],
    [{ suppress_tokens: 5 }, /suppress_tokens: 5; allowed: a list of token ids/],
    [{ suppress_tokens: [-1] }, /suppress_tokens/],
  ])("%j is refused", (config, message) => {
    expect(() => samplingFromConfig(config)).toThrow(message);
  });
});

describe("what holds where nothing is said", () => {
  it("is the makers' word, else 0.7 for models that talk, else the likeliest; needle is asked for facts", () => {
    expect(defaultSampling({ ...NONE, temperature: 0.6, topK: 20 }, "x", true)).toEqual({
      temperature: 0.6,
      topK: 20,
    });
    expect(defaultSampling(NONE, "x", true)).toEqual({ temperature: 0.7 });
    expect(defaultSampling({ ...NONE, repeatPenalty: 1.1 }, "x", true)).toEqual({
      temperature: 0.7,
      repeatPenalty: 1.1,
    });
    expect(defaultSampling(null, "x", false)).toEqual({});
    expect(defaultSampling(NONE, "Needle 14M", true)).toEqual({ temperature: 0 });
  });

  it("what a caller says counts, undefined says nothing", () => {
    const options = withDefaults({ temperature: 0, topK: undefined }, { temperature: 0.7, topK: 20 });
    expect(options).toEqual({ temperature: 0, topK: 20 });
  });
});

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
const VOCAB = LETTERS.length + 1;

function generate(options: GenerateOptions & { suppressed?: Suppressed | null }, chooses: boolean) {
  const at = (position: number) => {
    const next = random(position);
    return Float32Array.from({ length: VOCAB }, (_, id) => (id === 0 ? -9 : 2 * gaussian(next)));
  };
  const { text } = scripted(at, { vocab: VOCAB, context: 40, chooses });
  return new Generation(generateTokens(text, piecesTokenizer(LETTERS), [1, 2, 3], options)).result();
}

describe("suppressed ids", () => {
  it("never come, whoever chooses, and the others come as ever", async () => {
    const some = fc.array(fc.integer({ min: 1, max: VOCAB + 5 }), { maxLength: 12 });
    const property = fc.asyncProperty(some, some, fc.nat(99), async (suppress, suppressFirst, seed) => {
      const suppressed = Suppressed.of({ suppress, suppressFirst }, VOCAB);
      const options = { seed, temperature: 0.9, topK: 0, minP: 0, topP: 1, maxTokens: 12, suppressed };
      const host = await generate(options, false);
      const device = await generate(options, true);
      expect(device.ids).toEqual(host.ids);
      expect(host.ids.filter((id) => suppress.includes(id))).toEqual([]);
      expect(suppressFirst).not.toContain(host.ids[0]);
    });
    await fc.assert(property, { numRuns: 40 });
  });

  it("a constraint that allows nothing else has its way", () => {
    const suppressed = Suppressed.of({ suppress: [3], suppressFirst: [] }, 32)!;
    expect([...suppressed.within(Int32Array.of(1 << 3), false)!]).toEqual([1 << 3]);
    expect([...suppressed.within(Int32Array.of((1 << 3) | 2), false)!]).toEqual([2]);
    expect(Suppressed.of({ suppress: [99], suppressFirst: [] }, 32)).toBeNull();
  });
});

describe("a text without an end", () => {
  it("ends when it goes around in a circle, where nobody says how many tokens", async () => {
    const pieces = piecesTokenizer(LETTERS);
    const run = (options: GenerateOptions) => {
      const { text } = scripted((position) => 1 + (position % 3), { vocab: VOCAB, context: 2000 });
      return new Generation(generateTokens(text, pieces, [1], options)).result();
    };
    const { stopReason, generatedTokens } = await run({});
    expect(stopReason).toBe("repeats");
    expect(generatedTokens).toBe(1024);
    expect(await run({ maxTokens: 1500 })).toMatchObject({ stopReason: "length", generatedTokens: 1500 });
  });

  it("a circle is up to 64 ids; anything else goes on", () => {
    const ends = (next: (i: number) => number) => {
      const repeats = new Repeats();
      for (let i = 0; i < 3000; i++) if (repeats.push(next(i))) return i + 1;
      return null;
    };
    expect(ends(() => 5)).toBe(1024);
    expect(ends((i) => i % 64)).toBe(1024);
    expect(ends((i) => (i < 100 ? 1000 + i : i % 7))).toBe(1124);
    expect(ends((i) => i % 65)).toBeNull();
    expect(ends((i) => (i % 500 === 0 ? 9 : 1))).toBeNull();
  });
});

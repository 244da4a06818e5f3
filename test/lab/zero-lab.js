/**
 * Entries of a lab of experiments of zero length, by whichever build's functions: tests take src's, bench/ dist's.
 */
const at = "2026-11-28T12:00:00.000Z";

export function zeroLab({ identified, normalSpec }) {
  const spec = identified({
    ...{ kind: "spec", at, body: normalSpec({ keys: { method: "int4" } }), label: "int4" },
    ...{ keyBits: 5, valueBits: 16, bits: 10.5 },
  });
  const text = {
    ...{ kind: "text", id: "text-1", at, name: "a text", split: "search", model: "model-1" },
    ...{ tokens: 64, from: 32, ids: Array.from({ length: 64 }, (_, id) => id) },
  };
  /** Experiments differ in their draws; smaller ones come first. */
  const experiment = (draw, needs = []) =>
    identified({
      ...{ kind: "experiment", at, proposer: "human", reason: "", parent: null, study: "zero", needs },
      experiment: { spec: spec.id, model: "model-1", text: text.id, rung: 32, draw, harness: 1 },
      priority: -draw,
    });
  /** `count` experiments, and what they need to be added. */
  const entries = (count, first = 0, needs = []) => [
    ...[spec, text],
    ...Array.from({ length: count }, (_, i) => experiment(first + i, needs)),
  ];
  return { spec, text, experiment, entries };
}

/**
 * `nibble inspect`: the library's description of a file, as text for people or JSON for programs. Strings from the file
 * are shown with their control characters escaped.
 */
import { type Inspection, inspect, type KvSize, type LayerSpec, type ModelConfig } from "../index.ts";
import { bytes, grouped } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { printable } from "./terminal.ts";

const LARGEST = 8;
/** Vocabularies have hundreds of thousands of entries: longer arrays are given by their length. */
const LONG_ARRAY = 16;
const LONG_TEXT = 72;

export interface InspectOptions {
  json?: boolean;
  template?: boolean;
  offline?: boolean;
}

export async function printInspection(
  file: string,
  options: InspectOptions,
  signal: AbortSignal,
): Promise<void> {
  const found = await inspect(file, { offline: options.offline, signal });
  if (options.template) await write(found.template ?? "", signal);
  else if (options.json) await write(`${JSON.stringify(toJson(found), null, 2)}\n`, signal);
  else await write(`${toText(found).join("\n")}\n`, signal);
}

function toText(found: Inspection): string[] {
  return [
    `${printable(found.path)}: ${found.kind}, ${bytes(found.fileBytes)}, ${grouped(found.parameters)} parameters`,
    ...found.problems.map((problem) => `not read: ${printable(problem)}`),
    ...found.warnings.map((warning) => `warning: ${printable(warning)}`),
    ...shapeText(found),
    ...tokenizerText(found),
    ...kvText(found),
    ...tensorText(found),
    ...(found.config ? [] : metadataText(found)),
  ];
}

function shapeText({ config }: Inspection): string[] {
  if (!config) return [];
  const { layers, hidden, vocab } = config;
  return section("architecture", [
    ["family", `${config.family}, ${printable(config.name)}`],
    ["layers", `${layers.length}${windowsText(config)}`],
    ["hidden", `${hidden}`],
    ["heads", each(layers, ({ mixer }) => headsText(mixer))],
    ["ffn", each(layers, ({ feedForward }) => feedForwardText(feedForward))],
    ["vocab", `${grouped(vocab)}${config.tied ? ", output tied to the embedding" : ""}`],
    ["trained context", `${grouped(config.trainedContext)} tokens`],
  ]);
}

function windowsText({ layers }: ModelConfig): string {
  const attentions = layers.flatMap(({ mixer: spec }, layer) =>
    spec.kind === "attention" ? [{ layer, spec }] : [],
  );
  const windows = attentions.flatMap(({ spec }) => spec.window ?? []);
  const shared = attentions.filter(({ layer, spec }) => spec.cacheOf !== layer).length;
  const recurrent = layers.length - attentions.length;
  const kinds = [
    ...(windows.length > 0
      ? [
          `${windows.length} sliding over ${grouped(Math.max(...windows))} tokens`,
          `${attentions.length - windows.length} full`,
        ]
      : []),
    ...(recurrent > 0 ? [`${recurrent} recurrent`] : []),
    ...(shared > 0 ? [`${shared} that attend to an earlier layer's cache`] : []),
  ];
  return kinds.length > 0 ? ` (${kinds.join(", ")})` : "";
}

/** What layers have, once where all have the same; otherwise with how many do. */
function each(layers: readonly LayerSpec[], text: (layer: LayerSpec) => string): string {
  const counts = new Map<string, number>();
  for (const layer of layers) counts.set(text(layer), (counts.get(text(layer)) ?? 0) + 1);
  if (counts.size === 1) return text(layers[0]);
  return [...counts].map(([found, count]) => `${found} (${count} layers)`).join("; ");
}

function headsText(mixer: LayerSpec["mixer"]): string {
  if (mixer.kind === "delta") {
    const { keyHeads, valueHeads, keyDim, valueDim } = mixer;
    return `${valueHeads} value of ${valueDim}, ${keyHeads} query and key of ${keyDim}`;
  }
  const { heads, kvHeads, headDim } = mixer;
  return `${heads} query, ${kvHeads} key and value, of ${headDim}`;
}

function feedForwardText({ width, experts }: LayerSpec["feedForward"]): string {
  if (!experts) return `${width}`;
  const mixture = `${experts.k} of ${experts.count} experts of ${experts.width}`;
  return width > 0 ? `${width} and ${mixture}` : mixture;
}

function tokenizerText({ tokenizer, template }: Inspection): string[] {
  const token = ({ id, text }: { id: number; text: string }) => `${printable(text)} (${id})`;
  const rows: [string, string][] = [];
  if (tokenizer) {
    rows.push(["kind", `${printable(tokenizer.kind)}, ${grouped(tokenizer.vocab)} tokens`]);
    rows.push([
      "begins with",
      tokenizer.bos ? `${token(tokenizer.bos)}${tokenizer.addBos ? "" : ", not added"}` : "nothing",
    ]);
    rows.push(["ends with", tokenizer.ends.map(token).join(", ") || "nothing"]);
  }
  const first = template?.split("\n").find((line) => line.trim() !== "") ?? "";
  rows.push([
    "chat template",
    template === null ? "none" : `${grouped(template.length)} characters: ${short(first)}`,
  ]);
  return section("tokenizer", rows);
}

function kvText({ kv, config, stateBytes }: Inspection): string[] {
  if (!config || kv.length === 0) return [];
  const row = (size: KvSize): [string, string] => {
    const { fullBytesPerToken: full, slidingBytesPerToken: sliding, trainedContextBytes: all } = size;
    const window =
      sliding > 0 ? ` in full layers, ${grouped(sliding)} in sliding ones up to their window` : "";
    return [
      size.format,
      `${grouped(full)} bytes a token${window}; ${bytes(all)} at ${grouped(config.trainedContext)} tokens`,
    ];
  };
  const states: [string, string][] =
    stateBytes > 0 ? [["states", `${bytes(stateBytes)} a text, at each position that is kept`]] : [];
  return section("KV cache", [...kv.map(row), ...states]);
}

function tensorText({ tensors }: Inspection): string[] {
  const types = byType(tensors).map(({ type, count, bytes: size, parameters }): [string, string] => [
    type,
    `${count} tensors, ${bytes(size)}, ${grouped(parameters)} values`,
  ]);
  const largest = tensors
    .slice(0, LARGEST)
    .map(({ name, type, rows, cols, bytes: size }): [string, string] => [
      printable(name),
      `${type} ${rows} x ${cols}, ${bytes(size)}`,
    ]);
  return [...section(`${grouped(tensors.length)} tensors by type`, types), ...section("largest", largest)];
}

function metadataText({ metadata }: Inspection): string[] {
  return section(
    "metadata",
    Object.entries(metadata).map(([key, value]) => [
      printable(key),
      short(typeof value === "string" ? value : JSON.stringify(shortened(value))),
    ]),
  );
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(0, ...rows.map(([key]) => key.length)) + 2;
  return ["", title, ...rows.map(([key, value]) => `  ${key.padEnd(width)}${value}`)];
}

function short(text: string): string {
  const safe = printable(text);
  return safe.length > LONG_TEXT ? `${safe.slice(0, LONG_TEXT - 3)}...` : safe;
}

function byType(tensors: Inspection["tensors"]) {
  const types = new Map<string, { type: string; count: number; bytes: number; parameters: number }>();
  for (const { type, rows, cols, bytes: size } of tensors) {
    const sum = types.get(type) ?? { type, count: 0, bytes: 0, parameters: 0 };
    sum.count++;
    sum.bytes += size;
    sum.parameters += rows * cols;
    types.set(type, sum);
  }
  return [...types.values()].sort((a, b) => b.bytes - a.bytes);
}

/** Names are part of the interface. RoPE tables stay out: they follow from the metadata. */
function toJson(found: Inspection) {
  const { config } = found;
  const layers = config?.layers.map(({ mixer, ...layer }) => ({
    ...layer,
    mixer: { ...mixer, rope: undefined },
  }));
  return {
    ...found,
    config: config && { ...config, layers },
    metadata: shortened(found.metadata),
    tensorTypes: byType(found.tensors),
  };
}

function shortened(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return shortened(Array.from(value as Uint8Array));
  if (Array.isArray(value))
    return value.length > LONG_ARRAY ? `array of ${value.length}` : value.map(shortened);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shortened(inner)]));
  return typeof value === "bigint" ? value.toString() : value;
}

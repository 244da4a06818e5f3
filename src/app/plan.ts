/**
 * `nibble plan`: the library's tables as text for people or JSON for programs. Defines the layout, and the
 * forms of an amount of memory. What does not fit shows in the table and in the exit code.
 */
import { ArgumentError, type ContextTable, type PlanTable, planModel, type StatePart } from "../index.ts";
import { bytes, grouped } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { printable } from "./terminal.ts";

export interface PlanCommand {
  memory?: number;
  context?: number;
  kv?: string;
  device?: "gpu" | "cpu";
  type?: string;
  offline?: boolean;
  json?: boolean;
}

export async function printPlan(model: string, command: PlanCommand, signal: AbortSignal): Promise<void> {
  const { memory: memoryBytes, context, kv, device, type, offline, json } = command;
  const sought = { memoryBytes, context, kv, device, type, offline, signal };
  const table = await planModel(model, sought);
  await write(json ? `${JSON.stringify(toJson(table))}\n` : `${toText(table).join("\n")}\n`, signal);
  if (table.shortfall) throw table.shortfall;
}

/** By the first letter. */
const UNITS: Readonly<Record<string, number>> = { b: 1, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/**
 * "64GB", "59.6 GiB", "16000MB", "64e9 bytes" -> bytes. A machine with "64 GB" has 64 * 2^30 bytes, so GB and GiB are the
 * same here. ArgumentError for anything else.
 */
export function memorySize(text: string): number {
  const found =
    /^\s*(\d+(?:\.\d+)?)\s*([mgt]i?b)\s*$/i.exec(text) ??
    /^\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*(b|bytes)\s*$/i.exec(text);
  const size = found ? Math.floor(Number(found[1]) * UNITS[found[2][0].toLowerCase()]) : 0;
  if (!(size > 0 && Number.isSafeInteger(size)))
    throw new ArgumentError(
      "memory",
      JSON.stringify(text),
      "a size with its unit, such as 64GB, 64GiB, 16000MB or 64e9B",
    );
  return size;
}

function toText(table: PlanTable): string[] {
  const { model, device, memoryBytes, deviceLimitBytes: limit, chunk } = table;
  const sliding = model.slidingLayers > 0 ? `, ${model.slidingLayers} of them sliding` : "";
  const memory =
    memoryBytes === null ? "memory not known (--memory says)" : `${bytes(memoryBytes)} of memory`;
  const isBound = limit !== null && limit < (memoryBytes ?? Number.POSITIVE_INFINITY);
  const bound = isBound ? ` (this device can hold ${bytes(limit)})` : "";
  return [
    `${printable(model.name)}: ${grouped(model.parameters)} parameters, ${model.layers} layers${sliding}, trained for ${grouped(model.trainedContext)} tokens`,
    `on ${device}: ${memory}${bound}, prompts in chunks of ${grouped(chunk)} tokens`,
    ...partsText(table),
    ...formatsText(table),
    ...peersText(table),
  ];
}

/** For layers whose values are their keys. */
const ONE_VECTOR = { held: "one vector for key and value", apart: "keys and values apart" };

function partsText({ plan, memoryBytes, shortfall }: PlanTable): string[] {
  const weights = plan.weights
    .map((part) => {
      const same = part.bytes === part.fileBytes || part.type === "vectors";
      const type = part.of ? `${part.of} in ${part.type}` : part.type;
      return `${type} ${bytes(part.bytes)}${same ? "" : ` (${bytes(part.fileBytes)} in the file)`}`;
    })
    .join(", ");
  const caches = plan.caches
    .map(({ kind, layers, sharing, oneVector, tokens, bytes: size }) => {
      const shared = sharing > 0 ? `, which ${sharing} more layers share` : "";
      const held = oneVector === null ? "" : ` (${ONE_VECTOR[oneVector]})`;
      return `${layers} ${kind} of ${grouped(tokens)} tokens ${bytes(size)}${held}${shared}`;
    })
    .join(", ");
  const verdict = shortfall ? "does not fit" : memoryBytes === null ? "" : "fits";
  const rows: [string, number, string][] = [
    ["weights", plan.weightBytes, weights],
    ["KV cache", plan.cacheBytes, caches],
    ...(plan.states ? [statesRow(plan.states)] : []),
    ["activations", plan.activationBytes, ""],
    ["workspace", plan.workspaceBytes, ""],
    ["overhead", plan.overheadBytes, "of the process, estimated"],
    ["total", plan.totalBytes, verdict],
  ];
  return [
    "",
    `${grouped(plan.context)} tokens of ${plan.kv}`,
    ...rows.map(([name, size, text]) => `  ${name.padEnd(12)}${bytes(size).padStart(10)}  ${text}`.trimEnd()),
  ];
}

function statesRow({ layers, slots, bytes: size }: StatePart): [string, number, string] {
  return ["states", size, `of ${layers} recurrent layers, ${slots} of ${bytes(size / slots)}`];
}

function formatsText({ formats, memoryBytes, model }: PlanTable): string[] {
  const known = memoryBytes !== null;
  const head = formats.flatMap(({ name }) => [`${name} KV`, "total", ...(known ? ["fits"] : [])]);
  const rows = formats[0].rows.map(({ context }, i) => [
    marked(context, model),
    ...formats.flatMap(({ rows: own }) => {
      const { cacheBytes, totalBytes, fits } = own[i];
      return [bytes(cacheBytes), bytes(totalBytes), ...(known ? [fits ? "yes" : "no"] : [])];
    }),
  ]);
  return [
    "",
    ...columns([["context ", ...head], ...rows]),
    ...(known ? ["", `longest context that fits: ${longest(formats, model.trainedContext)}`] : []),
    ...beyond(formats, model.trainedContext),
  ];
}

/** Contexts beyond the trained one are marked with a plus. */
function marked(context: number, { trainedContext }: PlanTable["model"]): string {
  return `${grouped(context)}${context > trainedContext ? "+" : " "}`;
}

function beyond(formats: readonly ContextTable[], trained: number): string[] {
  if (!formats[0].rows.some(({ context }) => context > trained)) return [];
  const most = formats.map(({ name, longestInMemory }) => `${name} ${grouped(longestInMemory)}`);
  return [
    `by memory alone: ${most.join(" · ")}`,
    `+ longer than the ${grouped(trained)} tokens that the model was trained for: memory would allow it, loading does not`,
  ];
}

function peersText({ peers, formats, memoryBytes, model }: PlanTable): string[] {
  const rows = formats[0].rows.map(({ context }, i) => [
    marked(context, model),
    ...peers.map(({ rows: own }) => `${bytes(own[i].totalBytes)}${own[i].fits ? " " : "*"}`),
  ]);
  const star = memoryBytes === null ? "" : "; * does not fit";
  return [
    "",
    `other engines: weights as in the file and KV cache, without buffers for computing${star}`,
    ...columns([["context ", ...peers.map(({ name }) => `${name} `)], ...rows]),
    ...(memoryBytes === null
      ? []
      : ["", `longest context that fits: ${longest(peers, model.trainedContext)}`]),
    ...new Set(peers.map(({ assumption }) => assumption)),
  ];
}

function longest(tables: readonly ContextTable[], trained: number): string {
  return tables
    .map(({ name, longestContext: most }) => {
      const text = most === 0 ? "none" : most === trained ? `${grouped(most)}, all` : grouped(most);
      return `${name} ${text}`;
    })
    .join(" · ");
}

/** Right-aligned, as wide as needed. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padStart(widths[i]))
      .join("  ")
      .trimEnd(),
  );
}

/** Names are part of the interface. */
function toJson(table: PlanTable) {
  return { ...table, shortfall: table.shortfall?.message ?? null };
}

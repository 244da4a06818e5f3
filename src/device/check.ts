/**
 * The checks that every device makes before it touches anything, so that all devices refuse the same calls with the
 * same errors.
 */
import { ArgumentError, UnsupportedError } from "../format/errors.ts";
import {
  CHOSEN,
  type Device,
  type Graph,
  type KvCodec,
  type KvPart,
  MORE_CHOSEN,
  PAGE_SLOTS,
  type PagePlace,
  type Pool,
  type Run,
  type State,
  type Step,
} from "./contract.ts";
import { tablesOf } from "./facts.ts";
import { partName } from "./kv.ts";
import { pageBytes } from "./page-bytes.ts";

/** ids are checked by callers, which know the vocabulary; `chooses`: the device can choose ids. */
export function checkStep(graph: Graph, { runs }: Step, chooses: boolean): void {
  const { maxTokens, maxOutputs, texts, blocks } = graph;
  const tables = tablesOf(graph).length > 0;
  const seen = new Set<number>();
  let tokens = 0;
  let outputs = 0;
  let chosen = 0;
  for (const run of runs) {
    const { text, position, ids } = run;
    checkText(graph, text);
    if (seen.has(text)) throw new ArgumentError("text of a run", text, "one run of each text in a step");
    seen.add(text);
    const positions = blocks * PAGE_SLOTS;
    if (!(Number.isInteger(position) && position >= 0 && position + ids.length <= positions))
      throw new ArgumentError("position of a run", position, `integers 0 to ${positions - ids.length}`);
    if (ids.length === 0) throw new ArgumentError("tokens of a run", 0, "at least 1");
    if (!(Number.isInteger(run.outputs) && run.outputs >= 0 && run.outputs <= ids.length))
      throw new ArgumentError("outputs of a run", run.outputs, `integers 0 to ${ids.length}`);
    if (run.sampling && !(chooses && run.outputs >= 1))
      throw new ArgumentError(
        "sampling",
        chooses ? "no outputs" : "a device that does not choose",
        "a run with outputs, on a device that chooses",
      );
    if (!chooses && ids.includes(CHOSEN))
      throw new ArgumentError("token id", "CHOSEN", "an id: this device does not choose");
    if (tables && ids.includes(CHOSEN))
      throw new ArgumentError("token id", "CHOSEN", "an id: the host looks rows of a table up by it");
    checkPacked(run);
    tokens += ids.length;
    outputs += run.outputs;
    if (run.sampling) chosen += run.outputs;
  }
  if (!(tokens >= 1 && tokens <= maxTokens))
    throw new ArgumentError("tokens of a step", tokens, `1 to ${maxTokens}`);
  if (outputs > maxOutputs) throw new ArgumentError("outputs of a step", outputs, `0 to ${maxOutputs}`);
  checkStates(graph, runs);
  const mostChosen = texts + MORE_CHOSEN;
  if (chosen > mostChosen)
    throw new ArgumentError("outputs of a step with sampling", chosen, `0 to ${mostChosen}`);
  if (runs.length > texts) throw new ArgumentError("runs of a step", runs.length, `1 to ${texts}`);
}

function checkPacked({ position, ids, packed }: Run): void {
  if (!packed) return;
  const { blocks, pack } = packed;
  const most = Math.floor(position / PAGE_SLOTS);
  if (!(Number.isInteger(blocks) && blocks >= 0 && blocks <= most))
    throw new ArgumentError("packed blocks of a run", blocks, `integers 0 to ${most}`);
  const full = Math.floor((position + ids.length) / PAGE_SLOTS);
  for (const block of pack)
    if (!(Number.isInteger(block) && block >= blocks && block < full))
      throw new ArgumentError("block to pack", block, `integers ${blocks} to ${full - 1}`);
}

function checkStates(graph: Graph, runs: readonly Run[]): void {
  if (graph.states.length === 0) return;
  /** No other run of the step may touch the slot that a run writes, and no run may write a slot that another reads. */
  const written = new Set<number>();
  const read = new Set<number>();
  for (const { position, state } of runs) {
    if (!state) throw new ArgumentError("state of a run", "none", "slots to read and to write");
    const { from, to } = state;
    checkSlot(graph, to);
    if (from !== null) checkSlot(graph, from);
    if ((from === null) !== (position === 0))
      throw new ArgumentError(
        "state of a run",
        `${from === null ? "no slot" : "a slot"} to read at position ${position}`,
        "a slot at every position above 0",
      );
    if (from === to || written.has(to) || read.has(to) || (from !== null && written.has(from)))
      throw new ArgumentError("slot to write", to, "one that no run of the step reads and no other writes");
    written.add(to);
    if (from !== null) read.add(from);
  }
}

export function checkState(graph: Graph, { values }: State, slot: number, bytes: number): void {
  checkSlot(graph, slot);
  if (bytes !== values * 4) throw new ArgumentError("bytes of a state", bytes, `${values * 4}`);
}

function checkSlot({ stateSlots }: Graph, slot: number): void {
  if (!(Number.isInteger(slot) && slot >= 0 && slot < stateSlots))
    throw new ArgumentError("slot of states", slot, `integers 0 to ${stateSlots - 1}`);
}

/** Throws UnsupportedError for a codec, or one vector for key and value, for which the device has no kernels. */
export function checkFormats(graph: Graph, device: HasFormats & Pick<Device, "oneVector">): void {
  for (const { codec } of graph.caches) checkFormat(codec, device);
  const takes = graph.ops.some(({ op }) => op === "takeTurned");
  if (!device.oneVector && (takes || graph.caches.some(({ turned }) => turned > 0)))
    throw new UnsupportedError(
      `one vector for key and value on the ${device.name} device`,
      "Record the graph without `oneVector`.",
    );
}

type HasFormats = Pick<Device, "name" | "kvFormats" | "kvParts">;

export function checkFormat(codec: KvCodec, device: HasFormats): void {
  if (hasFormat(codec, device)) return;
  const { kvFormats, kvParts } = device;
  const parts = kvParts
    ? `, and packed keys ${kvParts.keys.join(", ")} with values ${kvParts.values.join(", ")}`
    : "";
  throw new UnsupportedError(
    `KV format ${codec.name} on the ${device.name} device`,
    `Supported: ${kvFormats?.join(", ")}${parts}.`,
  );
}

/** Whether a device has kernels for a codec. */
export function hasFormat(
  { name, packed }: KvCodec,
  { kvFormats, kvParts }: Pick<Device, "kvFormats" | "kvParts">,
): boolean {
  if (kvFormats === null) return true;
  if (!packed) return kvFormats.includes(name);
  const has = (part: KvPart) => kvParts?.[part].includes(partName(packed[part])) ?? false;
  return has("keys") && has("values");
}

export function checkPage({ pages }: Pool, page: number): void {
  if (!(Number.isInteger(page) && page >= 0 && page < pages))
    throw new ArgumentError("page", page, `integers 0 to ${pages - 1}`);
}

/** bytes: the data to write. */
export function checkPlaces(
  graph: Graph,
  { cache, part, kvHead, isRecent = false }: PagePlace,
  pages: readonly number[],
  bytes?: Uint8Array,
): void {
  const { codec } = cache;
  if (isRecent && !codec.packed)
    throw new ArgumentError("recent pages", `a cache of ${codec.name}`, "a cache whose codec packs");
  for (const page of pages) checkPage(isRecent ? graph.recentPool! : cache.pool, page);
  if (!(Number.isInteger(kvHead) && kvHead >= 0 && kvHead < cache.kvHeads))
    throw new ArgumentError("KV head", kvHead, `integers 0 to ${cache.kvHeads - 1}`);
  const wanted = pages.length * pageBytes(cache, part, isRecent);
  if (bytes && bytes.length !== wanted)
    throw new ArgumentError("bytes of pages", bytes.length, `${wanted}, ${pages.length} pages`);
}

/** Pages of a table: for blocks first, first + 1, ... of a text. */
export function checkPages(
  graph: Graph,
  pool: Pool,
  text: number,
  first: number,
  pages: ArrayLike<number>,
): void {
  checkText(graph, text);
  if (!(Number.isInteger(first) && first >= 0 && first + pages.length <= graph.blocks))
    throw new ArgumentError("block of a text", first, `integers 0 to ${graph.blocks - pages.length}`);
  for (let i = 0; i < pages.length; i++) checkPage(pool, pages[i]);
}

function checkText({ texts }: Graph, text: number): void {
  if (!(Number.isInteger(text) && text >= 0 && text < texts))
    throw new ArgumentError("text", text, `integers 0 to ${texts - 1}`);
}

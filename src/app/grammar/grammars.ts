/**
 * Grammars as constraints of a generation. Owns the thread that keeps them (`worker.js`): it is started when the first
 * grammar is asked for, given up when it fails or takes too long, and while the model computes a step it already finds
 * what may come after it. Refuses to know requests.
 */
import { Worker } from "node:worker_threads";
import { type Constraint, NibbleError, type Tokenizer } from "../../index.ts";

/** Rules in XGrammar's notation from "root" on, or a structural tag of it. */
export type Grammar =
  | { readonly text: string; readonly tags?: undefined }
  | { readonly tags: Readonly<Record<string, unknown>>; readonly text?: undefined };

/** A constraint that holds memory until `close`. */
export interface OpenGrammar extends Constraint {
  close(): void;
}

/** A grammar that takes longer to compile, or a token longer to follow, is one that nobody wants. */
const MOST_MS = 10_000;
/** Blanks in a row, outside of words, and blanks to each other byte: small models lose themselves in them. */
const MOST_BLANKS = 24;
const BLANKS_PER_BYTE = 2;

export class Grammars {
  readonly #tokenizer: Tokenizer;
  readonly #vocab: number;
  #keeper: Keeper | null = null;
  #blanks: Blanks | null = null;

  /** vocab: of the logits, which may be more than the tokenizer's. */
  constructor(tokenizer: Tokenizer, vocab: number) {
    this.#tokenizer = tokenizer;
    this.#vocab = vocab;
  }

  /** NibbleError "argument" for a grammar that cannot be compiled, or that no text matches. */
  async open(grammar: Grammar): Promise<OpenGrammar> {
    if (this.#keeper === null || this.#keeper.isGivenUp)
      this.#keeper = new Keeper(this.#tokenizer, this.#vocab);
    this.#blanks ??= findBlanks(this.#tokenizer, this.#vocab);
    return this.#keeper.start(grammar, this.#blanks);
  }

  close(): void {
    this.#keeper?.giveUp();
  }
}

interface Answer {
  ticket: number;
  mask?: Int32Array | null;
  failed?: string;
}

/** One thread. */
class Keeper {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #tickets = 0;
  #matchers = 0;
  #failure: string | null = null;
  isGivenUp = false;

  constructor(tokenizer: Tokenizer, vocab: number) {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData: { ...vocabularyBytes(tokenizer, vocab), endIds: [...tokenizer.endIds], vocab },
      // What the library prints is its own.
      stdout: true,
      stderr: true,
      execArgv: [],
    });
    this.#worker.on("message", (answer: Answer) => this.#waiting.get(answer.ticket)?.(answer));
    this.#worker.on("error", (error) => this.#fail(error.message));
    this.#worker.on("exit", () => this.#fail("its thread ended"));
    this.#worker.unref();
  }

  async start(grammar: Grammar, blanks: Blanks): Promise<OpenGrammar> {
    this.#matchers++;
    const matcher = this.#tickets;
    let isOpen = true;
    const close = () => {
      if (!isOpen) return;
      isOpen = false;
      this.#matchers--;
      if (this.isGivenUp && this.#matchers === 0) void this.#worker.terminate();
      else this.#worker.postMessage({ kind: "free", matcher });
    };
    const first = await this.#ask({ kind: "start", matcher, grammar });
    if (first.failed !== undefined || !first.mask?.some((word) => word !== 0)) {
      close();
      // After an abort nobody knows the library's state: who is on its way may end there, others go elsewhere.
      if (first.failed !== undefined) this.giveUp();
      throw new NibbleError("argument", `the schema cannot be kept: ${first.failed ?? "no text matches it"}`);
    }
    let next: Promise<Int32Array> = Promise.resolve(first.mask);
    let row = 0;
    let all = 0;
    return {
      async allowed() {
        const isLost = row >= MOST_BLANKS || all >= MOST_BLANKS;
        return isLost ? withoutBlanks(await next, blanks.mask) : next;
      },
      accept: (token) => {
        const length = blanks.lengths.get(token);
        row = length === undefined ? 0 : row + length;
        all = length === undefined ? Math.max(0, all - BLANKS_PER_BYTE * blanks.bytes(token)) : all + length;
        next = this.#ask({ kind: "accept", matcher, token }).then(({ mask, failed }) => {
          if (failed === undefined) return mask ?? NOTHING;
          throw new NibbleError("argument", `the grammar was lost: ${failed}`);
        });
        // The generation may end before it asks.
        next.catch(() => {});
      },
      close,
    };
  }

  /** Takes no new grammars; ends when those that are open are closed. */
  giveUp(): void {
    this.isGivenUp = true;
    if (this.#matchers === 0) void this.#worker.terminate();
  }

  #ask(question: object): Promise<Answer> {
    const ticket = this.#tickets++;
    if (this.#failure !== null) return Promise.resolve({ ticket, failed: this.#failure });
    return new Promise((resolve) => {
      const late = setTimeout(() => {
        this.#fail(`it took longer than ${MOST_MS / 1000} seconds`);
        void this.#worker.terminate();
      }, MOST_MS);
      this.#waiting.set(ticket, (answer) => {
        clearTimeout(late);
        this.#waiting.delete(ticket);
        resolve(answer.failed === undefined ? answer : { ...answer, failed: reasonOf(answer.failed) });
      });
      this.#worker.postMessage({ ...question, ticket });
    });
  }

  #fail(reason: string): void {
    this.isGivenUp = true;
    this.#failure ??= reason;
    for (const [ticket, answer] of this.#waiting) answer({ ticket, failed: this.#failure });
  }
}

const NOTHING = new Int32Array(0);

/** "[FATAL] /path/file.cc:902: Unsupported type", "Aborted()": only what is said is of interest. */
function reasonOf(text: string): string {
  const [line] = text.split("\n").filter((line) => line.trim() !== "");
  const said = (line ?? "unknown")
    .replace(/^\[\w+\] \S+:\d+: /, "")
    .replace(/^Check failed: .*? is false: /, "");
  return said.length > 200 ? `${said.slice(0, 197)}...` : said;
}

/** Every token's bytes in a row, and where each begins; control tokens have none, so no grammar uses them. */
function vocabularyBytes(tokenizer: Tokenizer, vocab: number): { bytes: Uint8Array; starts: Uint32Array } {
  const count = Math.min(vocab, tokenizer.vocab);
  const texts = Array.from({ length: count }, (_, id) => tokenizer.bytes(id));
  const starts = new Uint32Array(count + 1);
  texts.forEach((text, id) => {
    starts[id + 1] = starts[id] + text.length;
  });
  const bytes = new Uint8Array(starts[count]);
  texts.forEach((text, id) => {
    bytes.set(text, starts[id]);
  });
  return { bytes, starts };
}

interface Blanks {
  /** A bit for each token that is nothing but blanks. */
  readonly mask: Int32Array;
  /** Of these tokens, in bytes. */
  readonly lengths: ReadonlyMap<number, number>;
  /** Of any token. */
  bytes(id: number): number;
}

function findBlanks(tokenizer: Tokenizer, vocab: number): Blanks {
  const mask = new Int32Array(Math.ceil(vocab / 32));
  const lengths = new Map<number, number>();
  for (let id = 0; id < Math.min(vocab, tokenizer.vocab); id++) {
    const bytes = tokenizer.bytes(id);
    if (bytes.length === 0 || !bytes.every((byte) => BLANKS.includes(byte))) continue;
    mask[id >> 5] |= 1 << (id & 31);
    lengths.set(id, bytes.length);
  }
  return { mask, lengths, bytes: (id) => tokenizer.bytes(id).length };
}

const BLANKS = [0x20, 0x09, 0x0a, 0x0d];

/** Unless blanks are all there is. */
function withoutBlanks(mask: Int32Array, blanks: Int32Array): Int32Array {
  const rest = mask.map((word, i) => word & ~blanks[i]);
  return rest.some((word) => word !== 0) ? rest : mask;
}

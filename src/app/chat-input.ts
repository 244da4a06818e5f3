/**
 * Where a chat's lines come from: a terminal with editing, history and Ctrl-C, or a pipe. While an answer is
 * written, typed text is kept, unseen, for the next prompt, and Ctrl-C goes to the code that
 * stops the answer.
 */
import { createInterface, type Interface } from "node:readline";
import { Writable } from "node:stream";
import { AbortedError } from "../index.ts";
import { type History, MOST_LINES } from "./chat-history.ts";

/** `line`: of many lines when it was pasted. `interrupt`: Ctrl-C; `wasEmpty`: nothing stood on the line. `end`: Ctrl-D, or the pipe has no more. */
export type Entry =
  | { readonly kind: "line"; readonly text: string }
  | { readonly kind: "interrupt"; readonly wasEmpty: boolean }
  | { readonly kind: "end" };

const PASTE_MARKS_ON = "\x1b[?2004h";
const PASTE_MARKS_OFF = "\x1b[?2004l";

export interface TerminalOptions {
  history: History;
  complete: (line: string) => [string[], string];
}

export class ChatInput {
  readonly #signal: AbortSignal;
  readonly #lines: Interface;
  readonly #echo: Echo | null;
  readonly #history: History | null;
  #entries: Entry[] = [];
  #isOver = false;
  /** Lines of a pasted text, before the one that is still to be ended with Enter. */
  readonly #pasted: string[] = [];
  #isPasting = false;
  #arrived: (() => void) | null = null;
  #onInterrupt: (() => void) | null = null;

  /** `terminal`: null reads lines from a pipe. */
  constructor(signal: AbortSignal, terminal: TerminalOptions | null) {
    this.#signal = signal;
    this.#history = terminal?.history ?? null;
    this.#echo = terminal && new Echo();
    this.#lines =
      terminal && this.#echo
        ? createInterface({
            input: process.stdin,
            output: this.#echo,
            terminal: true,
            history: terminal.history.lines(),
            historySize: MOST_LINES,
            removeHistoryDuplicates: true,
            completer: terminal.complete,
          })
        : createInterface({ input: process.stdin, terminal: false, crlfDelay: Number.POSITIVE_INFINITY });
    if (terminal) this.#watchPastes();
    this.#lines.on("line", (text) => {
      if (this.#isPasting) {
        this.#pasted.push(text);
        return;
      }
      // A pipe may hold more than fits in memory: one read's lines at a time.
      if (!terminal) this.#lines.pause();
      this.#give({ kind: "line", text: [...this.#pasted.splice(0), text].join("\n") });
    });
    this.#lines.on("SIGINT", () => this.#interrupt());
    this.#lines.on("close", () => {
      this.#isOver = true;
      this.#arrived?.();
    });
    signal.addEventListener("abort", () => this.#arrived?.(), { once: true });
  }

  /** The next action of the user. Rejects with AbortedError when the command is ended from outside. */
  async read(prompt: string): Promise<Entry> {
    const echo = this.#echo;
    if (echo) {
      echo.isMuted = false;
      // What was typed during the answer may have wrapped; readline would go up by that many rows of the answer.
      (this.#lines as unknown as { prevRows: number }).prevRows = 0;
      this.#lines.setPrompt(prompt);
      const [waiting] = this.#entries;
      if (waiting?.kind === "line") echo.write(`${prompt}${waiting.text}\n`);
      else if (!this.#isOver) this.#lines.prompt(true);
    }
    while (this.#entries.length === 0 && !this.#isOver && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
        if (!echo) this.#lines.resume();
      });
    }
    this.#arrived = null;
    if (echo) echo.isMuted = true;
    if (this.#signal.aborted) throw new AbortedError("the chat");
    const entry = this.#entries.shift() ?? { kind: "end" };
    if (entry.kind === "line") this.#history?.add(entry.text);
    return entry;
  }

  /** Until the next `read`, Ctrl-C calls this function. */
  whileAnswering(onInterrupt: () => void): void {
    this.#onInterrupt = onInterrupt;
  }

  close(): void {
    if (this.#echo) process.stdout.write(PASTE_MARKS_OFF);
    if (!this.#isOver) this.#lines.close();
    // A pipe that is paused during a read keeps the process alive (Node 20).
    process.stdin.destroy();
  }

  /** Terminals put marks around pasted text: its line ends are text and do not send. */
  #watchPastes(): void {
    process.stdout.write(PASTE_MARKS_ON);
    process.stdin.on("keypress", (_text, key?: { name?: string }) => {
      if (key?.name === "paste-start") this.#isPasting = true;
      else if (key?.name === "paste-end") this.#isPasting = false;
    });
  }

  #interrupt(): void {
    if (this.#echo?.isMuted) {
      // After a stopped answer, text typed meanwhile is not sent.
      this.#entries = [];
      this.#onInterrupt?.();
      return;
    }
    const wasEmpty = this.#lines.line === "" && this.#pasted.length === 0;
    this.#pasted.length = 0;
    // To the line's end and from there to its beginning: Ctrl-E, Ctrl-U.
    for (const name of ["e", "u"]) this.#lines.write(null, { ctrl: true, name });
    this.#give({ kind: "interrupt", wasEmpty });
  }

  #give(entry: Entry): void {
    this.#entries.push(entry);
    this.#arrived?.();
  }
}

/** stdout for readline: silent while an answer is written there. */
class Echo extends Writable {
  isMuted = true;
  readonly #resized = () => this.emit("resize");

  constructor() {
    super({ decodeStrings: false });
    process.stdout.on("resize", this.#resized);
    this.once("close", () => process.stdout.off("resize", this.#resized));
  }

  get columns(): number {
    return process.stdout.columns;
  }

  override _write(chunk: string | Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    if (!this.isMuted) process.stdout.write(chunk);
    done();
  }
}

/**
 * A model in this browser: needle, a file or a URL, on the page's own WebGPU, in a worker. Includes what a page can say before
 * anything is loaded, and turns a worker's errors into messages for people.
 */

import type { ChatMessage, KvRate } from "../../src/browser.ts";
import type { StreamedPart } from "../../src/page.ts";
import { partStream } from "../../src/page.ts";
import { PageWorker, WorkError } from "../work/call.ts";
import type { Answered, FormatRates, Opened } from "../work/protocol.ts";
import {
  AnswerFailure,
  type AnswerOptions,
  type AnswerResult,
  type ChatModel,
  type FailureKind,
  speedometer,
} from "./model.ts";

export interface LoadAsk {
  readonly source: string | readonly File[];
  /** For people. */
  readonly name: string;
  /** null: see OpenAsk. */
  readonly context: number | null;
  readonly kv: string;
}

export class HereModel implements ChatModel {
  readonly kind = "here";

  private constructor(
    readonly name: string,
    readonly opened: Opened,
    readonly worker: PageWorker,
  ) {}

  /** Rejects with AnswerFailure; nothing stays loaded then. */
  static async load(
    { source, name, context, kv }: LoadAsk,
    onProgress: (bytes: number, totalBytes: number) => void,
    signal: AbortSignal,
  ): Promise<HereModel> {
    const worker = new PageWorker();
    try {
      const opened = await worker.call(
        "open",
        { source, context, kv },
        { signal, onProgress: ({ bytes, totalBytes }) => onProgress(bytes, totalBytes) },
      );
      return new HereModel(name, opened, worker);
    } catch (error) {
      worker.close();
      throw failure(error);
    }
  }

  get place(): string {
    const { device, hasTemplate } = this.opened;
    return `this browser, ${device}${hasTemplate ? "" : " (no chat template: it goes on with your text)"}`;
  }

  get context(): number {
    return this.opened.context;
  }

  get kv(): string {
    return this.opened.kv;
  }

  get rates(): readonly KvRate[] {
    return this.opened.rates;
  }

  get formats(): readonly FormatRates[] {
    return this.opened.formats;
  }

  async answer(messages: readonly ChatMessage[], options: AnswerOptions): Promise<AnswerResult> {
    const { settings, signal } = options;
    const speed = speedometer();
    const stream = partStream(this.opened.section);
    const give = (parts: readonly StreamedPart[]) => parts.length > 0 && options.onParts(parts);
    let answered: Answered;
    try {
      answered = await this.worker.call(
        "answer",
        {
          messages,
          sampling: settings.temperature === null ? {} : { temperature: settings.temperature },
          maxTokens: settings.maxTokens ?? undefined,
        },
        {
          signal,
          onProgress: (progress) => {
            if (progress.kind === "reading") return options.onReading?.(progress.tokens, progress.total);
            give(stream.push(progress.text));
            options.onHeld?.(progress.held);
            const found = speed(progress.generated);
            if (found !== null) options.onSpeed?.(found);
          },
        },
      );
    } catch (error) {
      throw failure(error);
    }
    give(stream.end());
    const { stopReason, ...figures } = answered;
    // Only one text uses the cache here, so it is never full of others.
    const isCut = stopReason === "cache" || stopReason === "repeats";
    const end = stopReason === "stop" || stopReason === "left" ? "end" : isCut ? "length" : stopReason;
    return { end, figures };
  }

  async count(text: string) {
    try {
      return { tokens: await this.worker.call("count", text), isExact: true };
    } catch (error) {
      throw failure(error);
    }
  }

  close(): void {
    this.worker.close();
  }
}

function failure(error: unknown): AnswerFailure {
  const { code = null, message } = error as WorkError;
  const kinds: Partial<Record<string, FailureKind>> = {
    aborted: "stopped",
    device: "device",
  };
  const text = error instanceof WorkError ? message : String(error);
  // The name of a file or an address stays as it is.
  const spoken = text.replace(/^[a-z](?=[a-z]* )/, (first) => first.toUpperCase());
  return new AnswerFailure(kinds[code ?? ""] ?? "other", spoken);
}

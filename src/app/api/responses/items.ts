/**
 * An answer as the items of a response, and the events that report them while they grow, with ids and numbers.
 * (https://platform.openai.com/docs/api-reference/responses-streaming)
 */
import type { AnswerPart } from "../../../answer/parts.ts";

export type Item =
  | { type: "reasoning"; id: string; summary: []; content: Words[]; status: Status }
  | { type: "message"; id: string; role: "assistant"; content: Words[]; status: Status }
  | { type: "function_call"; id: string; call_id: string; name: string; arguments: string; status: Status };

type Status = "in_progress" | "completed" | "incomplete";
type Words =
  | { type: "output_text"; text: string; annotations: []; logprobs: [] }
  | { type: "reasoning_text"; text: string };

/** Without its number. */
export interface ResponseEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

const newId = (kind: string) => `${kind}_${crypto.randomUUID().replaceAll("-", "")}`;

export class Items {
  readonly all: Item[] = [];
  #isOpen = false;

  /** The events of a new part. */
  *add(part: AnswerPart): Generator<ResponseEvent> {
    if (part.kind === "call") {
      yield* this.close("completed");
      const { id: call_id, name, arguments: given } = part.call;
      const item: Item = {
        type: "function_call",
        id: newId("fc"),
        call_id,
        name,
        arguments: "",
        status: "in_progress",
      };
      yield* this.#open(item);
      item.arguments = JSON.stringify(given);
      yield { type: "response.function_call_arguments.delta", ...this.#place(item), delta: item.arguments };
      yield* this.close("completed");
      return;
    }
    const type = part.kind === "text" ? "message" : "reasoning";
    const last = this.all.at(-1);
    if (!this.#isOpen || last?.type !== type) {
      yield* this.close("completed");
      const item: Item =
        type === "message"
          ? { type, id: newId("msg"), role: "assistant", content: [], status: "in_progress" }
          : { type, id: newId("rs"), summary: [], content: [], status: "in_progress" };
      yield* this.#open(item);
      const words: Words =
        type === "message"
          ? { type: "output_text", text: "", annotations: [], logprobs: [] }
          : { type: "reasoning_text", text: "" };
      yield {
        type: "response.content_part.added",
        ...this.#place(item),
        content_index: 0,
        part: { ...words },
      };
      item.content.push(words);
    }
    const item = this.all[this.all.length - 1] as Item & { content: Words[] };
    item.content[0].text += part.text;
    const delta = { ...this.#place(item), content_index: 0, delta: part.text };
    if (type === "message") yield { type: "response.output_text.delta", ...delta, logprobs: [] };
    else yield { type: "response.reasoning_text.delta", ...delta };
  }

  /** The item that is open ends. */
  *close(status: "completed" | "incomplete"): Generator<ResponseEvent> {
    const item = this.all.at(-1);
    if (!this.#isOpen || !item) return;
    this.#isOpen = false;
    item.status = status;
    const place = this.#place(item);
    if (item.type === "function_call")
      yield {
        type: "response.function_call_arguments.done",
        ...place,
        name: item.name,
        arguments: item.arguments,
      };
    else {
      const [part] = item.content;
      const done = { ...place, content_index: 0, text: part.text };
      if (item.type === "message") yield { type: "response.output_text.done", ...done, logprobs: [] };
      else yield { type: "response.reasoning_text.done", ...done };
      yield { type: "response.content_part.done", ...place, content_index: 0, part };
    }
    yield { type: "response.output_item.done", output_index: place.output_index, item };
  }

  *#open(item: Item): Generator<ResponseEvent> {
    this.all.push(item);
    this.#isOpen = true;
    yield { type: "response.output_item.added", output_index: this.all.length - 1, item: { ...item } };
  }

  #place(item: Item) {
    return { item_id: item.id, output_index: this.all.indexOf(item) };
  }
}

/** The answer as messages that a later request continues. */
export function messagesOf(items: readonly Item[]): unknown[] {
  if (items.length === 0) return [{ role: "assistant", content: "" }];
  const text = (type: "message" | "reasoning") =>
    items
      .map((item) => (item.type === type ? item.content.map((words) => words.text).join("") : ""))
      .join("");
  const calls = items.flatMap((item) =>
    item.type === "function_call"
      ? [{ id: item.call_id, type: "function", function: { name: item.name, arguments: item.arguments } }]
      : [],
  );
  const reasoning = text("reasoning");
  return [
    {
      role: "assistant",
      content: text("message"),
      ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    },
  ];
}

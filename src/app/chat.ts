/**
 * `nibble chat`: the loop from a line to a command or an answer. On a terminal errors are shown and the chat goes on; likewise
 * in a pipe, where the first one determines the exit code. The model is closed whatever happens.
 */
import {
  AbortedError,
  ArgumentError,
  inspect,
  type SampleOptions,
  sampler,
  UnsupportedError,
} from "../index.ts";
import { bytes, grouped } from "../plot/numbers.ts";
import { type CommandEnd, complete, parseCommand, runCommand } from "./chat-commands.ts";
import { History, historyPath } from "./chat-history.ts";
import { ChatInput } from "./chat-input.ts";
import { Screen } from "./chat-screen.ts";
import { Chat } from "./chat-turns.ts";
import { PrintedError, printMessage } from "./exit.ts";
import { readDocument } from "./input.ts";
import { loadModel, type ModelOptions } from "./load-model.ts";
import { MessageLines } from "./message-lines.ts";

export interface ChatOptions extends ModelOptions, SampleOptions {
  file: string[];
  system?: string;
  tokens?: number;
  /** undefined: the template's default. */
  think?: boolean;
}

const PROMPT = ">>> ";
const GOES_ON = "... ";

export async function chat(name: string, options: ChatOptions, signal: AbortSignal): Promise<void> {
  // Options and documents first: a typing mistake should not cost the time to load a model.
  const { temperature, topK, topP, minP, repeatPenalty } = options;
  const { seed } = sampler(options);
  if (options.file.includes("-"))
    throw new ArgumentError("--file", "-", "a file: stdin carries the conversation");
  const documents: [path: string, text: string][] = [];
  for (const file of options.file) documents.push([file, await readDocument(file, signal)]);
  const path = await findChatModel(name, options, signal);
  const screen = new Screen(signal, process.stdin.isTTY === true && process.stdout.isTTY === true);
  const model = await loadModel(path, options, signal);
  try {
    const settings = {
      name,
      system: options.system ?? null,
      sampling: { temperature, topK, topP, minP, repeatPenalty, seed },
      maxTokens: options.tokens,
      template: options.think === undefined ? {} : { enable_thinking: options.think },
    };
    const talk = new Chat(model, settings, screen, signal);
    for (const [file, text] of documents) talk.attach(file, text);
    const { kv, context, cacheBytes } = model.plan;
    if (screen.isTerminal) {
      screen.note(
        `${name} · ${grouped(context)} tokens of context, ${bytes(cacheBytes)} ${kv} · ${model.device}`,
      );
      screen.note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves");
    }
    const terminal = screen.isTerminal ? { history: new History(historyPath()), complete } : null;
    const input = new ChatInput(signal, terminal);
    try {
      await converse(talk, input, signal);
    } finally {
      input.close();
    }
  } finally {
    await model.close();
  }
}

/**
 * What to load. UnsupportedError for a model without a chat template, before its weights are loaded, or downloaded.
 */
async function findChatModel(name: string, { offline }: ChatOptions, signal: AbortSignal): Promise<string> {
  const { path, template, problems } = await inspect(name, { offline, signal });
  // If a template cannot be read, loading reports it.
  if (template === null && problems.length === 0)
    throw new UnsupportedError(
      `a chat with ${name}, which has no chat template,`,
      "It continues text: nibble run MODEL PROMPT --raw.",
    );
  return path;
}

async function converse(talk: Chat, input: ChatInput, signal: AbortSignal): Promise<void> {
  const { screen } = talk;
  const message = new MessageLines();
  let failure: unknown = null;
  let isWarned = false;

  /** True: the chat is over. */
  const act = async (action: () => Promise<boolean>): Promise<boolean> => {
    try {
      return await action();
    } catch (error) {
      if (signal.aborted) throw new AbortedError("the chat");
      printMessage(error);
      failure ??= error;
      return false;
    }
  };
  const stoppable = (answer: (stop: AbortSignal) => Promise<void>) =>
    act(async () => {
      const stop = new AbortController();
      input.whileAnswering(() => stop.abort());
      await answer(stop.signal);
      return false;
    });
  const send = async (text: string) => {
    if (text.trim() !== "") await stoppable((stop) => talk.answer(text, stop));
  };

  for (;;) {
    const entry = await input.read(message.isOpen ? GOES_ON : PROMPT);
    if (entry.kind === "end") {
      if (screen.isTerminal) process.stdout.write("\n");
      // If a pipe ends inside a message, the message is complete.
      else if (message.isOpen) await send(message.take());
      break;
    }
    if (entry.kind === "interrupt") {
      const isIdle = entry.wasEmpty && !message.isOpen;
      message.take();
      if (entry.wasEmpty) process.stdout.write("\n");
      if (isIdle && isWarned) break;
      if (isIdle) screen.note("(Ctrl-C again, or Ctrl-D, leaves)");
      isWarned = isIdle;
      continue;
    }
    isWarned = false;
    // Pasted: blanks at the ends of its lines are part of it.
    if (!message.isOpen && entry.text.includes("\n")) {
      await send(entry.text);
      continue;
    }
    const command = message.isOpen ? null : parseCommand(entry.text);
    if (command) {
      let next: CommandEnd = "done";
      await act(async () => {
        next = await runCommand(talk, command.name, command.argument);
        return false;
      });
      if ((next as CommandEnd) === "leave") break;
      if ((next as CommandEnd) === "again") await stoppable((stop) => talk.regenerate(stop));
      continue;
    }
    const isEscaped = !message.isOpen && entry.text.startsWith("//");
    const text = message.add(isEscaped ? entry.text.slice(1) : entry.text);
    if (text !== null) await send(text);
  }
  if (failure && !screen.isTerminal) throw new PrintedError(failure);
}

/**
 * The slash commands of a chat, their help, and their completion with the tab key; what
 * a command does is in `chat-turns.ts` and `chat-report.ts`.
 */
import { readdirSync } from "node:fs";
import { basename } from "node:path";
import { NibbleError } from "../index.ts";
import { contextLines, statisticsLines } from "./chat-report.ts";
import type { Chat } from "./chat-turns.ts";
import { typedPath } from "./conversation-file.ts";

interface ChatCommand {
  readonly argument?: string;
  readonly about: string;
  /** "leave" ends the chat; "again" asks for another answer. */
  run(chat: Chat, argument: string): Promise<unknown> | unknown;
}

const COMMANDS: Readonly<Record<string, ChatCommand>> = {
  file: {
    argument: "PATH",
    about: "put a document in: text, PDF or DOCX",
    run: (chat, path) => chat.attachFile(typedPath(path)),
  },
  system: {
    argument: "[TEXT]",
    about: "sets the system message; without TEXT: removes it",
    run: (chat, text) => chat.tellFirst(text === "" ? null : text),
  },
  regen: { about: "answer the last message again", run: () => "again" },
  clear: {
    about: "forget conversation and documents",
    run: (chat) => {
      chat.clear();
      chat.screen.note("cleared");
    },
  },
  save: {
    argument: "[PATH]",
    about: "write the conversation, and its cache in a second file",
    run: (chat, path) => chat.save(typedPath(path)),
  },
  load: {
    argument: "PATH",
    about: "go on with a saved conversation",
    run: (chat, path) => chat.load(typedPath(path)),
  },
  stats: {
    about: "speed, and tokens reused from the cache",
    run: (chat) => chat.screen.say(statisticsLines(chat).join("\n")),
  },
  context: {
    about: "how full the context is, and of what",
    run: (chat) => chat.screen.say(contextLines(chat).join("\n")),
  },
  help: { about: "this list", run: (chat) => chat.screen.say(helpLines().join("\n")) },
  quit: { about: "leave", run: () => "leave" },
};

const WITH_PATH = /^\/(?:file|load|save)\s+(.*)$/;

/** A line that is a command; null: a message. "//" is a message that begins with one slash. */
export function parseCommand(line: string): { name: string; argument: string } | null {
  const found = /^\/([a-zA-Z]+)(?:\s+(.*))?$/s.exec(line.trimEnd());
  return found ? { name: found[1], argument: found[2] ?? "" } : null;
}

export type CommandEnd = "done" | "leave" | "again";

/** What follows the command. NibbleError for an unknown name or an unexpected argument. */
export async function runCommand(chat: Chat, name: string, argument: string): Promise<CommandEnd> {
  if (!Object.hasOwn(COMMANDS, name))
    throw new NibbleError(
      "argument",
      `/${name} is no command; /help lists them. For a message that begins with a slash write //${name}`,
    );
  const command = COMMANDS[name];
  if (argument !== "" && !command.argument) throw new NibbleError("argument", `/${name} takes no argument`);
  const end = await command.run(chat, argument);
  return end === "leave" || end === "again" ? end : "done";
}

function helpLines(): string[] {
  return [
    ...Object.entries(COMMANDS).map(
      ([name, { argument = "", about }]) => `  ${`/${name} ${argument}`.padEnd(15)}${about}`,
    ),
    '  A line that ends in \\ goes on; """ begins and ends a text of many lines; // begins a message with a slash.',
    "  Ctrl-C stops the answer, Ctrl-D leaves, the arrow keys go through what was typed before.",
  ];
}

/** For readline: possible completions, and the part of the line that they replace. */
export function complete(line: string): [string[], string] {
  if (/^\/[a-z]*$/.test(line)) {
    const names = Object.entries(COMMANDS).map(([name, { argument }]) => `/${name}${argument ? " " : ""}`);
    return [names.filter((name) => name.startsWith(line)), line];
  }
  const typed = WITH_PATH.exec(line)?.[1];
  if (typed === undefined) return [[], line];
  const isFolder = typed === "" || typed.endsWith("/");
  const folder = isFolder ? typed : typed.slice(0, typed.length - basename(typed).length);
  const start = isFolder ? "" : basename(typed);
  try {
    const entries = readdirSync(typedPath(folder) || ".", { withFileTypes: true });
    const fits = entries.filter(
      ({ name }) => name.startsWith(start) && (start !== "" || !name.startsWith(".")),
    );
    return [fits.map((entry) => `${folder}${entry.name}${entry.isDirectory() ? "/" : ""}`), typed];
  } catch {
    return [[], line];
  }
}

/**
 * Conversations as files: JSON with all branches, Markdown with the branch that is shown. Both can be written
 * and read. In Markdown a comment marks where a question or an answer begins; a line of a text that looks like such a
 * mark gets a backslash, so that what was written comes back.
 */
import { fieldsOf, listOf } from "../checked.ts";
import { newId } from "../ids.ts";
import { type Conversation, type Head, readHead } from "./book.ts";
import { newestLeaf, pathTo } from "./branches.ts";
import type { Turn } from "./conversation.ts";
import { inLine, readTurn } from "./saved.ts";

const FORMAT = "nibble.conversations";
const VERSION = 2;

export function toFile(all: readonly Conversation[], kind: "json" | "md"): string {
  return kind === "json"
    ? `${JSON.stringify({ format: FORMAT, version: VERSION, conversations: all }, null, 1)}\n`
    : all.map(toMarkdown).join("\n");
}

/** Throws Error, whose message begins with the file's name. Under ids of their own: nothing that is here is overwritten. */
export function fromFile(name: string, text: string): Conversation[] {
  const found = text.trimStart().startsWith("{") ? fromJson(text) : fromMarkdown(text);
  if (found.length > 0) return found.map(asNew);
  throw new Error(`${name} has no conversation that Nibble wrote, as JSON or Markdown.`);
}

function fromJson(text: string): Conversation[] {
  try {
    const { format, version, conversations } = fieldsOf(JSON.parse(text));
    if (format !== FORMAT || version !== VERSION) return [];
    return listOf(conversations, (one) => {
      const { head, turns } = fieldsOf(one);
      const read = readHead(head);
      return read && { head: read, turns: listOf(turns, readTurn) };
    });
  } catch {
    return [];
  }
}

function asNew({ head, turns }: Conversation): Conversation {
  const tree = new Map(turns.map((turn) => [turn.id, turn]));
  const leaf = head.leaf !== null && tree.has(head.leaf) ? head.leaf : newestLeaf(tree, null);
  return { head: { ...head, id: newId(), leaf }, turns };
}

const MARK =
  /^(\\*)(# .* <!-- nibble:conversation -->|## .* <!-- nibble:(question|answer) -->|<!-- nibble:system -->)$/;

function toMarkdown({ head, turns }: Conversation): string {
  const path = pathTo(new Map(turns.map((turn) => [turn.id, turn])), head.leaf);
  const parts = [`# ${oneLine(head.title)} <!-- nibble:conversation -->`];
  if (head.system !== "") parts.push("<!-- nibble:system -->", escaped(head.system));
  for (const { question, documents, answer, model } of path) {
    const attached = documents.map(({ name, text }) => `${name}:\n\n${text}`);
    parts.push("## You <!-- nibble:question -->", escaped([...attached, question].join("\n\n")));
    parts.push(`## ${oneLine(model) || "Answer"} <!-- nibble:answer -->`, escaped(answer));
  }
  return `${parts.join("\n\n")}\n`;
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").replaceAll("<!--", "").trim();
}

function escaped(text: string): string {
  return text.replace(/^.*$/gm, (line) => (MARK.test(line) ? `\\${line}` : line));
}

interface Section {
  readonly kind: string;
  readonly title: string;
  readonly lines: string[];
}

function sectionsOf(text: string): Section[] {
  const sections: Section[] = [];
  for (const line of text.replaceAll("\r\n", "\n").split("\n")) {
    const found = MARK.exec(line);
    if (!found) sections.at(-1)?.lines.push(line);
    else if (found[1] !== "") sections.at(-1)?.lines.push(line.slice(1));
    else {
      const kind = /nibble:(\w+) -->$/.exec(line)?.[1] ?? "";
      sections.push({ kind, title: line.replace(/^#+ /, "").replace(/ ?<!-- .*$/, ""), lines: [] });
    }
  }
  return sections;
}

function fromMarkdown(text: string): Conversation[] {
  const all: { head: Head; turns: Turn[] }[] = [];
  const now = Date.now();
  for (const { kind, title, lines } of sectionsOf(text)) {
    const content = lines.join("\n").trim();
    const last = all.at(-1);
    if (kind === "conversation") {
      const times = { createdAt: now, changedAt: now };
      all.push({ head: { id: newId(), title, isNamed: true, ...times, leaf: null, system: "" }, turns: [] });
    } else if (last && kind === "system") last.head = { ...last.head, system: content };
    else if (last && kind === "question")
      last.turns.push(readTurn({ ...BARE, at: now, question: content }) as Turn);
    else if (last && kind === "answer") {
      const turn = last.turns.pop();
      if (turn) last.turns.push({ ...turn, answer: content, model: title });
    }
  }
  return all.map(({ head, turns }) => ({ head, turns: [...inLine(turns)] }));
}

const BARE = { answer: "", state: "end", documents: [] };

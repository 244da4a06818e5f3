/** PDF and DOCX as documents: made here by hand, right, damaged and hostile; and the chat's /system and /regen. */
import { describe, expect, it } from "vitest";
import { Conversation } from "../../src/app/conversation.ts";
import { toPrompt } from "../../src/app/input.ts";
import { documentText } from "../../src/format/documents.ts";

import { bytes, docx, pdf, zip } from "./document-files.ts";

describe("documents", () => {
  it("are the words of a PDF, page by page", async () => {
    const text = await documentText("a.pdf", pdf(["The access code is 48213.", null, "The end."]));
    expect(text).toBe("The access code is 48213.\n\nThe end.");
  });

  it("are the words of a DOCX, and text as it is", async () => {
    expect(await documentText("a.docx", zip(docx("One &amp; two.", "Three.")))).toBe("One & two.\n\nThree.");
    expect(await documentText("a.txt", new TextEncoder().encode("Größe\n"))).toBe("Größe\n");
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    ["a scan", () => pdf([null, null]), /a PDF of 2 pages without text; allowed: .*OCR/],
    ["a damaged PDF", () => bytes("%PDF-1.7\nnothing of the kind"), /x: a damaged PDF/],
    ["a PDF cut in two", () => pdf(["a"]).subarray(0, 60), /x: /],
    ["another archive", () => zip({ "a.txt": "a" }), /a zip archive that is no DOCX is not supported/],
    ["an archive cut in two", () => zip(docx("a")).subarray(0, 300), /a zip archive that is no DOCX/],
    ["a bomb", () => zip(docx("a"), 2 ** 31), /parts of \d+ bytes; allowed: 524288000/],
    ["a DOCX without XML", () => zip({ ...docx("a"), "word/document.xml": "<w:document" }), /x: /],
    ["a DOCX without words", () => zip(docx("")), /a DOCX without text/],
    ["an old Word file", () => Uint8Array.of(0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1), /Word before 2007/],
    ["bytes", () => Uint8Array.of(0xff, 0xfe, 0), /bytes that are not UTF-8; allowed: text, PDF or DOCX/],
  ])("%s is refused in one line", async (_what, make, message) => {
    const failure = await documentText("x", make()).then(
      () => null,
      (error: Error) => error.message,
    );
    expect(failure).toMatch(message);
    expect(failure).not.toContain("\n");
  });
});

describe("what is told first", () => {
  it("stands before documents; where text goes on it is refused", () => {
    const input = { question: "Q", document: "D", system: "S" };
    expect(toPrompt(input, false)).toEqual([
      { role: "system", content: "S\n\nD" },
      { role: "user", content: "Q" },
    ]);
    expect(() => toPrompt(input, true)).toThrow("--system");
  });

  it("may change in a conversation, with documents kept; a turn may be taken back", () => {
    const talk = new Conversation("Old.");
    talk.attach("Doc.");
    const undo = talk.tellFirst("New.");
    expect(talk.system).toBe("New.\n\nDoc.");
    undo();
    expect(talk.system).toBe("Old.\n\nDoc.");
    talk.tellFirst(null);
    expect(talk.system).toBe("Doc.");
    talk.add("Q", "A", "");
    const turn = talk.takeBack()!;
    expect(turn).toEqual({ question: "Q", answer: "A", thinking: "" });
    expect(talk.takeBack()).toBeNull();
    talk.putBack(turn);
    expect(talk.turns).toEqual([turn]);
  });
});

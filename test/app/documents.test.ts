/** PDF and DOCX as documents: made here by hand, right, damaged and hostile; and the chat's /system and /regen. */
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { Conversation } from "../../src/app/conversation.ts";
import { documentText } from "../../src/app/documents.ts";
import { toPrompt } from "../../src/app/input.ts";

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));

/** A PDF with a page for each text; null: a page without any. */
function pdf(pages: readonly (string | null)[]): Uint8Array {
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    `<< /Type /Pages /Kids [${pages.map((_, i) => `${4 + 2 * i} 0 R`).join(" ")}] /Count ${pages.length} >>`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ...pages.flatMap((text, i) => {
      const stream = text === null ? "" : `BT /F1 12 Tf 72 720 Td (${text}) Tj ET`;
      return [
        `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${5 + 2 * i} 0 R /Resources << /Font << /F1 3 0 R >> >> >>`,
        `<< /Length ${stream.length} >>\nstream\n${stream}\nendstream`,
      ];
    }),
  ];
  let text = "%PDF-1.4\n";
  const places = objects.map((object, i) => {
    const at = text.length;
    text += `${i + 1} 0 obj\n${object}\nendobj\n`;
    return at;
  });
  const table = places.map((at) => `${String(at).padStart(10, "0")} 00000 n \n`).join("");
  return bytes(
    `${text}xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${text.length}\n%%EOF\n`,
  );
}

/** A zip archive of stored files; `claimed`: what the directory says of their sizes. */
function zip(files: Readonly<Record<string, string>>, claimed?: number): Uint8Array {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  for (const [name, content] of Object.entries(files)) {
    const data = Buffer.from(content);
    const head = Buffer.alloc(30);
    head.writeUInt32LE(0x04034b50, 0);
    head.writeUInt16LE(20, 4);
    head.writeUInt32LE(crc32(data), 14);
    head.writeUInt32LE(data.length, 18);
    head.writeUInt32LE(data.length, 22);
    head.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(20, 6);
    entry.writeUInt32LE(crc32(data), 16);
    entry.writeUInt32LE(data.length, 20);
    entry.writeUInt32LE(claimed ?? data.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    local.push(head, Buffer.from(name), data);
    central.push(entry, Buffer.from(name));
    at += 30 + name.length + data.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Object.keys(files).length, 8);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(at, 16);
  return new Uint8Array(Buffer.concat([...local, directory, end]));
}

const WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
function docx(...paragraphs: string[]): Record<string, string> {
  const body = paragraphs.map((text) => `<w:p><w:r><w:t>${text}</w:t></w:r></w:p>`).join("");
  const type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml";
  return {
    "[Content_Types].xml": `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/word/document.xml" ContentType="${type}"/></Types>`,
    "_rels/.rels": `<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>`,
    "word/document.xml": `<?xml version="1.0"?><w:document xmlns:w="${WORDS}"><w:body>${body}</w:body></w:document>`,
  };
}

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

/** The conversation's rules: what a model is asked, what is kept, which files are text. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { FORMAT_NAMES } from "../../src/cache/format-layers.ts";
import { newestLeaf, pathTo, siblings } from "../../web/chat/branches.ts";
import { cacheParts } from "../../web/chat/cache-picture.tsx";
import { asked, changed, heard, type Turns, toMessages } from "../../web/chat/conversation.ts";
import { DocumentError, MOST_BYTES, readDocument } from "../../web/chat/documents.ts";
import { fromSaved } from "../../web/chat/saved.ts";
import { fromFile, toFile } from "../../web/chat/transfer.ts";
import { AnswerFailure, heldBytes } from "../../web/models/model.ts";
import { FORMATS } from "../../web/models/names.ts";
import { ServerChatModel, serverModels, serverUrl } from "../../web/models/server.ts";
import { contextSteps, stepOf } from "../../web/plan/scale.ts";

const document = (name: string, text: string) => ({
  name,
  text,
  bytes: text.length,
  tokens: null,
  isExact: false,
});
const ask = (turns: Turns, question: string, ...files: string[]) =>
  asked(
    turns,
    question,
    files.map((text) => document(text, text)),
    "m",
  );
const answer = (turns: Turns, text: string) =>
  changed(
    heard(turns, [
      { kind: "reasoning", text: "hm" },
      { kind: "text", text },
    ]),
    { state: "end" },
  );

const toSaved = (turns: Turns) => JSON.stringify({ version: 1, turns });

describe("what a model is asked", () => {
  it("first documents with the instructions, later ones in front of their question, no reasoning", () => {
    const first = answer(ask([], "one?", "A", "B"), "1");
    const turns = ask(first, "two?", "C");
    expect(toMessages(turns, " Be short. ")).toEqual([
      { role: "system", content: "Be short.\n\nA\n\nB" },
      { role: "user", content: "one?" },
      { role: "assistant", content: "1" },
      { role: "user", content: "C\n\ntwo?" },
    ]);
    expect(toMessages(ask([], "one?"), "")).toEqual([{ role: "user", content: "one?" }]);
  });

  it("an unanswered question makes way for the next, its documents stay", () => {
    const failed = changed(ask([], "one?", "A"), { state: "failed", problem: "no" });
    const turns = ask(failed, "two?", "B");
    expect(turns).toHaveLength(1);
    expect(toMessages(turns, "")).toEqual([
      { role: "system", content: "A\n\nB" },
      { role: "user", content: "two?" },
    ]);
    const lost = changed(heard(ask([], "one?"), [{ kind: "text", text: "half" }]), { state: "lost" });
    expect(toMessages(ask(lost, "two?"), "").map(({ content }) => content)).toEqual(["one?", "half", "two?"]);
  });
});

describe("branches", () => {
  const turn = (id: string, parent: string | null, at: number) => ({
    ...answer(ask([], id), id)[0],
    id,
    parent,
    at,
  });
  const tree = new Map(
    [turn("a", null, 1), turn("b", "a", 2), turn("c", "a", 3), turn("d", "b", 4), turn("e", null, 5)].map(
      (one) => [one.id, one],
    ),
  );

  it("are paths, siblings by age, and their newest ends", () => {
    expect(pathTo(tree, "d").map(({ id }) => id)).toEqual(["a", "b", "d"]);
    expect(siblings(tree, tree.get("c")!).map(({ id }) => id)).toEqual(["b", "c"]);
    expect([newestLeaf(tree, "b"), newestLeaf(tree, "a"), newestLeaf(tree, null)]).toEqual(["d", "c", "e"]);
  });

  it("that go in circles end", () => {
    const circle = new Map([turn("a", "b", 1), turn("b", "a", 2)].map((one) => [one.id, one]));
    expect(pathTo(circle, "a")).toHaveLength(2);
    expect(newestLeaf(circle, "a")).not.toBeNull();
  });

  it("a new question follows what was answered, and replaces what was not", () => {
    const first = answer(ask([], "one?"), "1");
    const second = ask(first, "two?");
    expect(second[1].parent).toBe(first[0].id);
    expect(ask(second, "three?")[1]).toMatchObject({ parent: first[0].id, question: "three?" });
  });
});

describe("files of conversations", () => {
  const mark = "## You <!-- nibble:question -->";
  const turns = answer(ask(answer(ask([], "one?", "A"), "# 1\n\n\\(x\\)"), `two?\n${mark}\n\\${mark}`), "2");
  const head = {
    id: "x",
    title: "A title",
    isNamed: true,
    createdAt: 1,
    changedAt: 2,
    leaf: turns[1].id,
    system: "Be short.",
  };

  it("as JSON hold all, under ids of their own", () => {
    const [found] = fromFile("a.json", toFile([{ head, turns }], "json"));
    expect(found).toEqual({ head: { ...head, id: found.head.id }, turns });
    expect(found.head.id).not.toBe("x");
  });

  it("as Markdown hold the branch that is shown, whatever it says", () => {
    const two = [...turns, { ...turns[1], id: "other", answer: "another branch" }];
    const [found, second] = fromFile(
      "a.md",
      toFile(
        [
          { head, turns: two },
          { head, turns: [] },
        ],
        "md",
      ),
    );
    expect(found.head).toMatchObject({ title: "A title", system: "Be short.", leaf: found.turns[1].id });
    expect(found.turns.map(({ question, answer, model }) => [question, answer, model])).toEqual([
      ["A:\n\nA\n\none?", turns[0].answer, "m"],
      [turns[1].question, "2", "m"],
    ]);
    expect(second.turns).toEqual([]);
  });

  it.each(["", "# Notes", "{", '{"format":"other"}'])("%j is none of ours", (text) => {
    expect(() => fromFile("a.md", text)).toThrow("a.md has no conversation that Nibble wrote");
  });
});

it("the cache's parts are told by the figures of its turns", () => {
  const figures = {
    reusedTokens: null,
    draftedTokens: null,
    acceptedTokens: null,
    promptMs: 1,
    generateMs: 1,
  };
  const one = changed(answer(ask([], "1"), "a"), {
    figures: { ...figures, promptTokens: 10, generatedTokens: 5 },
  });
  const two = changed(answer(ask(one, "2"), "b"), {
    figures: { ...figures, promptTokens: 20, generatedTokens: 3 },
  });
  expect(cacheParts(two, 25).map(({ name, tokens }) => `${name} ${tokens}`)).toEqual([
    ...["Question 1 10", "Answer 1 5", "Question 2 5", "Answer 2 3", "Being read or written 2"],
  ]);
  expect(cacheParts(two, 12).map(({ tokens }) => tokens)).toEqual([10, 2]);
  expect(cacheParts(two, 0)).toEqual([]);
});

describe("what is kept", () => {
  it("comes back; an answer that was running is lost", () => {
    const turns = ask(answer(ask([], "one?", "A"), "1"), "two?");
    const back = fromSaved(toSaved(turns));
    expect(back[0]).toEqual(turns[0]);
    expect(back[1]).toMatchObject({ state: "lost", problem: expect.stringContaining("closed") });
  });

  it.each([
    null,
    "",
    "{",
    "[]",
    "null",
    '{"version":2,"turns":[]}',
    '{"version":1,"turns":[{}]}',
    '{"version":1,"turns":[null]}',
    '{"version":1,"turns":5}',
    '{"version":1,"turns":[{"question":"a","answer":"b","thinking":"","state":"shown","model":"","documents":[]}]}',
  ])("%j of another hand is nothing", (text) => {
    expect(fromSaved(text)).toEqual([]);
  });

  it("of which a part is damaged comes back without that part", () => {
    const file = document("a", "A");
    const whole = changed(answer(asked([], "one?", [file], "m"), "1"), {
      figures: {
        ...{ promptTokens: 9, reusedTokens: null, generatedTokens: 2, draftedTokens: 3, acceptedTokens: 1 },
        ...{ promptMs: 3, generateMs: 4 },
      },
    });
    const read = (change: object) => {
      const { version, turns } = JSON.parse(toSaved(whole));
      return fromSaved(JSON.stringify({ version, turns: [{ ...turns[0], ...change }] }));
    };
    expect(read({})).toEqual(whole);
    for (const figures of [5, "x", [], {}, { ...whole[0].figures, promptMs: null }, { promptTokens: -1 }])
      expect(read({ figures })).toEqual([{ ...whole[0], figures: null }]);
    for (const bad of [null, 5, { name: "b" }, { ...file, bytes: "many" }, { ...file, name: {} }])
      expect(read({ documents: [bad, file] })).toEqual(whole);
    expect(read({ documents: [{ ...file, tokens: "x", isExact: 1 }] })).toEqual(whole);
    expect(read({ problem: {}, model: 7, thinking: [] })[0]).toMatchObject({
      ...{ problem: null, model: "", thinking: "", answer: "1" },
    });
    expect(read({ answer: 5 })).toEqual([]);
  });
});

describe("documents", () => {
  const read = (bytes: BlobPart, name = "a.txt") => readDocument(new File([bytes], name));

  it("are text in UTF-8, or in UTF-16 with its mark", async () => {
    expect(await read("Grüße")).toMatchObject({ name: "a.txt", text: "Grüße", bytes: 7 });
    expect(await read(new Uint8Array([0xff, 0xfe, 0x41, 0]))).toMatchObject({ text: "A" });
  });

  it.each([
    ["a PDF without an end", "%PDF-1.7\n\0", /^a\.pdf: a damaged PDF/],
    ["another archive", "PK\x03\x04rest", /^a\.pdf: a zip archive that is no DOCX/],
    ["zeros", "text\0text", /not a text file/],
    ["Latin-1", new Uint8Array([0x47, 0x72, 0xfc, 0xdf, 0x65]), /no UTF-8/],
    ["nothing", "", /^a\.pdf is empty/],
    ["too much", new Uint8Array(MOST_BYTES + 2 ** 19), /^a\.pdf has 8\.5 MiB; a document may have 8\.0 MiB/],
  ])("%s is refused by name", async (_, bytes, message) => {
    const refused = read(bytes, "a.pdf");
    await expect(refused).rejects.toThrow(DocumentError);
    await expect(refused).rejects.toThrow(message);
  });
});

describe("a server's address", () => {
  it.each([
    ["", "http://127.0.0.1:8080/v1/"],
    ["http://h:1", "http://h:1/v1/"],
    ["http://h:1/v1", "http://h:1/v1/"],
    ["https://h/api/v1/", "https://h/api/v1/"],
    ["localhost:1234", "http://localhost:1234/v1/"],
    ["ftp://h", null],
    ["http://", null],
  ])("%j", (text, url) => {
    expect(serverUrl(text, "http://127.0.0.1:8080/index.html#plan")).toBe(url);
  });

  it("beside a page in a folder", () => {
    expect(serverUrl("", "https://h/nibble/index.html")).toBe("https://h/nibble/v1/");
  });
});

it("a server that does not count is taken for some four bytes a token, and says so", async () => {
  const model = { id: "m", state: null, part: null, context: null, kv: null, rates: null, formats: [] };
  const found = new ServerChatModel({ url: "http://h/v1/", key: "" }, model).count("Grüße, Welt");
  expect(await found).toEqual({ tokens: 4, isExact: false });
});

describe("a server's answers", () => {
  const answering = (body: unknown) =>
    vi.stubGlobal("fetch", async () => new Response(typeof body === "string" ? body : JSON.stringify(body)));
  afterEach(() => vi.unstubAllGlobals());
  const server = { url: "http://h/v1/", key: "" };

  it.each([null, 5, {}, [null], [5], [{}], [{ capacity: 1, tokenBytes: "a", tokenBytesF16: 2 }]])(
    "cache rates of %j are none",
    async (cacheRates) => {
      answering({ data: [{ id: "m", nibble: { context: -1, kv: 3, cacheRates } }] });
      expect(await serverModels(server)).toEqual([
        { id: "m", state: null, part: null, context: null, kv: null, rates: null, formats: [] },
      ]);
    },
  );

  it.each(["", "{", "null", "{}", '{"tokens":5}'])(
    "a count of %j is a failure with a reason",
    async (body) => {
      answering(body);
      const model = new ServerChatModel(server, {
        id: "m",
        state: null,
        part: null,
        context: null,
        kv: null,
        rates: [],
        formats: [],
      });
      await expect(model.count("a")).rejects.toThrow(AnswerFailure);
    },
  );
});

it("caches hold no more than their capacity", () => {
  const rates = [
    { capacity: 100, tokenBytes: 2, tokenBytesF16: 6 },
    { capacity: 1000, tokenBytes: 1, tokenBytesF16: 3 },
  ];
  expect(heldBytes(rates, 50)).toEqual({ bytes: 150, f16Bytes: 450 });
  expect(heldBytes(rates, 500)).toEqual({ bytes: 700, f16Bytes: 2100 });
});

it("the planner's slider ends at the trained context", () => {
  const steps = contextSteps(40_960);
  expect(steps[0]).toBe(1024);
  expect(steps).toContain(32_768);
  expect(steps.at(-1)).toBe(40_960);
  expect(steps[stepOf(steps, 131_072)]).toBe(40_960);
  expect(steps[stepOf(steps, 8200)]).toBe(8192);
});

it("a model here may be run with every format that has a name", () => {
  expect(FORMATS.map(([name]) => name).sort()).toEqual(["", ...FORMAT_NAMES].sort());
});

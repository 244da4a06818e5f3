/** Who may use the server: origins of every kind, names, keys; and what the command line takes for them. */
import type { IncomingMessage } from "node:http";
import { describe, expect, it } from "vitest";
import type { ApiError } from "../../src/app/api/errors.ts";
import { checkCaller, corsHeaders, readGuard } from "../../src/app/api/guard.ts";
import { readHost } from "../../src/app/host-header.ts";
import { ArgumentError } from "../../src/index.ts";

const none = { cors: [], allowHost: [] };
const URL_HERE = "http://127.0.0.1:8080/v1/models";

/** The refusal's message; null: it may. */
function refusal(headers: Record<string, string>, given: object = {}, url = URL_HERE): string | null {
  try {
    checkCaller(new Request(url, { headers }), readGuard({ ...none, ...given }), false);
    return null;
  } catch (error) {
    return (error as ApiError).message;
  }
}

describe("origins", () => {
  const ORIGINS = [
    "app://obsidian.md",
    "vscode-webview://1ab2c3d4e5",
    "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
    "moz-extension://0b1c2d3e-1111-2222-3333-444455556666",
    "tauri://localhost",
    "capacitor://localhost",
    "http://tauri.localhost",
    "https://example.org",
    "http://localhost:5173",
    "http://[::1]:3000",
    "null",
  ];
  it.each(ORIGINS)("%s: refused, and the way out that the error names lets it in", (origin) => {
    const wayOut = / start it with --cors (\S+)$/.exec(refusal({ origin }) ?? "")?.[1];
    expect(wayOut).toBe(origin);
    expect(refusal({ origin }, { cors: [wayOut] })).toBeNull();
    const options = readGuard({ ...none, cors: [origin] });
    expect(corsHeaders(new Request(URL_HERE, { headers: { origin } }), options)).toMatchObject({
      "access-control-allow-origin": origin,
    });
    for (const other of ORIGINS.filter((other) => other !== origin))
      expect(refusal({ origin: other }, { cors: [origin] })).toContain("may not use this server");
  });

  it.each([
    ["http://localhost:5173/", "http://localhost:5173"],
    ["HTTPS://Example.org:443", "https://example.org"],
    ["app://obsidian.md/", "app://obsidian.md"],
    ["*", "https://any.example"],
  ])("--cors %s means %s", (given, origin) => {
    expect(refusal({ origin }, { cors: [given] })).toBeNull();
  });

  it.each([
    "example.org",
    "https://example.org/page",
    "https://a@b",
    "app://",
    "app://a b",
    "https://a?b",
    "",
    "/",
  ])("--cors %j is refused", (given) => {
    expect(() => readGuard({ ...none, cors: [given] })).toThrow(ArgumentError);
  });

  it("an origin that is none has no way out, and none of another scheme is this server's own", () => {
    expect(refusal({ origin: "https://a.example/$(id)" })).toMatch(/; this is no origin$/);
    expect(refusal({ origin: "x".repeat(300) })).toMatch(/; this is no origin$/);
    expect(refusal({ origin: "app://127.0.0.1:8080" })).not.toBeNull();
    expect(refusal({ origin: "http://127.0.0.1:8080" })).toBeNull();
  });
});

describe("names", () => {
  it.each(["Box.Local", "box.local:8080", "box.local."])("--allow-host %s lets box.local in", (given) => {
    expect(refusal({}, {}, "http://box.local/")).toContain("start it with --allow-host box.local");
    expect(refusal({}, { allowHost: [given] }, "http://box.local/")).toBeNull();
  });

  it("--allow-host takes names", () => {
    for (const given of ["", "http://box", "a b", "box/path"])
      expect(() => readGuard({ ...none, allowHost: [given] })).toThrow(ArgumentError);
  });

  it.each([
    ["1.1", "[::ffff:127.0.0.1]:8080", "[::ffff:7f00:1]:8080"],
    ["1.1", "[0:0:0:0:0:0:0:1]", "[::1]"],
    ["1.1", "localhost", "localhost"],
    ["1.1", "[::1", "[::1"],
    ["1.1", undefined, undefined],
    ["1.0", undefined, "[::ffff:7f00:1]:9"],
  ])("HTTP/%s with Host %s is read as %s", (httpVersion, host, expected) => {
    const socket = { localAddress: "::ffff:127.0.0.1", localPort: 9 };
    const incoming = { headers: { host }, httpVersion, socket } as unknown as IncomingMessage;
    readHost(incoming);
    expect(incoming.headers.host).toBe(expected);
  });
});

describe("keys", () => {
  it.each(["", " ", "a b", "schlüssel", "key\n", "\u{1f511}"])("%j is refused at start", (apiKey) => {
    expect(() => readGuard({ ...none, apiKey })).toThrow(/^apiKey is (empty|one with blanks)/);
  });

  it("any other can be sent, and nothing else is let in", () => {
    const apiKey = "sk-!~\"'\\";
    expect(refusal({ authorization: `Bearer ${apiKey}` }, { apiKey })).toBeNull();
    for (const authorization of ["Bearer", "Bearer ", "Bearer sk-", ""])
      expect(refusal({ authorization }, { apiKey })).toContain("API key");
    expect(refusal({})).toBeNull();
  });
});

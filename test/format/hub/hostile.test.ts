/** Whatever a Hub answers: an error of ours, or the right bytes. Never other bytes under a final name. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NibbleError } from "../../../src/format/errors.ts";
import { type PullOptions, pull } from "../../../src/format/hub/pull.ts";
import { answer } from "../http-server.ts";
import { type FakeHub, fakeHub, sha256 } from "./fake-hub.ts";

const BYTES = Buffer.from(Uint8Array.from({ length: 20_000 }, (_, i) => (i * 31 + (i >> 7)) & 255));

let folder: string;
let hub: FakeHub;
let options: PullOptions;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "nibble-hostile-"));
  hub = await fakeHub({ "x-Q4_0.gguf": BYTES });
  options = {
    ...{ offline: false, symlinks: true, endpoint: hub.endpoint },
    token: null,
    backoffMs: 0,
    attempts: 3,
    stallMs: 1000,
    rangeBytes: 4096,
  };
});
afterAll(async () => {
  await hub.close();
  rmSync(folder, { recursive: true, force: true });
});

/** True when it was downloaded. What is installed is right in any case. */
async function tryPull(cache: string): Promise<boolean> {
  let done = true;
  await pull("hf:owner/name", { ...options, cache }).catch((error) => {
    expect(error).toBeInstanceOf(NibbleError);
    expect(error.message).not.toMatch(/NaN|\[object/);
    done = false;
  });
  const blobs = join(cache, "models--owner--name/blobs");
  for (const name of existsSync(blobs) ? readdirSync(blobs) : [])
    if (/^[0-9a-f]+$/.test(name)) expect(sha256(readFileSync(join(blobs, name)))).toBe(name);
  if (!done) expect(existsSync(join(cache, "models--owner--name/snapshots"))).toBe(false);
  return done;
}

type Behaviour = (request: IncomingMessage, response: ServerResponse, n: number) => void;
const rangeOf = (request: IncomingMessage) => {
  const match = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "");
  return match ? { start: Number(match[1]), end: Number(match[2]) + 1 } : { start: 0, end: BYTES.length };
};
const partly = (response: ServerResponse, start: number, end: number, bytes: Uint8Array) => {
  response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${BYTES.length}` });
  response.end(bytes);
};
const BEHAVIOURS: Record<string, Behaviour> = {
  honest: (request, response) => answer(request, response, BYTES),
  drops: (request, response, n) => {
    const { start, end } = rangeOf(request);
    response.writeHead(206, {
      "content-range": `bytes ${start}-${end - 1}/${BYTES.length}`,
      "content-length": end - start,
    });
    response.write(BYTES.subarray(start, Math.min(end, start + n)), () => response.destroy());
  },
  gone: (request) => request.socket.destroy(),
  gives_less: (request, response, n) => {
    const { start, end } = rangeOf(request);
    const last = Math.min(end, start + n + 1);
    partly(response, start, last, BYTES.subarray(start, last));
  },
  flips_a_bit: (request, response, n) => {
    const { start, end } = rangeOf(request);
    const bytes = Buffer.from(BYTES.subarray(start, end));
    bytes[n % bytes.length] ^= 1;
    partly(response, start, end, bytes);
  },
  shifts: (request, response, n) => {
    const { start, end } = rangeOf(request);
    partly(response, start + (n % 3), end + (n % 3), BYTES.subarray(start, end));
  },
  sends_more: (request, response, n) => {
    const { start, end } = rangeOf(request);
    partly(response, start, end, Buffer.concat([BYTES.subarray(start, end), Buffer.alloc(n)]));
  },
  sends_all: (_, response) => response.writeHead(200).end(BYTES),
  fails: (_, response, n) => response.writeHead([500, 429, 404, 403, 416, 204, 304, 401][n % 8]).end(),
  redirects: (_, response, n) =>
    response.writeHead(302, { location: ["/x", "", "http://", "https://[", "javascript:1"][n % 5] }).end(),
};

describe("whatever the server of files does", () => {
  it("what is installed is right, and an honest answer mends it", async () => {
    const step = fc.tuple(fc.constantFrom("honest", ...Object.keys(BEHAVIOURS)), fc.nat(5000));
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
        const cache = join(folder, `${run++}`);
        let request = 0;
        hub.intercept = (asked, response, at) => {
          if (at === "hub") return false;
          const [name, n] = steps[request++ % steps.length];
          BEHAVIOURS[name](asked, response, n);
          return true;
        };
        const done = await tryPull(cache);
        hub.intercept = () => false;
        if (!done) expect(await tryPull(cache)).toBe(true);
        rmSync(cache, { recursive: true });
      }),
      { numRuns: 80 },
    );
  });
});

describe("whatever the API says", () => {
  const path = fc.oneof(
    fc.constantFrom(
      "x-Q4_0.gguf",
      "../x.gguf",
      "/x.gguf",
      "a/./b.gguf",
      "\0.gguf",
      "con.gguf",
      "mmproj.gguf",
    ),
    fc.string(),
    fc.anything(),
  );
  const entry = fc.oneof(
    fc.record(
      {
        type: fc.constantFrom("file", "directory", "x"),
        path,
        size: fc.oneof(fc.integer(), fc.anything()),
        oid: fc.oneof(fc.constant("0".repeat(40)), fc.anything()),
        lfs: fc.oneof(fc.constant({ oid: sha256(BYTES), size: BYTES.length }), fc.anything()),
      },
      { requiredKeys: [] },
    ),
    fc.anything(),
  );
  const json = (value: unknown) => {
    try {
      return JSON.stringify(value, (_, each) => (typeof each === "bigint" ? String(each) : each)) ?? "null";
    } catch {
      return "{";
    }
  };

  it("is a list that is checked", async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.array(entry, { maxLength: 4 }), fc.anything()), async (listed) => {
        const cache = join(folder, `api-${run++}`);
        hub.intercept = (request, response, at) => {
          if (at !== "hub" || !request.url!.includes("/tree/")) return false;
          response.end(json(listed));
          return true;
        };
        await tryPull(cache);
        rmSync(cache, { recursive: true, force: true });
        expect(readdirSync(folder)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });
});

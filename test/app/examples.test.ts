/** Every file under examples/ runs as it stands. The demo has its own gate: `npm run demo`. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { requireFreshBuild, root, startNode } from "./nibble.ts";

const EXPECTED: Record<string, RegExp> = {
  "abort.js": /read 64 of \d+ tokens\nreading the prompt was stopped\n$/,
  "cache-formats.js": /^f16 +4194304 bytes.* 614\.\nint4 +1310720 bytes.* 614\.\n$/,
  "conversation.js": /48213.*\n.*, 0 of them from the cache\n.*Lisbon.*\n.*, [1-9]\d* of them/,
  "device.js": /^.+\n.+ \(\d+ tokens\/s\)\n$/,
  "inspect.js": /f16: 4096 bytes.*\nint4: 1280 bytes/,
  "openai-client.js": /^The access code of Clara Whitfield is 48213\.\n\{"city":"(Lisbon|Vienna)"\}\n$/,
  "object.js": /^\{"city":"(Lisbon|Vienna)"\} \(\d+ tokens\)\n$/,
  "open.js": /llama, 8 layers of 384/,
  "parallel.js": /Whitfield\? .*48213\. \(\d+ of \d+ tokens read\)\n.*Thorne\? .*Lisbon\. \(\d+ of/,
  "result.js": /"promptTokens": [1-9]/,
  "sampling.js": /^(.*)\n\1\n.*"seed":8/,
  "saved-session.js": /^(\d+) tokens restored, \d+ reused: .*48213\.\n$/,
  "stream.js": /^The home city of Boris Thorne is Vienna\.\n\d+ tokens, stopped by: end\n$/,
  "verify.js":
    /^f16, fact at 10 %: 1 of 1\n(.*\n)*answers over int4: mean KL 0\.\d{4} next to f16\nint4: \S+\n$/,
};

beforeAll(requireFreshBuild);

describe("examples", () => {
  it("are all listed here", () => {
    const files = readdirSync(join(root, "examples")).filter((name) => name.endsWith(".js"));
    expect(files.sort()).toEqual([...Object.keys(EXPECTED), "demo.js"].sort());
  });

  it.each(Object.entries(EXPECTED))("%s", async (name, expected) => {
    const { code, stdout, stderr } = await startNode([join(root, "examples", name)]).ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(expected);
  });

  it("open.js ends with one line for a file that is not there", async () => {
    const { code, stderr } = await startNode([join(root, "examples/open.js"), "no-such.gguf"]).ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^io: no-such\.gguf: [^\n]+\n$/);
  });
});

/** The app's parts that need no process: exit codes by error, where a document goes, what may reach a terminal. */
import { Command } from "commander";
import { afterEach, describe, expect, it, vi } from "vitest";
import { report } from "../../src/app/exit.ts";
import { toPrompt } from "../../src/app/input.ts";
import { write } from "../../src/app/interrupt.ts";
import { progress } from "../../src/app/progress.ts";
import { printable } from "../../src/app/terminal.ts";
import { AbortedError, ContextError, DeviceError, MemoryError, NibbleError } from "../../src/index.ts";
import { bytes, perSecond, rate } from "../../src/plot/numbers.ts";

afterEach(() => vi.restoreAllMocks());

describe("exit code", () => {
  const aborted = (reason?: number) => {
    const controller = new AbortController();
    if (reason !== undefined) controller.abort(reason);
    return controller.signal;
  };
  const of = (error: unknown, signal = aborted()) => {
    const said = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    const code = report(error, new Command(), signal);
    const lines = said.mock.calls.map(([text]) => text).join("");
    said.mockRestore();
    return { code, said: lines };
  };

  it("3 for what does not fit", () => {
    const context = of(new ContextError(9000, 4096));
    expect(context.code).toBe(3);
    expect(context.said).toMatch(/^nibble: .*9000.*4096.*\n$/);
    const memory = (source: string) =>
      of(
        new MemoryError(
          9,
          8,
          4096,
          2048,
          "It needs 9; the memory is 8",
          "Longest context that fits: 2048 tokens.",
          source,
        ),
      );
    expect(memory("")).toEqual({
      code: 3,
      said: "nibble: It needs 9; the memory is 8. Longest context that fits: 2048 tokens.\n",
    });
    expect(memory("nvidia-smi").said).toMatch(/2048 tokens\. --memory overrules what nvidia-smi says\.\n$/);
  });

  it("1 for a device that fails and for what nobody foresaw, in one line", () => {
    expect(of(new DeviceError("wasm", "trap")).code).toBe(1);
    expect(of(new TypeError("x is not\n  a function"))).toEqual({
      code: 1,
      said: "nibble: x is not a function\n",
    });
    expect(of("text")).toEqual({ code: 1, said: "nibble: text\n" });
  });

  it("that of the signal, silently, after a stop", () => {
    expect(of(new AbortedError("generating"), aborted(143))).toEqual({ code: 143, said: "" });
  });
});

describe("a document", () => {
  const input = { question: "Why?", document: "A story." };

  it("is the system message of a conversation", () => {
    expect(toPrompt(input, false)).toEqual([
      { role: "system", content: "A story." },
      { role: "user", content: "Why?" },
    ]);
  });

  it("stands in front of text that goes on, and is left out when there is none", () => {
    expect(toPrompt(input, true)).toBe("A story.\n\nWhy?");
    expect(toPrompt({ question: "Why?", document: null }, false)).toBe("Why?");
  });
});

describe("figures", () => {
  it("have units that people read", () => {
    expect([0, 1023, 1024, 150 * 2 ** 20, 3.2 * 2 ** 30].map(bytes)).toEqual([
      "0 bytes",
      "1023 bytes",
      "1.0 KiB",
      "150 MiB",
      "3.2 GiB",
    ]);
    expect(rate(0, 10)).toBeNull();
    expect(rate(12, 1000)).toBe(12);
    expect(perSecond(123456, 1000)).toBe(" at 123,456 tokens/s");
    expect(perSecond(0, 0)).toBe("");
  });
});

describe("on a terminal", () => {
  const HOSTILE = "a\x1b]52;c;aGk=\x07b\tc\nd\x9b31me\x7f";
  const SHOWN = "a\\u001b]52;c;aGk=\\u0007b\tc\nd\\u009b31me\\u007f";
  const onStream = (name: "stdout" | "stderr", isTTY: boolean) => {
    const stream = process[name];
    const before = stream.isTTY;
    stream.isTTY = isTTY;
    const said = vi.spyOn(stream, "write").mockReturnValue(true);
    return () => {
      stream.isTTY = before;
      const text = said.mock.calls.map(([piece]) => piece).join("");
      said.mockRestore();
      return text;
    };
  };

  it("no control character is sent", () => {
    const all = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code)).join("");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    expect(printable(all)).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
    expect(printable("plain é\u001b")).toBe("plain é\\u001b");
  });

  it("a model's text is shown, in a pipe it is as it is", async () => {
    const { signal } = new AbortController();
    for (const [isTTY, text] of [
      [true, SHOWN],
      [false, HOSTILE],
    ] as const) {
      const said = onStream("stdout", isTTY);
      await write(HOSTILE, signal);
      expect(said()).toBe(text);
    }
  });

  it("names of files do not get out of the line of progress", () => {
    const said = onStream("stderr", true);
    const line = progress("\x1b[2Jloading", () => "\x1b]0;title\x07 of a\nb");
    line.show(1, 2);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what the line itself writes
    const own = /^\r|\x1b\[K$/g;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    expect(said().replace(own, "")).not.toMatch(/[\x00-\x1f\x7f-\x9f]/);
  });

  it("what a template says in an error is one line", () => {
    vi.stubEnv("NIBBLE_DEBUG", "1");
    const said = onStream("stderr", false);
    const error = new NibbleError("format", HOSTILE);
    report(error, new Command(), new AbortController().signal);
    const [line, ...stack] = said().split("\n");
    expect(line).toBe(`nibble: ${SHOWN.replace("\t", "\\t").replace("\n", " ")}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    expect(stack.join("")).not.toMatch(/[\x1b\x07\x9b]/);
    vi.unstubAllEnvs();
  });
});

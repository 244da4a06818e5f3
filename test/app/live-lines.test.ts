/** Lines that are redrawn in place: each time as many are removed as were written, and none wraps or scrolls away. */
import { expect, it } from "vitest";
import { liveLines } from "../../src/app/live-lines.ts";

function terminal(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, columns: 11, rows: 5, written, write: (text: string) => written.push(text) > 0 };
}

it("redraws in place, cut to the screen, with control characters made visible", () => {
  const screen = terminal(true);
  const live = liveLines(screen);
  live.clear();
  live.show(["one", "a line that is too long"]);
  live.show(["1", "\x1b]0;", "3", "4", "5"]);
  live.clear();
  live.clear();
  expect(screen.written).toEqual([
    "one\na line tha\n",
    "\x1b[2A\r\x1b[J",
    "1\n\\u001b]0;\n3\n",
    "\x1b[3A\r\x1b[J",
  ]);
});

it("writes nothing where there is no terminal", () => {
  const pipe = terminal(false);
  const live = liveLines(pipe);
  live.show(["one"]);
  live.clear();
  expect(pipe.written).toEqual([]);
});

/** In the worker: times attention on the page's GPU with the code of `nibble bench attend`. */
import { type AttendFinding, attendPlot, benchAttend, openAttendTimer } from "../../src/browser.ts";
import type { Doing } from "./protocol.ts";

export const bench: Doing<"bench"> = async (tests, report, signal) => {
  const timer = await openAttendTimer();
  try {
    const rows: AttendFinding[] = [];
    for await (const row of benchAttend(timer, {
      ...tests,
      signal,
      onProgress: (progress) => report({ kind: "doing", progress }),
    })) {
      rows.push(row);
      report({ kind: "rows", rows: [...rows], plot: attendPlot(rows) });
    }
    return null;
  } finally {
    await timer.close();
  }
};

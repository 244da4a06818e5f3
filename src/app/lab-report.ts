/** `nibble lab report`: the page of all that is known. */
import { join } from "node:path";
import { labReport, type Methods, type Snapshot } from "../lab.ts";
import { type LabOptions, methodsOf, print, withKnown } from "./lab-open.ts";
import { checkTarget, writeTarget } from "./target.ts";

export async function writeReport(
  options: LabOptions & { html?: string },
  signal: AbortSignal,
): Promise<void> {
  const { html = join(options.folder, "report.html") } = options;
  const methods = await methodsOf(options);
  await withKnown(options, signal, async (known) => {
    await checkTarget(html);
    await writeReportOf(known, html, methods);
  });
  await print(
    options,
    signal,
    () => [{ report: html }],
    () => [html],
  );
}

export async function writeReportOf(known: Snapshot, path: string, methods: Methods): Promise<void> {
  await writeTarget(path, labReport(known, methods));
}

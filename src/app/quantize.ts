/** `nibble quantize`: a checkpoint to a GGUF of another type. The path goes to stdout; what people read goes to stderr. */
import { ArgumentError, quantizeModel, UnsupportedError } from "../index.ts";
import { bytes } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";
import { printable } from "./terminal.ts";

export interface QuantizeCommand {
  type: string;
  text?: string;
  offline?: boolean;
  json?: boolean;
}

export async function printQuantized(
  source: string,
  target: string,
  { type, text, offline, json }: QuantizeCommand,
  signal: AbortSignal,
): Promise<void> {
  if (text !== undefined)
    throw new UnsupportedError(
      "--text (weighing errors by what a text activates)",
      "Without it, blocks are those of llama.cpp's quantizer without an importance matrix.",
    );
  if (!target.endsWith(".gguf")) throw new ArgumentError("target", target, "a name that ends in .gguf");
  const downloading = downloadLine();
  const line = progress("quantizing", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  const made = await quantizeModel(source, target, {
    ...{ type, offline, signal, onDownload: downloading.show },
    onProgress: ({ bytes: done, totalBytes }) => {
      downloading.clear();
      line.show(done, totalBytes);
    },
  }).finally(() => {
    downloading.clear();
    line.clear();
  });
  for (const warning of made.warnings) process.stderr.write(`nibble: warning: ${printable(warning)}\n`);
  if (json) return write(`${JSON.stringify(made)}\n`, signal);
  const types = made.types.map(({ type, tensors, bytes: own }) => `${type} ${tensors} (${bytes(own)})`);
  process.stderr.write(
    `${printable(`${made.mixture}: ${bytes(made.sourceBytes)} of weights -> ${bytes(made.bytes)}; tensors: ${types.join(", ")}`)}\n`,
  );
  return write(`${target}\n`, signal);
}

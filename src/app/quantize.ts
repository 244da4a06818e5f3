/** `nibble quantize`: a checkpoint to a GGUF of another type. The path goes to stdout; what people read goes to stderr. */
import type { Command } from "commander";
import { ArgumentError, type ImportanceSource, quantizeModel } from "../index.ts";
import { bytes } from "../plot/numbers.ts";
import { count } from "./arguments.ts";
import { readDocument } from "./input.ts";
import { write } from "./interrupt.ts";
import { progress } from "./progress.ts";
import { downloadLine } from "./pull.ts";
import { printable } from "./terminal.ts";

/** Adds the command to `program`. */
export function quantizeCommand(program: Command, signal: AbortSignal): void {
  program
    .command("quantize")
    .description("Converts a model into a GGUF of another type, a few rows at a time; prints its path.")
    .argument(
      "<source>",
      "what `run` takes: preferably an unquantized model, as a safetensors folder or a GGUF",
    )
    .argument("<target>", "the new file, NAME.gguf; it appears complete or not at all")
    .requiredOption(
      "--type <name>",
      `q4_k (q4_k_m), q5_k, q6_k, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_s, q5_k_s, q3_k_s, q3_k_m, q3_k_l, q2_k, f16, bf16, f32`,
    )
    .option(
      "--importance <file>",
      "weigh errors by the importance of matrix columns: from a text, PDF or DOCX, which the model reads first, or from a GGUF of llama.cpp's imatrix",
    )
    .option("--importance-out <file>", "write the importance from the text to a GGUF, NAME.gguf")
    .option("--threads <count>", "CPU threads that read the text (default: the physical cores)", count)
    .option("--offline", "load hf: models only from the disk, never from the network")
    .option("--json", "print the result as one JSON object")
    .addHelpText(
      "after",
      `
Tensors get llama.cpp's mixture of types for this name: output, values and some down projections get more bits. Blocks
equal those of llama.cpp's quantizer bit for bit, without an importance matrix or, with --importance, with one. An
importance text has at least 512 tokens (tens of thousands are usual) of the kind that the model will be used for. To
read it, the model has to fit in memory; quantizing alone takes a few megabytes. If a model does not fit, quantize it to
a type that does, collect the importance from that with --importance-out, and use this file as --importance for the model.`,
    )
    .action((source, target, options) => printQuantized(source, target, options, signal));
}

interface QuantizeOptions {
  type: string;
  /** A text, or a GGUF with an importance matrix. */
  importance?: string;
  importanceOut?: string;
  threads?: number;
  offline?: boolean;
  json?: boolean;
}

async function printQuantized(
  source: string,
  target: string,
  { type, importance, importanceOut, threads, offline, json }: QuantizeOptions,
  signal: AbortSignal,
): Promise<void> {
  if (!target.endsWith(".gguf")) throw new ArgumentError("target", target, "a name that ends in .gguf");
  const weighedBy = importance === undefined ? undefined : await importanceSource(importance, signal);
  const downloading = downloadLine();
  const reading = progress("reading the importance text", (done, total) => `${done} of ${total} tokens`);
  const line = progress("quantizing", (done, total) => `${bytes(done)} of ${bytes(total)}`);
  const made = await quantizeModel(source, target, {
    ...{ type, importance: weighedBy, importanceOut, threads, offline, signal },
    onDownload: downloading.show,
    onReading: ({ tokens, totalTokens }) => {
      downloading.clear();
      reading.show(tokens, totalTokens);
    },
    onProgress: ({ bytes: done, totalBytes }) => {
      downloading.clear();
      reading.clear();
      line.show(done, totalBytes);
    },
  }).finally(() => {
    downloading.clear();
    reading.clear();
    line.clear();
  });
  for (const warning of made.warnings) process.stderr.write(`nibble: warning: ${printable(warning)}\n`);
  if (json) return write(`${JSON.stringify(made)}\n`, signal);
  const weighed = made.importance
    ? `; ${made.importance.matrices} matrices weighed by ${made.importance.datasets.join(", ") || "an importance matrix"}`
    : "";
  const types = made.types.map(({ type, tensors, bytes: own }) => `${type} ${tensors} (${bytes(own)})`);
  process.stderr.write(
    `${printable(`${made.mixture}: ${bytes(made.sourceBytes)} of weights -> ${bytes(made.bytes)}; tensors: ${types.join(", ")}${weighed}`)}\n`,
  );
  return write(`${target}\n`, signal);
}

async function importanceSource(file: string, signal: AbortSignal): Promise<ImportanceSource> {
  return file.endsWith(".gguf") ? { file } : { text: await readDocument(file, signal), name: file };
}

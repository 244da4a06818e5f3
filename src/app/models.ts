/**
 * `nibble models`: models on this disk, and suggested models, each with the context that fits this machine;
 * `nibble models rm`: deletes one. Uses no network.
 */
import {
  ArgumentError,
  CATALOG_DATE,
  type InstalledModel,
  installedModels,
  modelsForMachine,
  removeModel,
  type SuitedModel,
} from "../index.ts";
import { bytes, grouped } from "../plot/numbers.ts";
import { write } from "./interrupt.ts";
import { printable } from "./terminal.ts";

export interface ModelsCommand {
  /** Bytes. */
  memory?: number;
  json?: boolean;
}

export async function printModels({ memory, json }: ModelsCommand, signal: AbortSignal): Promise<void> {
  const installed = await installedModels();
  if (json) {
    const { models, device, recommended } = await modelsForMachine({ memoryBytes: memory });
    const listed = { date: CATALOG_DATE, device, recommended, models };
    return write(`${JSON.stringify({ installed, listed })}\n`, signal);
  }
  await write(`${diskText(installed).join("\n")}\n\n`, signal);
  const found = await modelsForMachine({ memoryBytes: memory });
  const marked = (model: SuitedModel) => (model.name === found.recommended ? "  <- begin with this one" : "");
  const rows = found.models.map((model) => [
    model.name,
    bytes(model.weightBytes),
    model.context === 0 ? "does not fit" : `${grouped(model.context)} tokens`,
    marked(model),
  ]);
  const lines = [
    `models to begin with (looked over on ${CATALOG_DATE}): name, weights in memory, context that fits over int4`,
    `on ${found.device}`,
    ...table(rows),
    "",
    "nibble run NAME PROMPT downloads one when it is first used; any GGUF or safetensors repository on the Hub works by its name.",
  ];
  await write(`${lines.join("\n")}\n`, signal);
}

export async function removeInstalled(name: string, signal: AbortSignal): Promise<void> {
  if (name === "needle")
    throw new ArgumentError("model", name, "a downloaded one: needle is part of the package and stays");
  const { paths, bytes: freed } = await removeModel(name);
  await write(`${paths.map(printable).join("\n")}\n`, signal);
  process.stderr.write(`nibble: removed ${bytes(freed)}\n`);
}

function diskText(installed: readonly InstalledModel[]): string[] {
  const rows = installed.map(({ name, bytes: size }) => [name, bytes(size)]);
  return [
    "on this disk",
    ...table([...rows, ["needle", "ships with nibble: answers what its own examples ask"]]),
  ];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  return rows.map((row) =>
    `  ${row.map((cell, i) => printable(cell).padEnd(i < row.length - 1 ? width(i) + 2 : 0)).join("")}`.trimEnd(),
  );
}

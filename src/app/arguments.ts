/** Values as people type them after options: each parser gives the value, or commander's error that says what is needed. */
import { InvalidArgumentError } from "commander";
import { layerFormats } from "../index.ts";
import { memorySize } from "./plan.ts";

export function number(value: string): number {
  const parsed = Number(value);
  if (value.trim() === "" || Number.isNaN(parsed)) throw new InvalidArgumentError("A number is needed.");
  return parsed;
}

export function count(value: string): number {
  const parsed = number(value);
  if (!(Number.isSafeInteger(parsed) && parsed >= 0))
    throw new InvalidArgumentError("A whole number from 0 on is needed.");
  return parsed;
}

/** "0,32768". */
export function counts(value: string): number[] {
  return value.split(",").map(count);
}

export function size(value: string): number {
  try {
    return memorySize(value);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** "int4,f16". */
export const names = (value: string) => value.split(",");

export const collect = (value: string, before: string[]) => [...before, value];

/** Checked here, so that a misspelt one ends before a model is looked for. */
export function kvFormats(value: string): string {
  try {
    layerFormats(value);
    return value;
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** Reads a number of at least 1. */
export function positive(value: string): number {
  const parsed = count(value);
  if (parsed < 1) throw new InvalidArgumentError("A whole number from 1 on is needed.");
  return parsed;
}

/** Each is a process with its models: more than these are a slip of the finger. */
const MOST_WORKERS = 64;

export function workers(value: string): number {
  const parsed = positive(value);
  if (parsed > MOST_WORKERS)
    throw new InvalidArgumentError(`A whole number from 1 to ${MOST_WORKERS} is needed; others join.`);
  return parsed;
}

/** "90", "90s", "2m", "1.5h" in milliseconds. */
export function duration(value: string): number {
  const match = /^(\d+(?:\.\d+)?)(s|m|h)?$/.exec(value);
  if (!match || Number(match[1]) <= 0)
    throw new InvalidArgumentError("A time such as 90s, 2m or 1h is needed.");
  return Number(match[1]) * { s: 1, m: 60, h: 3600 }[match[2] ?? "s"]! * 1000;
}

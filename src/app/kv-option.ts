/** The option that names a cache format, for the commands that take one. */
import { Option } from "commander";
import { DEFAULT_KV, FORMAT_NAMES } from "../index.ts";
import { kvFormats } from "./arguments.ts";

export const kvOption = () =>
  new Option(
    "--kv <format>",
    `format of keys and values: ${FORMAT_NAMES.join(", ")}, or one by layer such as int4+f16@0-1 (default: kv4, ${DEFAULT_KV} on a GPU without subgroup matrices, f16 in a layer that would break)`,
  ).argParser(kvFormats);

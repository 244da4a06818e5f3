/** Why a request cannot use the model that it names: it does not exist, or cannot be loaded. */
import { type ErrorCode, NibbleError, nearestModels } from "../../index.ts";
import { ApiError } from "./errors.ts";

/** Another try may help after an error of a disk, a network or a device, but not of the file or the memory. */
const PASSES: readonly ErrorCode[] = ["io", "device"];

/** log: called with internal errors. */
export function loadError(name: string, error: unknown, log: (error: unknown) => void): ApiError {
  const isKnown = error instanceof NibbleError;
  const canPass = !isKnown || PASSES.includes(error.code);
  if (canPass) log(error);
  const why = isKnown ? error.message : "an error inside the server; its log has it";
  return new ApiError(canPass ? 500 : 400, `the model ${JSON.stringify(name)} cannot be loaded: ${why}`, {
    param: "model",
    code: isKnown && error.code === "memory" ? "model_too_large" : "model_not_loaded",
  });
}

const MOST_NAMES = 5;

export function unknownModel(asked: string | undefined, names: readonly string[]): ApiError {
  const entries = names.map((name) => ({ name, title: name, shape: name, type: "" }));
  const near = asked === undefined ? [] : nearestModels(asked, entries).map(({ name }) => name);
  const listed = near.length > 0 ? near : names.slice(0, MOST_NAMES);
  const more = near.length === 0 && names.length > listed.length ? " and others, which /v1/models lists" : "";
  const known = `${near.length > 0 ? "near to it" : "there are"}: ${listed.map((name) => JSON.stringify(name)).join(", ")}${more}`;
  if (asked === undefined)
    return new ApiError(400, `model is missing; several are served here, ${known}`, { param: "model" });
  const shown = JSON.stringify(asked.slice(0, 100));
  return new ApiError(404, `the model ${shown} is not served here; ${known}`, {
    param: "model",
    code: "model_not_found",
  });
}

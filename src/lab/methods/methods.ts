/** The methods by name: those here, and those from outside; checks that a part of a spec is valid for its method. */
import type { KvPart } from "../../device/contract.ts";
import { ArgumentError } from "../../format/errors.ts";
import type { Part } from "../types.ts";
import { affine } from "./affine.ts";
import { cachedMethod } from "./cached.ts";
import { fixed } from "./fixed.ts";
import { kivi } from "./kivi.ts";
import { kvarn } from "./kvarn.ts";
import { kvquant } from "./kvquant.ts";
import { BY_TOKEN, type Method } from "./method.ts";
import { polar } from "./polar.ts";
import { qjl } from "./qjl.ts";
import { rq4 } from "./rq4.ts";
import { symmetric } from "./symmetric.ts";
import { turbo, turboProd } from "./turbo.ts";

const f16: Method = {
  name: "f16",
  title: "as it is",
  needs: BY_TOKEN,
  bits: [16],
  groups: [0],
  bitsOf: () => 16,
  apply() {},
};

/** Methods that are part of Nibble. */
export const METHODS: readonly Method[] = [
  ...[f16, affine, symmetric, rq4, kivi, kvquant, kvarn],
  ...[turbo, turboProd, qjl, polar, fixed],
];

export class Methods {
  readonly #byName: Map<string, Method>;

  constructor(more: readonly Method[] = []) {
    this.#byName = new Map([...METHODS, ...more].map((method) => [method.name, method]));
  }

  get all(): Method[] {
    return [...this.#byName.values()];
  }

  get(name: string): Method {
    const found = this.#byName.get(name) ?? cachedMethod(name);
    if (!found) throw new ArgumentError("a spec's method", name, [...this.#byName.keys()].join(", "));
    return found;
  }

  /** The part's method. ArgumentError for bits, groups or a rotation that it does not have. */
  of({ method: name, bits, group, rotate }: Part, part: KvPart): Method {
    const method = this.get(name);
    const one = (what: string, found: number, allowed: readonly number[]) => {
      if (!allowed.includes(found))
        throw new ArgumentError(`${what} of ${part} by ${name}`, found, allowed.join(", "));
    };
    one("bits", bits, method.bits);
    one("group", group, method.groups);
    if (rotate && method.rotates)
      throw new ArgumentError(`rotate of ${part} by ${name}`, true, "false: it rotates by itself");
    return method;
  }
}

/**
 * A JSON schema as a grammar, whose texts are JSON that the schema allows. Owns which keywords there are: each is kept
 * or refused at its place, none is dropped, so an answer that was promised to match does match. Titles and the like
 * pass. Own rules, for those of the kept library let numbers out of their bounds and control characters into strings
 * (0.1.27; test/app/grammar.test.ts has the property that found it).
 */
import { badValue, unsupported } from "../api/errors.ts";
import { Fields, shown } from "../api/fields.ts";
import { BLANK, FORMATS, JSON_RULES, literal, stringExcept } from "./json-rules.ts";
import { patternRule } from "./pattern.ts";
import { rangeRule } from "./ranges.ts";

const ANNOTATIONS = [
  ...["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"],
  ...["$schema", "$id", "$defs", "definitions", "discriminator"],
];

const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const;

/** What each type takes besides. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties"],
  array: ["items", "prefixItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "pattern", "format"],
  integer: BOUNDS,
  number: BOUNDS,
  boolean: [],
  null: [],
};

/** A schema with one of these has nothing else that narrows. oneOf is taken as anyOf. */
const ALONE = ["$ref", "anyOf", "oneOf", "allOf"];

const MOST_CHARACTERS = 100_000;
const MOST_SCHEMAS = 2000;
const DEEPEST = 40;
const MOST_CHOICES = 1000;
const MOST_COUNT = 10_000;
const MOST_VALUE = 1e15;
const LEAST_VALUE = 1e-6;

/**
 * The grammar's text, from rule "root" on. isStrict: properties that are not named are not allowed unless the schema
 * says so. Throws ApiError 400 with its place for what is no schema, or cannot be kept.
 */
export function schemaGrammar(schema: unknown, place: string, isStrict: boolean): string {
  const length = JSON.stringify(schema)?.length ?? 0;
  if (length > MOST_CHARACTERS)
    throw badValue(place, `${length} characters long`, `up to ${MOST_CHARACTERS}`);
  return new Converter(new Fields(schema, place), isStrict).grammar();
}

class Converter {
  readonly #rules: string[] = [];
  /** Rules of what $ref names. */
  readonly #named = new Map<string, string>();
  readonly #root: Fields;
  readonly #isStrict: boolean;
  #schemas = 0;

  constructor(root: Fields, isStrict: boolean) {
    this.#root = root;
    this.#isStrict = isStrict;
  }

  grammar(): string {
    const root = this.#reference("#", this.#root);
    return `root ::= ${root}\n${this.#rules.join("\n")}${JSON_RULES}`;
  }

  #rule(body: string): string {
    const name = `r${this.#rules.length}`;
    this.#rules.push(`${name} ::= ${body}`);
    return name;
  }

  /** An expression that stands safely in a sequence. */
  #convert(schema: unknown, place: string, depth: number): string {
    if (schema === true) return "value";
    if (++this.#schemas > MOST_SCHEMAS) throw badValue(place, "one schema too many", `up to ${MOST_SCHEMAS}`);
    if (depth > DEEPEST) throw badValue(place, "nested too deep", `up to ${DEEPEST} schemas in each other`);
    const fields = new Fields(schema, place);
    const narrowing = Object.keys(fields.record).filter((key) => !ANNOTATIONS.includes(key));
    const alone = narrowing.find((key) => ALONE.includes(key));
    if (alone !== undefined) {
      refuseBeside(fields, alone, narrowing, []);
      if (alone === "$ref") return this.#reference(fields.requiredText("$ref"), fields);
      const most = alone === "allOf" ? 1 : MOST_CHOICES;
      const choices = this.#listOf(fields, alone, most);
      return this.#rule(
        choices
          .map((choice, at) => this.#convert(choice, fields.place(`${alone}[${at}]`), depth + 1))
          .join(" | "),
      );
    }
    const value = ["enum", "const"].find((key) => narrowing.includes(key));
    if (value !== undefined) {
      refuseBeside(fields, value, narrowing, ["type"]);
      const choices = value === "enum" ? this.#listOf(fields, "enum", MOST_CHOICES) : [fields.record.const];
      return this.#rule(choices.map((choice) => literal(JSON.stringify(choice))).join(" | "));
    }
    return this.#typed(fields, narrowing, depth);
  }

  #listOf(fields: Fields, name: string, most: number): readonly unknown[] {
    const list = fields.list(name) ?? [];
    if (list.length === 0 || list.length > most) throw fields.wrong(name, `a list of 1 to ${most}`);
    return list;
  }

  #typed(fields: Fields, narrowing: readonly string[], depth: number): string {
    const types = typesOf(fields);
    for (const key of narrowing.filter((key) => key !== "type")) {
      const of = Object.keys(KEYWORDS).filter((type) => KEYWORDS[type].includes(key));
      if (of.length === 0) throw notKept(fields.place(key), "");
      if (!of.some((type) => types.includes(type)))
        throw notKept(fields.place(key), `without "type": ${JSON.stringify(of[0])}`);
    }
    if (types.length === 0) return "value";
    const kinds: Record<string, () => string> = {
      object: () => this.#object(fields, depth),
      array: () => this.#array(fields, depth),
      string: () => this.#string(fields),
      integer: () => this.#number(fields, "integer"),
      number: () => this.#number(fields, "number"),
    };
    const rules = types.map((type) => kinds[type]?.() ?? type);
    return rules.length === 1 ? rules[0] : this.#rule(rules.join(" | "));
  }

  /** Named properties in their order, each once; then others. */
  #object(fields: Fields, depth: number): string {
    const properties = fields.object("properties");
    const names = Object.keys(properties?.record ?? {});
    const required = fields.list("required") ?? [];
    const lost = required.find((name) => !names.includes(name as string));
    if (lost !== undefined) throw badValue(fields.place("required"), shown(lost), "names of its properties");
    const isOpen = properties === undefined || !this.#isStrict;
    const others = fields.any("additionalProperties") ?? isOpen;
    const other =
      others === false
        ? null
        : `(${stringExcept(names)} ${BLANK} ":" ${BLANK} ${this.#convert(others, fields.place("additionalProperties"), depth + 1)})`;
    // From the last property to the first: what may follow when something stands in front, and when nothing does.
    let after = other === null ? '""' : this.#rule(`(${BLANK} "," ${BLANK} ${other})*`);
    let first = other === null ? '""' : this.#rule(`"" | ${other} ${after}`);
    for (const name of [...names].reverse()) {
      const value = this.#convert(properties!.record[name], properties!.place(name), depth + 1);
      const member = `${literal(JSON.stringify(name))} ${BLANK} ":" ${BLANK} ${value} ${after}`;
      const isNeeded = required.includes(name);
      first = this.#rule(isNeeded ? member : `${member} | ${first}`);
      const next = `${BLANK} "," ${BLANK} ${member}`;
      after = this.#rule(isNeeded ? next : `${next} | ${after}`);
    }
    return this.#rule(`"{" ${BLANK} ${first} ${BLANK} "}"`);
  }

  #array(fields: Fields, depth: number): string {
    const { low, high } = countsOf(fields, "minItems", "maxItems");
    const given = fields.list("prefixItems") ?? [];
    const firsts = given.slice(0, high ?? given.length);
    const items = fields.any("items") ?? true;
    const most = items === false ? firsts.length : (high ?? Number.POSITIVE_INFINITY);
    if (low > most) throw fields.wrong("minItems", `up to ${most}`);
    const comma = `${BLANK} "," ${BLANK}`;
    let after = '""';
    if (most > firsts.length) {
      const item = this.#convert(items, fields.place("items"), depth + 1);
      const least = Math.max(0, low - firsts.length);
      const left = most - firsts.length;
      const times = (from: number, to: number) =>
        `(${comma} ${item}){${Math.max(0, from)},${Number.isFinite(to) ? to : ""}}`;
      if (firsts.length === 0) {
        const some = left === 1 ? item : `${item} ${times(least - 1, left - 1)}`;
        return this.#rule(`"[" ${BLANK} ${least > 0 ? `(${some})` : `(${some})?`} ${BLANK} "]"`);
      }
      after = this.#rule(times(least, left));
    }
    for (let at = firsts.length - 1; at >= 0; at--) {
      const item = this.#convert(firsts[at], fields.place(`prefixItems[${at}]`), depth + 1);
      const some = `${at === 0 ? "" : comma} ${item} ${after}`;
      after = this.#rule(low > at ? some : `${some} | ""`);
    }
    return this.#rule(`"[" ${BLANK} ${after} ${BLANK} "]"`);
  }

  #string(fields: Fields): string {
    const { low, high } = countsOf(fields, "minLength", "maxLength");
    const format = FORMATS[fields.text("format") ?? ""];
    const isCounted = low > 0 || high !== null;
    const pattern = fields.text("pattern");
    if (pattern !== undefined && (isCounted || format !== undefined))
      throw notKept(fields.place("pattern"), "beside minLength, maxLength or format");
    if (pattern !== undefined)
      return this.#rule(`"\\"" ${patternRule(pattern, fields.place("pattern"))} "\\""`);
    if (format !== undefined && isCounted)
      throw notKept(fields.place("format"), "beside minLength or maxLength");
    if (format !== undefined) return this.#rule(`"\\"" ${format} "\\""`);
    return isCounted ? this.#rule(`"\\"" char{${low},${high ?? ""}} "\\""`) : "string";
  }

  #number(fields: Fields, kind: "integer" | "number"): string {
    const found = BOUNDS.flatMap((name) => {
      const value = fields.number(name, { low: -MOST_VALUE, high: MOST_VALUE });
      if (value !== undefined && value !== 0 && Math.abs(value) < LEAST_VALUE)
        throw fields.wrong(name, `0, or from ${LEAST_VALUE} on`);
      return value === undefined ? [] : [[name, value] as const];
    });
    if (found.length === 0) return kind;
    const range = rangeRule(kind, Object.fromEntries(found));
    if (range === null)
      throw badValue(
        fields.place(found[0][0]),
        "a bound that leaves no number",
        "bounds with numbers between",
      );
    return this.#rule(range);
  }

  /** The rule of a definition of this schema, made when it is first named. */
  #reference(reference: string, fields: Fields): string {
    const known = this.#named.get(reference);
    if (known !== undefined) return known;
    const target = this.#target(reference, fields);
    this.#refuseCircle(reference, fields);
    // A name first: the definition may name itself.
    const name = `d${this.#named.size}`;
    this.#named.set(reference, name);
    const place = reference === "#" ? this.#root.place("").replace(/\.$/, "") : reference;
    this.#rules.push(`${name} ::= ${this.#convert(target, place, 0)}`);
    return name;
  }

  #target(reference: string, fields: Fields): unknown {
    if (reference === "#") return this.#root.record;
    const [, group, name] = /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(reference) ?? [];
    const target = group === undefined ? undefined : this.#root.object(group)?.any(name);
    if (target === undefined) throw fields.wrong("$ref", 'a definition of this schema: "#/$defs/name"');
    return target;
  }

  /** A definition that is nothing but itself. */
  #refuseCircle(reference: string, fields: Fields): void {
    const seen: string[] = [];
    let at = reference;
    for (;;) {
      if (seen.includes(at)) throw fields.wrong("$ref", "a definition that ends somewhere");
      seen.push(at);
      const target = this.#target(at, fields);
      const next = (target as { $ref?: unknown } | null)?.$ref;
      if (typeof next !== "string") return;
      at = next;
    }
  }
}

/** Properties or items alone say what the type is; empty: any. */
function typesOf(fields: Fields): readonly string[] {
  const found = fields.any("type");
  const types = found === undefined ? [] : Array.isArray(found) ? found : [found];
  const isType = (type: unknown) => typeof type === "string" && Object.hasOwn(KEYWORDS, type);
  if (found !== undefined && (types.length === 0 || !types.every(isType)))
    throw fields.wrong("type", `of ${Object.keys(KEYWORDS).join(", ")} one or a list`);
  if (found === undefined && fields.has("properties")) return ["object"];
  if (found === undefined && (fields.has("items") || fields.has("prefixItems"))) return ["array"];
  return [...new Set(types as string[])];
}

function countsOf(fields: Fields, lowest: string, highest: string): { low: number; high: number | null } {
  const range = { low: 0, high: MOST_COUNT, integer: true };
  const low = fields.number(lowest, range) ?? 0;
  const high = fields.number(highest, range) ?? null;
  if (high !== null && high < low) throw fields.wrong(highest, `from ${lowest}, ${low}, on`);
  return { low, high };
}

function refuseBeside(fields: Fields, keyword: string, all: readonly string[], allowed: readonly string[]) {
  const beside = all.find((key) => key !== keyword && !allowed.includes(key));
  if (beside !== undefined) throw notKept(fields.place(beside), `beside ${keyword}`);
}

function notKept(place: string, why: string) {
  return unsupported(place, `${place} ${why === "" ? "" : `${why} `}is not supported in schemas`);
}

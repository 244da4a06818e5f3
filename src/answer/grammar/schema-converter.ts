/**
 * A JSON schema as a grammar, whose texts are JSON that the schema allows. Each keyword becomes rules or is refused at
 * its place; none is dropped, so an answer that is promised to match does match. The rules are our own, since those of
 * the library allow numbers outside their bounds and control characters in strings (0.1.27;
 * test/answer/grammar.test.ts has the property that found it).
 */
import type { Slices } from "../../format/slices.ts";
import { badValue } from "../errors.ts";
import { ObjectFields, shown } from "../object-fields.ts";
import { bareText } from "./bare-text.ts";
import { oneOf } from "./choices.ts";
import { Counted } from "./counted.ts";
import { keptFormat } from "./formats.ts";
import { literal } from "./json-rules.ts";
import {
  ALONE,
  checkKeywords,
  isAnyName,
  isOfTypes,
  narrowingKeywords,
  notKept,
  refuseBeside,
  type TypeName,
  typesOf,
} from "./keywords.ts";
import type { Notation } from "./notation.ts";
import { numberRule } from "./numbers.ts";
import { nameExcept } from "./other-names.ts";
import { patternRule } from "./pattern.ts";
import { pointerPath, valueAt } from "./pointer.ts";
import { MOST_TIMES, repeated } from "./repeats.ts";
import type { Size } from "./size.ts";

const PARAMETER_END = "</parameter>";
/** A text ends with it. */
const XML_MARKS = new Map([[PARAMETER_END, ""]]);
const IN_XML = "in arguments that this model writes as bare text";
const MOST_SCHEMAS = 2000;
const DEEPEST = 40;
const MOST_CHOICES = 1000;
const MOST_ITEMS = 10_000;

export interface SchemaRules {
  readonly root: string;
  readonly rules: readonly string[];
}

type Types = readonly TypeName[] | null;

/** What a $ref refers to, restricted to the types that are left. */
interface Definition {
  readonly name: string;
  readonly target: unknown;
  readonly fields: ObjectFields;
  readonly place: string;
  readonly types: Types;
}

export class Converter {
  readonly #rules: string[] = [];
  /** By their text. */
  readonly #names = new Map<string, string>();
  readonly #definitions = new Map<string, Definition>();
  /** Definitions that only refer to another one, by name. */
  readonly #aliases = new Map<string, string>();
  readonly #root: ObjectFields;
  readonly #place: string;
  readonly #isStrict: boolean;
  readonly #size: Size;
  readonly #counted: Counted;
  readonly #notation: Notation;
  readonly #prefix: string;
  #schemas = 0;
  #steps = 0;

  constructor(
    root: ObjectFields,
    place: string,
    isStrict: boolean,
    size: Size,
    notation: Notation,
    prefix: string,
  ) {
    this.#notation = notation;
    this.#prefix = prefix;
    this.#root = root;
    this.#place = place;
    this.#isStrict = isStrict;
    this.#size = size;
    this.#counted = new Counted(this.#rule);
  }

  /** only: of these types; null: any. */
  *schema(only: Types = null): Slices<SchemaRules> {
    return yield* this.#from(this.#reference("#", this.#root, only));
  }

  *xml(): Slices<SchemaRules> {
    const alone = narrowingKeywords(this.#root).find((key) => ALONE.includes(key));
    if (alone !== undefined) throw notKept(this.#root.place(alone), IN_XML);
    for (const [name, body] of bareText("bare", { marks: XML_MARKS, end: null })) this.#add(name, body);
    const required = new Set(this.#root.list("required"));
    const { names, schemaOf } = yield* this.#members(this.#root, 0);
    const members: string[] = [];
    for (const name of names) {
      if (/[>\n]/.test(name)) throw notKept(this.#root.place("properties"), IN_XML);
      const { schema, place } = schemaOf(name);
      const value = yield* this.#bare(schema, place);
      const member = this.#rule(`${literal(`<parameter=${name}>\n`)} ${value} "\\n"`);
      members.push(required.has(name) ? member : `${member}?`);
    }
    return yield* this.#from(this.#rule(members.length === 0 ? '""' : members.join(" ")));
  }

  /** A value and the mark after it. Refused where a string would need more than its bare text. */
  *#bare(schema: unknown, place: string): Slices<string> {
    const fields = new ObjectFields(schema === true ? {} : schema, place);
    const narrowing = narrowingKeywords(fields);
    const values = ["enum", "const"].find((key) => narrowing.includes(key));
    const end = `"\\n"? ${literal(PARAMETER_END)}`;
    if (values !== undefined) {
      const all = values === "enum" ? this.#listOf(fields, "enum", MOST_CHOICES) : [fields.record.const];
      const texts = all.map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
      // A number that could also be a string would be read as a string.
      const kinds = new Set(all.map((value) => (value === null ? "null" : typeof value)));
      const isMixed = kinds.has("string") && [...kinds].some((kind) => kind !== "string" && kind !== "null");
      if (isMixed || texts.some((text) => text.includes(PARAMETER_END)))
        throw notKept(fields.place(values), IN_XML);
      return `${this.#rule(oneOf(texts.map(literal), this.#rule))} ${end}`;
    }
    const choices = ["anyOf", "oneOf"].find((key) => narrowing.includes(key));
    const all = choices === undefined ? [] : this.#listOf(fields, choices, MOST_CHOICES);
    for (const [at, choice] of all.entries()) {
      const one = new ObjectFields(choice, fields.place(`${choices}[${at}]`));
      if (isText(one)) return "bare";
    }
    if (narrowing.includes("$ref") || narrowing.includes("allOf")) throw notKept(place, IN_XML);
    if (choices === undefined && isText(fields)) return "bare";
    return `${yield* this.#convert(schema, place, 1)} ${end}`;
  }

  *#from(root: string): Slices<SchemaRules> {
    // A definition may refer to others and to itself: each is made after those that refer to it.
    for (const { name, target, place, types } of this.#definitions.values()) {
      const body = yield* this.#convert(target, place, 0, types);
      this.#add(name, body);
      if (this.#isDefinition(body)) this.#aliases.set(name, body);
    }
    this.#refuseCircles();
    return { root, rules: this.#rules };
  }

  /** The name of a rule; rules that are equal are one. */
  #rule = (body: string): string => {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const name = `${this.#prefix}r${this.#rules.length}`;
    this.#names.set(body, name);
    this.#add(name, body);
    return name;
  };

  #add(name: string, body: string): void {
    this.#size.add(body, this.#place);
    this.#rules.push(`${name} ::= ${body}`);
  }

  /** An expression that is safe in a sequence. left: the types that the enclosing schemas allow. */
  *#convert(schema: unknown, place: string, depth: number, left: Types = null): Slices<string> {
    yield;
    if (++this.#schemas > MOST_SCHEMAS) throw badValue(place, "one schema too many", `up to ${MOST_SCHEMAS}`);
    if (depth > DEEPEST) throw badValue(place, "nested too deep", `up to ${DEEPEST} schemas in each other`);
    const fields = new ObjectFields(schema === true ? {} : schema, place);
    const narrowing = narrowingKeywords(fields);
    const types = typesOf(fields, left);
    const alone = narrowing.find((key) => ALONE.includes(key));
    if (alone !== undefined) {
      refuseBeside(fields, alone, narrowing, ["type"]);
      if (alone === "$ref") return this.#reference(fields.requiredText("$ref"), fields, types);
      const choices = this.#listOf(fields, alone, alone === "allOf" ? 1 : MOST_CHOICES);
      const rules: string[] = [];
      for (const [at, choice] of choices.entries())
        rules.push(yield* this.#convert(choice, fields.place(`${alone}[${at}]`), depth + 1, types));
      return this.#rule(oneOf(rules, this.#rule));
    }
    const value = ["enum", "const"].find((key) => narrowing.includes(key));
    if (value !== undefined) return yield* this.#values(fields, value, narrowing, types);
    checkKeywords(fields, narrowing, types);
    if (types === null) return "value";
    const rules: string[] = [];
    for (const type of types) rules.push(yield* this.#typed(type, fields, depth));
    return rules.length === 1 ? rules[0] : this.#rule(oneOf(rules, this.#rule));
  }

  #listOf(fields: ObjectFields, name: string, most: number): readonly unknown[] {
    const list = fields.list(name) ?? [];
    if (list.length === 0 || list.length > most) throw fields.wrong(name, `a list of 1 to ${most}`);
    return list;
  }

  *#values(
    fields: ObjectFields,
    keyword: string,
    narrowing: readonly string[],
    types: Types,
  ): Slices<string> {
    refuseBeside(fields, keyword, narrowing, ["type", "nullable"]);
    const all = keyword === "enum" ? this.#listOf(fields, "enum", MOST_CHOICES) : [fields.record.const];
    const values = all.filter((value) => isOfTypes(value, types));
    if (values.length === 0)
      throw badValue(fields.place(keyword), "of no type that is left", `values of ${types?.join(", ")}`);
    const one = yield* this.#notation.values(values, this.#rule);
    if (typeof one !== "string")
      throw badValue(fields.place(keyword), shown(one.unwritten), "values without marks of calls");
    return this.#rule(one);
  }

  *#typed(type: TypeName, fields: ObjectFields, depth: number): Slices<string> {
    if (type === "object") return yield* this.#object(fields, depth);
    if (type === "array") return yield* this.#array(fields, depth);
    if (type === "string") return this.#string(fields);
    return type === "integer" || type === "number"
      ? numberRule(fields, type, {
          rule: this.#rule,
          define: this.#add.bind(this),
          name: () => `${this.#prefix}s${this.#steps++}`,
        })
      : type;
  }

  /** Named properties in their order, each once; then others. */
  *#object(fields: ObjectFields, depth: number): Slices<string> {
    const { names, schemaOf, others, nameRule } = yield* this.#members(fields, depth);
    if (this.#notation.isSorted) names.sort(byLetters);
    const known = new Set<unknown>(names);
    const required = new Set(fields.list("required"));
    for (const name of required)
      if (!known.has(name)) throw badValue(fields.place("required"), shown(name), "names of its properties");
    const { gap } = this.#notation;
    const member = (name: string, value: string) => `${name} ":" ${gap} ${value}`;
    const other =
      others === false
        ? null
        : this.#rule(
            member(nameRule, yield* this.#convert(others, fields.place("additionalProperties"), depth + 1)),
          );
    const comma = `"," ${gap}`;
    // From the last property to the first: at least one of those from here on, and whether there may be none.
    let some = other === null ? null : this.#rule(`${other} (${comma} ${other})*`);
    let mayBeNone = true;
    for (const name of names.reverse()) {
      const { schema, place } = schemaOf(name);
      const value = yield* this.#convert(schema, place, depth + 1);
      const after = some === null ? "" : mayBeNone ? `(${comma} ${some})?` : `${comma} ${some}`;
      const written = this.#notation.name(name);
      if (written === null)
        throw badValue(fields.place("properties"), shown(name), "names without marks of calls");
      const from = `${member(written, value)} ${after}`;
      const isNeeded = required.has(name);
      some = this.#rule(some === null || isNeeded ? from : `${from} | ${some}`);
      mayBeNone &&= !isNeeded;
    }
    return this.#rule(`"{" ${some === null ? "" : mayBeNone ? `(${some})?` : some} "}"`);
  }

  /** The names of an object. A record that lists its keys has them as properties with one schema. */
  *#members(fields: ObjectFields, depth: number) {
    const properties = fields.object("properties");
    const keys = fields.object("propertyNames");
    if (keys && properties) throw notKept(fields.place("propertyNames"), "together with properties");
    const additional = fields.any("additionalProperties");
    if (!keys || isAnyName(keys.record)) {
      const record = properties?.record ?? {};
      const names = Object.keys(record).filter((name) => !isNever(record[name]));
      const schemaOf = (name: string) => ({ schema: record[name], place: properties!.place(name) });
      const isOpen = properties === undefined || !this.#isStrict;
      const others = additional ?? isOpen;
      return {
        names,
        schemaOf,
        others,
        nameRule:
          others === false ? "" : yield* nameExcept(Object.keys(record), this.#notation.names, this.#rule),
      };
    }
    const listed = keys.any("const") === undefined ? keys.list("enum") : [keys.any("const")];
    const schema = additional ?? true;
    const schemaOf = () => ({ schema, place: fields.place("additionalProperties") });
    if (listed && schema !== false) {
      const names = [...new Set(listed.filter((name): name is string => typeof name === "string"))];
      return { names, schemaOf, others: false, nameRule: "" };
    }
    const place = fields.place("propertyNames");
    const nameRule = schema === false ? "" : yield* this.#convert(keys.record, place, depth + 1, ["string"]);
    return { names: [] as string[], schemaOf, others: schema, nameRule };
  }

  *#array(fields: ObjectFields, depth: number): Slices<string> {
    const { low, high } = countsOf(fields, "minItems", "maxItems", MOST_ITEMS);
    const given = fields.list("prefixItems") ?? [];
    const firsts = given.slice(0, high ?? given.length);
    const items = fields.any("items") ?? true;
    const most = items === false ? firsts.length : (high ?? Number.POSITIVE_INFINITY);
    if (low > most) throw fields.wrong("minItems", `up to ${most}`);
    const comma = `"," ${this.#notation.gap}`;
    let after = '""';
    if (most > firsts.length) {
      const item = yield* this.#convert(items, fields.place("items"), depth + 1);
      const least = Math.max(0, low - firsts.length);
      const left = most - firsts.length;
      const more = this.#rule(`${comma} ${item}`);
      const some = (from: number, to: number) =>
        repeated(more, Math.max(0, from), Number.isFinite(to) ? to : null, this.#rule);
      if (firsts.length === 0) {
        const all = `${item} ${some(least - 1, left - 1)}`;
        return this.#rule(`"[" ${least > 0 ? `(${all})` : `(${all})?`} "]"`);
      }
      after = this.#rule(some(least, left));
    }
    for (let at = firsts.length - 1; at >= 0; at--) {
      const item = yield* this.#convert(firsts[at], fields.place(`prefixItems[${at}]`), depth + 1);
      const some = `${at === 0 ? "" : comma} ${item} ${after}`;
      after = this.#rule(low > at ? some : `${some} | ""`);
    }
    return this.#rule(`"[" ${after} "]"`);
  }

  #string(fields: ObjectFields): string {
    const { open, close } = this.#notation;
    const { low, high } = countsOf(fields, "minLength", "maxLength", MOST_TIMES);
    const format = keptFormat(fields.text("format"));
    const pattern = fields.text("pattern");
    if (format !== undefined && (pattern === undefined || format.patterns?.includes(pattern))) {
      if (low > format.least || (high !== null && high < format.most))
        throw notKept(
          fields.place("format"),
          "together with a minLength or maxLength that its texts do not have anyway",
        );
      return this.#rule(`${open} ${format.rule} ${close}`);
    }
    const isCounted = low > 0 || high !== null;
    if (pattern !== undefined && isCounted)
      throw notKept(fields.place("pattern"), "together with minLength or maxLength");
    if (pattern !== undefined) {
      const place = fields.place("pattern");
      const matching = patternRule(pattern, place, this.#rule, this.#counted, this.#notation);
      return this.#rule(`${open} ${matching} ${close}`);
    }
    if (!isCounted) return "string";
    return this.#rule(`${open} ${this.#counted.expression(this.#notation.counted, low, high)}`);
  }

  /** The rule of what a reference names, made later. */
  #reference(reference: string, fields: ObjectFields, types: Types): string {
    const path = pointerPath(reference);
    const target = path === null ? undefined : valueAt(this.#root.record, path);
    if (target === undefined)
      throw fields.wrong("$ref", 'a definition or another place in this schema: "#/$defs/name", "#/items"');
    const key = JSON.stringify([path, types]);
    const known = this.#definitions.get(key);
    if (known) return known.name;
    const name = `${this.#prefix}d${this.#definitions.size}`;
    const place = reference === "#" ? this.#place : reference;
    this.#definitions.set(key, { name, target, fields, place, types });
    return name;
  }

  #isDefinition(name: string): boolean {
    return name.startsWith(`${this.#prefix}d`) && /d\d+$/.test(name);
  }

  /** Definitions that only refer to each other. */
  #refuseCircles(): void {
    const ended = new Set<string>();
    const byName = new Map(
      [...this.#definitions.values()].map((definition) => [definition.name, definition]),
    );
    for (const start of this.#aliases.keys()) {
      const seen = new Set<string>();
      let at: string | undefined = start;
      while (at !== undefined && !ended.has(at)) {
        if (seen.has(at)) throw byName.get(at)!.fields.wrong("$ref", "a definition that ends somewhere");
        seen.add(at);
        at = this.#aliases.get(at);
      }
      for (const name of seen) ended.add(name);
    }
  }
}

/** The order of Jinja's dictsort. */
function byLetters(a: string, b: string): number {
  const [x, y] = [a.toLowerCase(), b.toLowerCase()];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Any text is allowed. Further requirements on a string are refused: text without quotes has no way to express its end. */
function isText(fields: ObjectFields): boolean {
  const types = typesOf(fields, null);
  if (types !== null && !types.includes("string")) return false;
  const narrowing = narrowingKeywords(fields).find((key) => key !== "type");
  if (narrowing !== undefined) throw notKept(fields.place(narrowing), IN_XML);
  return true;
}

function countsOf(fields: ObjectFields, lowest: string, highest: string, most: number) {
  const range = { low: 0, high: most, integer: true };
  const low = fields.number(lowest, range) ?? 0;
  const high = fields.number(highest, range) ?? null;
  if (high !== null && high < low) throw fields.wrong(highest, `from ${lowest}, ${low}, on`);
  return { low, high };
}

/** A schema that no value matches: libraries write it for a property that must be absent. */
function isNever(schema: unknown): boolean {
  if (schema === false) return true;
  const entries = Object.entries((schema as object | null) ?? {});
  return entries.length === 1 && entries[0][0] === "not" && JSON.stringify(entries[0][1]) === "{}";
}

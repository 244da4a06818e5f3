/** JSON schema for tests, apart from the library that is tested: what is wrong with a value, by place. */
type Schema = Record<string, unknown>;

const TYPES: Record<string, (value: unknown) => boolean> = {
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === "string",
  integer: Number.isInteger,
  number: (value) => typeof value === "number",
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
};

const FORMATS: Record<string, RegExp> = {
  date: /^\d{4}-\d\d-\d\d$/,
  time: /^\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  uuid: /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  ipv4: /^\d{1,3}(\.\d{1,3}){3}$/,
};

/** What is wrong, each as "place: keyword". */
export function validate(schema: unknown, value: unknown, root = schema as Schema, place = "$"): string[] {
  if (typeof schema === "boolean") return schema ? [] : [`${place}: false`];
  const s = schema as Schema;
  const wrong: string[] = [];
  const need = (keyword: string, isRight: (of: never) => boolean) => {
    if (s[keyword] !== undefined && !isRight(s[keyword] as never)) wrong.push(`${place}: ${keyword}`);
  };
  const inside = (of: unknown, part: unknown, name: string) =>
    wrong.push(...validate(of, part, root, `${place}.${name}`));
  const matches = (of: unknown) => validate(of, value, root, place).length === 0;

  need("type", (types: string | string[]) => [types].flat().some((type) => TYPES[type](value)));
  need("const", (of: unknown) => same(of, value));
  need("enum", (all: unknown[]) => all.some((of) => same(of, value)));
  need("anyOf", (all: unknown[]) => all.some(matches));
  need("allOf", (all: unknown[]) => all.every(matches));
  need("oneOf", (all: unknown[]) => all.some(matches));
  need("$ref", (path: string) =>
    matches(
      path === "#"
        ? root
        : path
            .slice(2)
            .split("/")
            .reduce<unknown>((at, key) => (at as Schema)[key], root),
    ),
  );
  if (typeof value === "number") {
    need("minimum", (least: number) => value >= least);
    need("maximum", (most: number) => value <= most);
    need("exclusiveMinimum", (least: number) => value > least);
    need("exclusiveMaximum", (most: number) => value < most);
  }
  if (typeof value === "string") {
    const { length } = [...value];
    need("minLength", (least: number) => length >= least);
    need("maxLength", (most: number) => length <= most);
    need("pattern", (pattern: string) => new RegExp(pattern, "u").test(value));
    need("format", (format: string) => FORMATS[format]?.test(value) ?? true);
  }
  if (Array.isArray(value)) {
    need("minItems", (least: number) => value.length >= least);
    need("maxItems", (most: number) => value.length <= most);
    const first = (s.prefixItems ?? []) as unknown[];
    value.forEach((item, at) => {
      if (at < first.length) inside(first[at], item, String(at));
      else if (s.items !== undefined) inside(s.items, item, String(at));
    });
  } else if (typeof value === "object" && value !== null) {
    const properties = (s.properties ?? {}) as Schema;
    need("required", (names: string[]) => names.every((name) => Object.hasOwn(value, name)));
    need("minProperties", (least: number) => Object.keys(value).length >= least);
    need("maxProperties", (most: number) => Object.keys(value).length <= most);
    for (const [key, part] of Object.entries(value)) {
      if (Object.hasOwn(properties, key)) inside(properties[key], part, key);
      else if (s.additionalProperties !== undefined) inside(s.additionalProperties, part, key);
    }
  }
  return wrong;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value)
    .map(([key, part]) => [key, sorted(part)])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
}

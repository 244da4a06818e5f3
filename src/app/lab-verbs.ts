/** `nibble lab contrast`, `best`, `ask` and `status`: what is known, as text or JSON. Defines the layout and the names in the JSON. */
import { ArgumentError } from "../index.ts";
import {
  ask,
  type Contrast,
  contrast,
  findModelId,
  findSpec,
  frontier,
  isPlain,
  type Measured,
  resolve,
  type Score,
  type Snapshot,
  scoresOf,
} from "../lab.ts";
import { digits, type LabOptions, methodsOf, plural, print, table, withKnown } from "./lab-open.ts";

type Split = "search" | "holdout";

export async function contrastSpecs(
  a: string,
  b: string,
  options: LabOptions & { by: string; split?: Split; device?: "cpu" | "gpu" | "gpu/cpu" },
  signal: AbortSignal,
): Promise<void> {
  const methods = await methodsOf(options);
  await withKnown(options, signal, async (known) => {
    const [one, other] = [findSpec(known, a, methods), findSpec(known, b, methods)];
    const { by, split, device = "cpu" } = options;
    const devices: [Measured, Measured] = device === "gpu/cpu" ? ["gpu", "cpu"] : [device, device];
    const found = contrast(known, one.id, other.id, { by, split, devices });
    await print(
      options,
      signal,
      () => [{ ...found, a: one, b: other }],
      () => [`${one.label}  over  ${other.label}`, ...contrastLines(found)],
    );
  });
}

export function contrastLines({ by, rows, groups }: Contrast): string[] {
  if (rows.length === 0)
    return ["", "No text that both were measured on. `nibble lab propose` asks for one."];
  const between = (low: number, high: number) => `[${digits(low)}, ${digits(high)}]`;
  const models = table(
    ["model", "ratio of mean KL", "95 %", "q", "texts", "positions", "draws", "settled"],
    rows.map((row) => [
      row.name,
      digits(row.ratio),
      between(row.low, row.high),
      digits(row.q),
      ...[row.texts, row.positions, row.draws].map(String),
      row.settled ?? "open",
    ]),
  );
  const compared = table(
    [by, "ratio of ratios", "95 %", "q", "models", "over models", ""],
    groups.map((row) => [
      row.groups.join(" over "),
      digits(row.ratio),
      between(row.low, row.high),
      digits(row.q),
      row.models.join(", "),
      row.permutation === null ? "too few" : `p ${digits(row.permutation)}`,
      row.flips ? "FLIPS" : "",
    ]),
  );
  const single = rows.some(({ draws }) => draws === 1)
    ? ["", "With one draw the interval does not hold what rounding alone does: see `draws`."]
    : [];
  return ["", ...models, ...(groups.length > 0 ? ["", ...compared] : []), ...single];
}

export async function best(
  options: LabOptions & { bits?: number; model?: string; split?: Split; device?: Measured },
  signal: AbortSignal,
): Promise<void> {
  await withKnown(options, signal, async (known) => {
    const { bits: most = 16, model, split, device } = options;
    if (!(most > 0)) throw new ArgumentError("bits", most, "bits a value, above 0");
    const models = model === undefined ? [...known.models.keys()] : [findModelId(known, model)];
    const rows = models.map((id) => ({
      name: known.models.get(id)?.name ?? id,
      model: id,
      best: bestOf(known, id, { most, split, device }),
    }));
    await print(
      options,
      signal,
      () => rows,
      () => rows.flatMap(({ name, best }) => [name, ...scoreLines(known, best), ""]),
    );
  });
}

/** The frontier of a model, among specs that change only how the cache is held. */
export function bestOf(
  known: Snapshot,
  model: string,
  { most = 16, split, device }: { most?: number; split?: Split; device?: Measured } = {},
): Score[] {
  const bits = (spec: string) => known.specs.get(spec)?.bits ?? 16;
  const plain = [...scoresOf(known, model, split, device).values()].filter(({ spec }) => {
    const body = known.specs.get(spec)?.body;
    return body !== undefined && isPlain(body) && bits(spec) <= most;
  });
  return frontier(plain, bits);
}

export function scoreLines(known: Snapshot, scores: readonly Score[]): string[] {
  return table(
    ["  spec", "id", "bits", "mean KL", "same top", "texts", "positions", "draws"],
    scores.map((score) => {
      const entry = known.specs.get(score.spec);
      return [
        `  ${entry?.label ?? "?"}`,
        score.spec.slice(0, 8),
        (entry?.bits ?? 16).toFixed(2),
        `${digits(score.kl)} ± ${Math.round(100 * score.error)} %`,
        `${(100 * score.sameTop).toFixed(1)} %`,
        ...[score.texts, score.positions, score.draws].map(String),
      ];
    }),
  );
}

export async function askLab(
  words: string | undefined,
  options: LabOptions & { where?: string; near?: string },
  signal: AbortSignal,
): Promise<void> {
  const methods = await methodsOf(options);
  await withKnown(options, signal, async (known) => {
    const near = options.near === undefined ? undefined : findSpec(known, options.near, methods).body;
    const { specs, notes } = ask(known, { words, where: options.where, near });
    const rows = specs.map(({ entry, distance, kl }) => [
      entry.label,
      entry.id.slice(0, 8),
      entry.bits.toFixed(2),
      distance === null ? "" : distance.toFixed(2),
      Object.entries(kl)
        .map(([name, value]) => `${name} ${digits(value)}`)
        .join(", "),
    ]);
    await print(
      options,
      signal,
      () => [{ specs, notes }],
      () => [
        ...(rows.length > 0
          ? table(["spec", "id", "bits", near ? "distance" : "", "mean KL"], rows)
          : ["No spec."]),
        ...notes.map(({ note, body, author }) => `${note} (${author}): ${body}`),
      ],
    );
  });
}

export async function status(options: LabOptions, signal: AbortSignal): Promise<void> {
  await withKnown(options, signal, async (known) => {
    const states = { waiting: 0, done: 0, failed: 0, dead: 0, disputed: 0 };
    for (const id of known.experiments.keys()) states[known.state(id)]++;
    const predictions = resolve(known);
    const plateaus = known.notes.filter(({ note }) => note === "plateau");
    const found = {
      ...{
        models: [...known.models.values()].map(({ name, id }) => ({ name, id })),
        specs: known.specs.size,
      },
      ...{ texts: known.texts.size, experiments: states, notes: known.notes.length },
      plateaus: plateaus.map(({ body }) => body),
      predictions: predictions.map(({ note, ratio, held, predicts }) => ({
        author: note.author,
        ratio,
        held,
        ...predicts,
      })),
    };
    await print(
      options,
      signal,
      () => [found],
      () => [
        [
          plural(known.specs.size, "spec"),
          plural(known.models.size, "model"),
          plural(known.texts.size, "text"),
          plural(known.notes.length, "note"),
        ].join(", "),
        `experiments: ${Object.entries(states)
          .map(([state, count]) => `${count} ${state}`)
          .join(", ")}`,
        ...found.plateaus.map((body) => `plateau: ${body}`),
        ...predictions.map(
          ({ note, held, ratio, predicts }) =>
            `prediction of ${note.author} on ${known.models.get(predicts.model)?.name ?? predicts.model} (${note.body}): ${held === null ? "open" : `${held ? "held" : "failed"}, ratio ${digits(ratio!)}`}`,
        ),
      ],
    );
  });
}

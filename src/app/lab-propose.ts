/** `nibble lab propose` and `note`: people and agents take part by the same entries as the search. */
import { ArgumentError } from "../index.ts";
import {
  checkGpuFormat,
  type Entry,
  type Experiment,
  experimentId,
  findModelId,
  findSpec,
  formatOf,
  HARNESS_VERSION,
  identified,
  isCached,
  type Measured,
  modelNeed,
  type Snapshot,
  type SpecEntry,
} from "../lab.ts";
import { type LabOptions, methodsOf, plural, print, withLab } from "./lab-open.ts";

export interface ProposeOptions extends LabOptions {
  on: string;
  device: Measured;
  reason: string;
  predict?: number;
  over?: string;
  by: string;
}

/** Before the search's own requests. */
const PRIORITY = 10;

export async function propose(name: string, options: ProposeOptions, signal: AbortSignal): Promise<void> {
  const methods = await methodsOf(options);
  const { predict, over, by, reason, device } = options;
  if ((predict === undefined) !== (over === undefined))
    throw new ArgumentError("predict", predict ?? "none", "a ratio together with --over SPEC");
  if (predict !== undefined && !(predict > 0 && Number.isFinite(predict)))
    throw new ArgumentError("predict", predict, "a ratio above 0");
  await withLab(options, signal, async (book) => {
    const known = await book.snapshot();
    const model = findModelId(known, options.on);
    const spec = findSpec(known, name, methods);
    const compared = over === undefined ? null : findSpec(known, over, methods);
    for (const one of compared ? [spec, compared] : [spec]) checkDevice(one, device);
    const at = new Date().toISOString();
    if (compared?.id === spec.id) throw new ArgumentError("over", over, "another spec");
    const entries: Entry[] = [spec];
    if (compared) entries.push(compared);
    for (const one of compared ? [spec, compared] : [spec])
      for (const experiment of wanted(known, one.id, model, device))
        entries.push(
          identified({
            ...({ kind: "experiment", at, experiment, proposer: by, reason, parent: null } as const),
            ...{ study: "proposed", priority: PRIORITY, needs: [modelNeed(model, experiment.device)] },
          }),
        );
    if (compared && predict !== undefined) {
      const where = device === "gpu" ? ({ device } as const) : {};
      const predicts = { a: spec.id, b: compared.id, model, below: predict, ...where };
      const body = `${spec.label} over ${compared.label}: mean KL below ${predict}. ${reason}`.trim();
      entries.push(
        identified({
          ...({
            kind: "note",
            note: "hypothesis",
            at,
            body,
            facets: { model },
            evidence: [],
            author: by,
          } as const),
          predicts,
        }),
      );
    }
    const fresh = entries.filter(({ id }) => !known.has(id));
    const added = await book.add(entries);
    const experiments = fresh.filter(({ kind }) => kind === "experiment").length;
    await print(
      options,
      signal,
      () => [{ spec: spec.id, label: spec.label, added, experiments }],
      () => [
        `${spec.label} (${spec.id.slice(0, 8)}): ${plural(experiments, "experiment")} for the next \`nibble lab run\``,
      ],
    );
  });
}

/** As `nibble lab run` checks the specs of a study, so that nothing waits that would fail. */
function checkDevice({ body, label }: SpecEntry, device: Measured): void {
  const format = formatOf(body);
  if (device === "gpu" ? format === null : isCached(body))
    throw new ArgumentError("device", device, `${device === "gpu" ? "cpu" : "gpu"} for ${label}`);
  if (device === "gpu" && format !== null) checkGpuFormat(format);
}

/** What the model's other specs have been measured on: one run of each text, at the longest rung. */
function wanted(known: Snapshot, spec: string, model: string, device: Measured): Experiment[] {
  const where = device === "gpu" ? ({ device } as const) : {};
  const rungs = new Map<string, { rung: number; draws: Set<number> }>();
  for (const { experiment } of known.experiments.values()) {
    if (experiment.model !== model || experiment.harness !== HARNESS_VERSION) continue;
    const found = rungs.get(experiment.text) ?? { rung: 0, draws: new Set() };
    found.rung = Math.max(found.rung, experiment.rung);
    found.draws.add(experiment.draw);
    rungs.set(experiment.text, found);
  }
  return [...rungs]
    .flatMap(([text, { rung, draws }]) =>
      // A GPU's kernels round in one way only.
      (device === "gpu" ? [0] : [...draws]).map((draw) => ({
        ...{ spec, model, text, rung, draw, harness: HARNESS_VERSION, ...where },
      })),
    )
    .filter((experiment) => !known.has(experimentId(experiment)));
}

export async function note(
  body: string,
  options: LabOptions & { kind: "insight" | "hypothesis" | "finding"; evidence: string[]; by: string },
  signal: AbortSignal,
): Promise<void> {
  if (body.trim() === "") throw new ArgumentError("the note", "empty", "text");
  await withLab(options, signal, async (book) => {
    const known = await book.snapshot();
    const evidence = options.evidence.map((name) => {
      const found = [...known.specs.keys(), ...known.experiments.keys()].filter((id) => id.startsWith(name));
      if (found.length !== 1)
        throw new ArgumentError("evidence", name, "the beginning of one spec's or experiment's id");
      return found[0];
    });
    const entry = identified({
      ...({ kind: "note", note: options.kind, at: new Date().toISOString(), body, facets: {} } as const),
      ...{ evidence, predicts: null, author: options.by },
    });
    await book.add([entry]);
    await print(
      options,
      signal,
      () => [entry],
      () => [`kept as ${entry.id.slice(0, 8)}`],
    );
  });
}

/**
 * What to measure next: published methods and space-filling cells first; then promotions; then, scope by scope (a model, a
 * bin of bits), the best cell in a draw of the posterior (Thompson sampling), one in twenty at random. A scope on a
 * plateau is challenged with random cells and its best go to the other models; what is best in the end is measured on texts
 * that the search never saw. Nothing is proposed twice: entries are named by their content. Pure but for its memory of
 * plateaus.
 */
import { promoted } from "./halving.ts";
import { levelsOf } from "./levels.ts";
import { uniforms } from "./methods/random.ts";
import { Plateau } from "./plateau.ts";
import { expectedImprovement, Posterior } from "./posterior.ts";
import { frontier, type Score, scoresOf } from "./scores.ts";
import type { Snapshot } from "./snapshot.ts";
import { distance, identified, isPlain } from "./spec.ts";
import { BINS, binName, binOf, experimentsFor, proposals, rungOf, type Study, type Why } from "./study.ts";
import type { Entry, SpecEntry } from "./types.ts";

const FILLING = 12;
const RANDOM_SHARE = 0.05;
const CHALLENGES = 8;
const CROSSED = 5;
/** How many cells of a scope get an expected improvement: the best of a draw. */
const LOOKED_AT = 60;

interface Scope {
  readonly model: string;
  readonly bin: number;
  readonly plateau: Plateau;
  /** log KL of its best when it was challenged; null: it is open. */
  closedAt: number | null;
}

export class Proposer {
  readonly #study: Study;
  readonly #scopes: Scope[];
  readonly #byId: Map<string, SpecEntry>;
  readonly #filling: readonly SpecEntry[];
  #turn = 0;

  constructor(study: Study) {
    this.#study = study;
    this.#scopes = study.models.flatMap((model) =>
      BINS.map((_, bin) => ({ model, bin, plateau: new Plateau(), closedAt: null })),
    );
    this.#filling = farthest(study.cells, study.anchors, FILLING);
    this.#byId = new Map([...study.anchors, ...study.cells].map((entry) => [entry.id, entry]));
  }

  /** Entries to add; [] when nothing is left to try. */
  next(known: Snapshot): Entry[] {
    this.#turn++;
    const scores = new Map(
      this.#study.models.map((model) => [model, scoresOf(known, model, "search", this.#study.device)]),
    );
    for (const step of [this.#beginning, this.#promotions, this.#search]) {
      const found = once(step.call(this, known, scores));
      if (found.length > 0) return found;
    }
    return [];
  }

  /**
   * The end: the first anchor and the best of every bin, on the last rung and on held-out texts, one spec after another, so
   * that some are confirmed even if time runs out.
   */
  last(known: Snapshot): Entry[] {
    const top = this.#study.rungs.length - 1;
    const found = this.#study.models.flatMap((model) => {
      const scores = scoresOf(known, model, "search", this.#study.device);
      const best = frontier(scores.values(), (spec) => this.#bits(known, spec));
      // The last of the frontier in a bin is the best.
      const ofBin = new Map(best.map(({ spec }) => [binOf(this.#bits(known, spec)), spec]));
      const specs = [...new Set([this.#study.anchors[0].id, ...ofBin.values()])];
      return specs.flatMap((spec, i) => {
        const why = { proposer: "halving", reason: "best of its size: confirmation", priority: 100 - i };
        return [
          ...this.#ask(known, spec, model, top, why),
          ...this.#ask(known, spec, model, top, why, "holdout"),
        ];
      });
    });
    return once(found);
  }

  #beginning(known: Snapshot): Entry[] {
    const { anchors, models, cells, rungs } = this.#study;
    // Nothing to search: the given specs on every rung, and on held-out texts.
    if (cells.length === 0) {
      const why = { proposer: "study", reason: "named by the study" };
      const top = rungs.length - 1;
      return models.flatMap((model) =>
        anchors.flatMap(({ id }) => [
          ...this.#ask(known, id, model, top, why),
          ...this.#ask(known, id, model, top, why, "holdout"),
        ]),
      );
    }
    const ask = (list: readonly SpecEntry[], why: Why) =>
      models.flatMap((model) => list.flatMap(({ id }) => this.#ask(known, id, model, 0, why)));
    return [
      ...ask(anchors, { proposer: "model", reason: "published method", priority: 2 }),
      ...ask(this.#filling, { proposer: "model", reason: "far from all others", priority: 1 }),
    ];
  }

  #promotions(known: Snapshot, byModel: Scores): Entry[] {
    const { rungs } = this.#study;
    return this.#scopes.flatMap((scope) => {
      const scores = this.#scoresIn(known, scope, byModel);
      const standing = scores.map((score) => ({
        score,
        ...rungOf(this.#study, known, score.spec, scope.model),
      }));
      return rungs.slice(1).flatMap((_, i) => {
        const on = standing
          .filter(({ done }) => done >= i)
          .map(({ score, asked }) => ({ spec: score.spec, score, mayClimb: asked === i }));
        return promoted(on).flatMap(({ spec }) =>
          this.#ask(known, spec, scope.model, i + 1, {
            proposer: "halving",
            reason: `among the best third on rung ${i + 1}, ${binName(scope.bin)}`,
            priority: 2 + i,
          }),
        );
      });
    });
  }

  #search(known: Snapshot, byModel: Scores): Entry[] {
    const next = uniforms(this.#study.seed * 1009 + this.#turn);
    const belief = beliefOf(known, this.#study.models);
    const found: Entry[] = [];
    for (const scope of this.#scopes) {
      const left = this.#left(known, scope);
      if (left.length === 0) continue;
      const scores = this.#scoresIn(known, scope, byModel);
      const best = scores.reduce((least, { log }) => Math.min(least, log), Number.POSITIVE_INFINITY);
      if (scope.closedAt !== null) {
        if (best >= scope.closedAt - 0.025) continue;
        scope.closedAt = null;
        scope.plateau.reopen();
      }
      const draw = belief.draw(this.#study.seed * 7_919 + this.#turn * 31 + scope.bin);
      const byDraw = left
        .map((entry) => ({ entry, log: draw(levelsOf(entry.body, scope.model)) }))
        .sort((a, b) => a.log - b.log);
      const promise = Math.max(
        ...byDraw
          .slice(0, LOOKED_AT)
          .map(({ entry }) => expectedImprovement(belief.predict(levelsOf(entry.body, scope.model)), best)),
      );
      if (Number.isFinite(best) && scope.plateau.look(best, scores.length, promise)) {
        found.push(...this.#challenge(known, scope, scores, left, best, next));
        scope.closedAt = best;
        continue;
      }
      const isRandom = next() < RANDOM_SHARE;
      const { entry } = byDraw[isRandom ? Math.floor(next() * byDraw.length) : 0];
      const parent = scores.length > 0 ? this.#nearest(known, entry, scores) : null;
      const reason = isRandom ? "at random" : `best in a draw of the belief, ${binName(scope.bin)}`;
      found.push(
        ...this.#ask(known, entry.id, scope.model, 0, {
          proposer: isRandom ? "random" : "model",
          reason,
          parent,
        }),
      );
    }
    return found;
  }

  #challenge(
    known: Snapshot,
    scope: Scope,
    scores: readonly Score[],
    left: readonly SpecEntry[],
    best: number,
    next: () => number,
  ): Entry[] {
    const { model, bin } = scope;
    const sorted = [...scores].sort((a, b) => a.log - b.log).slice(0, CROSSED);
    const pool = [...left];
    const random = Array.from(
      { length: Math.min(CHALLENGES, pool.length) },
      () => pool.splice(Math.floor(next() * pool.length), 1)[0],
    );
    const note = identified({
      ...({ kind: "note", note: "plateau", predicts: null, author: "model" } as const),
      body: `${known.models.get(model)?.name ?? model}, ${binName(bin)}: best mean KL ${Math.exp(best).toPrecision(3)} after ${scores.length} specs; challenged with ${random.length} random cells.`,
      facets: { model, bin, specs: scores.length },
      evidence: sorted.map(({ spec }) => spec),
      at: new Date().toISOString(),
    });
    const challenge = random.flatMap(({ id }) =>
      this.#ask(known, id, model, 0, {
        proposer: "challenge",
        reason: `plateau, ${binName(bin)}`,
        priority: 1,
      }),
    );
    const cross = this.#study.models
      .filter((other) => other !== model)
      .flatMap((other) =>
        sorted.flatMap(({ spec }) =>
          this.#ask(known, spec, other, 0, {
            proposer: "cross",
            reason: "among the best of another model",
            priority: 1,
          }),
        ),
      );
    return [note, ...challenge, ...cross];
  }

  /** Experiments with the spec that they are of. */
  #ask(known: Snapshot, spec: string, model: string, rung: number, why: Why, split?: "holdout"): Entry[] {
    const wanted = Array.from({ length: rung + 1 }, (_, i) =>
      experimentsFor(this.#study, spec, model, i, split),
    );
    const found = proposals(this.#study, known, split ? wanted[rung] : wanted.flat(), why);
    const entry = this.#byId.get(spec);
    return found.length > 0 && entry && !known.has(spec) ? [entry, ...found] : found;
  }

  /** Cells of a scope that nobody has requested. */
  #left(known: Snapshot, { model, bin }: Scope): SpecEntry[] {
    return this.#study.cells.filter(
      ({ id, bits }) => binOf(bits) === bin && rungOf(this.#study, known, id, model).asked < 0,
    );
  }

  #scoresIn(known: Snapshot, { model, bin }: Scope, byModel: Scores): Score[] {
    return [...byModel.get(model)!.values()].filter(
      ({ spec }) => this.#byId.has(spec) && binOf(this.#bits(known, spec)) === bin,
    );
  }

  #bits(known: Snapshot, spec: string): number {
    return (known.specs.get(spec) ?? this.#byId.get(spec))?.bits ?? 16;
  }

  #nearest(known: Snapshot, entry: SpecEntry, scores: readonly Score[]): string {
    const to = ({ spec }: Score) => distance(known.specs.get(spec)!.body, entry.body);
    return scores.reduce((nearest, score) => (to(score) < to(nearest) ? score : nearest)).spec;
  }
}

type Scores = ReadonlyMap<string, ReadonlyMap<string, Score>>;

/** A spec's entry comes once, though several models have it. */
const once = (entries: readonly Entry[]) => [...new Map(entries.map((entry) => [entry.id, entry])).values()];

/** `count` cells, each as far as possible from those chosen before. */
function farthest(cells: readonly SpecEntry[], from: readonly SpecEntry[], count: number): SpecEntry[] {
  const nearest = cells.map((cell) => Math.min(1, ...from.map(({ body }) => distance(body, cell.body))));
  return Array.from({ length: Math.min(count, cells.length) }, () => {
    const far = nearest.indexOf(Math.max(...nearest));
    cells.forEach((cell, i) => {
      nearest[i] = Math.min(nearest[i], distance(cells[far].body, cell.body));
    });
    return cells[far];
  });
}

/** The posterior after all results of these models. Interventions are left out. */
export function beliefOf(known: Snapshot, models: readonly string[]): Posterior {
  const seen = models.flatMap((model) =>
    [...scoresOf(known, model, "search").values()].flatMap(({ spec, log, error }) => {
      const body = known.specs.get(spec)!.body;
      return isPlain(body) ? [{ levels: levelsOf(body, model), log, error: Math.hypot(error, 0.05) }] : [];
    }),
  );
  return new Posterior(seen);
}

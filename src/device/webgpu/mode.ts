/**
 * Compiles stages into the dispatches of one mode (dispatch.ts). Each activation is made in the form that its readers
 * need, by the dispatch that computes it; a reader that needs another form costs a copy. Pure.
 */
import { type Cache, PAGE_SLOTS, type Value, type Weight } from "../contract.ts";
import { turnedPairs } from "../rope-angles.ts";
import { Activations, mostRows } from "./activations.ts";
import { appendDispatch } from "./append.ts";
import { attendDispatches } from "./attend.ts";
import type { CacheBuffers } from "./attend-options.ts";
import {
  addsSplits,
  type Chains,
  chainsOf,
  type Follower,
  NO_CHAINS,
  type PlainAppend,
  readersOf,
} from "./chains.ts";
import type { Dispatch, Mode } from "./dispatch.ts";
import {
  addDispatch,
  type CopyOptions,
  combineDispatch,
  copyDispatch,
  gateDispatch,
  type NormOptions,
  normDispatch,
  ropeDispatch,
  softcapDispatch,
  takeTurnedDispatch,
} from "./elementwise.ts";
import {
  expertDispatches,
  expertForm,
  routeDispatch,
  type Sorted,
  sortPicks,
  sortsPicks,
  TILE_ENTRIES,
} from "./experts.ts";
import type { Form, View } from "./forms.ts";
import { embedDispatches, inputForm, matmulDispatches, splitsOf } from "./matmul.ts";
import { matmulAppendDispatch } from "./matmul-append.ts";
import type { MatmulOptions } from "./matmul-options.ts";
import { type Join, joinedDispatch } from "./matmul-vector.ts";
import { packDispatch } from "./pack-kv.ts";
import { recurrentDispatch } from "./recurrent.ts";
import type { Shared } from "./shared.ts";
import { type HeadChain, type OpOf, readsOf, type Stage, type StageOf } from "./stages.ts";

export class ModeCompiler {
  readonly #dispatches: Dispatch[] = [];
  readonly #values: Activations;
  readonly #rotated = new Set<number>();
  /** The forms that a value's readers need, by value id. Values that are kept after a step are absent: they are f32. */
  readonly #wanted = new Map<number, ReadonlySet<Form>>();
  readonly #readers: (value: Value) => readonly Stage[];
  /** For prompts: the picks sorted by expert, by the id of the value that holds them. */
  readonly #sorted = new Map<number, Sorted>();
  readonly #chains: Chains = NO_CHAINS;

  constructor(
    readonly shared: Shared,
    readonly mode: Mode,
    readonly stages: readonly Stage[],
  ) {
    this.#values = new Activations(shared, mode, (dispatch) => this.#emit(dispatch));
    this.#readers = readersOf(stages);
    for (const { value, form } of readsOf(stages, (stage) => this.#inputForm(stage)))
      if (!this.#isKept(value)) this.#wanted.set(value.id, new Set(this.#wanted.get(value.id)).add(form));
    if (mode === "decode")
      this.#chains = chainsOf({
        stages,
        isKept: this.#isKept,
        readers: this.#readers,
        goesOn: (stage) => this.#inputForm(stage) === "q8" && shared.weights.of(stage.ops).parts.length === 1,
        wanted: ({ id }) => this.#wanted.get(id),
      });
  }

  readonly #isKept = ({ id }: Value) => this.shared.kept.has(id);

  compile(): readonly Dispatch[] {
    for (const stage of this.stages) if (!this.#chains.done.has(stage)) this.#stage(stage);
    return this.#dispatches;
  }

  #stage(stage: Stage): void {
    switch (stage.kind) {
      case "norm":
        return this.#norm(stage);
      case "matmul":
        return this.#matmul(stage);
      case "experts":
        return this.#experts(stage);
      case "append":
        return this.#append(stage);
      case "single":
        return this.#single(stage);
    }
  }

  #norm({ x, added, combine, addedNorm, factor, sum, norm }: StageOf<"norm">): void {
    const { weights, spare, traits, activation } = this.shared;
    const vector = (weight: Weight | null) => weight && weights.vector(weight);
    const result = norm ? norm.out : sum!;
    const groups = norm?.groups ?? 1;
    const forms = [...(this.#wanted.get(result.id) ?? [])];
    // The other forms are made from whole rows, while heads are normed one by one.
    const other = groups === 1 ? forms.find((form) => form !== "f32") : undefined;
    const options: NormOptions = {
      ...this.#values.rows(x),
      x: this.#values.plain(x),
      groups,
      norm: norm && { weight: vector(norm.weight), epsilon: norm.epsilon },
      form: other ?? "f32",
      added: combine
        ? { buffer: this.#values.plain(combine.x) }
        : added && (this.#values.split(added) ?? { buffer: this.#values.plain(added) }),
      combine: combine && { picks: this.#values.plain(combine.picks), count: combine.picks.cols / 2 },
      addedNorm: addedNorm && { weight: vector(addedNorm.weight), epsilon: addedNorm.epsilon },
      factor,
      sum: norm && sum && this.#values.target(sum, "f32"),
      out: this.#values.target(result, other ?? "f32"),
      plain: other && forms.length > 1 ? this.#values.target(result, "f32") : null,
    };
    this.#emit(normDispatch(traits, options, spare, activation("not written", 16)));
  }

  #matmul(stage: StageOf<"matmul">): void {
    const { ops } = stage;
    const { x } = ops[0];
    const { traits, weights } = this.shared;
    const form = this.#inputForm(stage);
    const input = { form, buffer: this.#values.input(x, form) };
    const options = {
      traits,
      matrix: weights.of(ops),
      x: input,
      unscaled: this.#chains.unscaled.get(x.id),
      rows: x.rows,
      mode: this.mode,
      maxRows: this.#values.most(x),
      spare: this.shared.spare,
      scratch: this.shared.activation,
    };
    const follower = this.#chains.followers.get(stage);
    const splits = addsSplits(ops, this.#isKept, this.#readers) ? splitsOf(options) : 1;
    if (splits > 1)
      return this.#emit(
        ...matmulDispatches({ ...options, out: this.#values.splitProducts(ops, splits), keepsSplits: true }),
      );
    if (!follower) return this.#emit(...matmulDispatches({ ...options, out: this.#values.products(ops) }));
    if (follower.kind === "append") return this.#appendProducts(follower.stage, options);
    const result = follower.kind === "norm" ? follower.stage.norm.out : follower.op.out;
    const join = this.#join(stage, follower);
    this.#emit(joinedDispatch({ ...options, out: this.#values.target(result, "q8") }, join, result.cols));
  }

  /** Queries, keys and values in one dispatch, which appends keys and values to the cache. */
  #appendProducts(stage: PlainAppend, options: Omit<MatmulOptions, "out">): void {
    const { angles, batch } = this.shared;
    const { op, keys, queries } = stage;
    this.#emit(
      matmulAppendDispatch({
        ...options,
        ...this.#appendedTo(op.cache),
        heads: queries.attend.heads,
        keyNorm: this.#normOf(keys),
        queryNorm: this.#normOf(queries),
        angles: angles[keys.rope!.id],
        batch,
        out: this.#values.target(queries.attend.queries, "f32"),
      }),
    );
    this.#pack(op.cache);
  }

  #normOf({ norm }: HeadChain) {
    const { weights } = this.shared;
    return norm && { weight: norm.weight && weights.vector(norm.weight), epsilon: norm.epsilon };
  }

  /** The cache to which vectors are appended. A packed cache has one of unpacked vectors, which are packed later. */
  #appendedTo({ id }: Cache): CacheBuffers {
    return this.shared.recentCaches[id] ?? this.shared.caches[id];
  }

  /** Packs the pages of a packed cache that are old enough. */
  #pack({ id }: Cache): void {
    const { caches, recentCaches, batch } = this.shared;
    const recent = recentCaches[id];
    if (recent) this.#emit(packDispatch(recent, caches[id], batch));
  }

  #join({ ops }: StageOf<"matmul">, follower: Exclude<Follower, { kind: "append" }>): Join {
    if (follower.kind === "norm") {
      const { x, norm, factor, sum } = follower.stage;
      const gain = norm.weight && this.shared.weights.vector(norm.weight);
      const [addedTo, out] = [this.#values.plain(x), this.#values.target(sum, "f32")];
      return { kind: "addNorm", addedTo, gain, factor, sum: out };
    }
    const { gate, up, activation, limit } = follower.op;
    const rowOf = (value: Value) => (value === ops[0].out ? 0 : ops[0].out.cols);
    return { kind: "gate", activation, limit, gateRow: rowOf(gate), upRow: rowOf(up) };
  }

  #append({ op, keys, values, queries }: StageOf<"append">): void {
    const { angles, spare, batch } = this.shared;
    const view = (x: Value) => this.#values.split(x) ?? this.#values.flat(x);
    const chain = (from: HeadChain) => ({ view: view(from.x), norm: this.#normOf(from) });
    if (queries && !queries.takes) this.#rotated.add(queries.attend.queries.id);
    const rope = keys.rope && { angles: angles[keys.rope.id], pairs: keys.rope.frequencies.length };
    this.#emit(
      appendDispatch({
        ...this.#appendedTo(op.cache),
        keys: { ...chain(keys), takes: keys.takes },
        values: { view: view(values.x), epsilon: values.epsilon },
        rope,
        queries: queries && {
          ...chain(queries),
          takes: queries.takes,
          heads: queries.attend.heads,
          out: this.#values.target(queries.attend.queries, "f32"),
        },
        batch,
        spare,
        scratch: this.shared.activation,
      }),
    );
    this.#pack(op.cache);
  }

  #single({ op }: StageOf<"single">): void {
    const { shared } = this;
    const plain = (value: Value) => this.#values.plain(value);
    const target = (value: Value) => ({
      ...this.#values.rows(value),
      out: this.#values.target(value, "f32"),
    });
    switch (op.op) {
      case "embed": {
        const { chosen, batch, weights } = shared;
        const out = this.#values.target(op.out, "f32");
        return this.#emit(
          ...embedDispatches({ matrix: weights.of([op]), chosen, batch, scale: op.scale, out }),
        );
      }
      case "lookUp": {
        const rows = { buffer: shared.weights.table(op.table), offset: 0, stride: op.out.cols };
        return this.#copy("lookUp", rows, op.out, "f32", { factor: op.scale });
      }
      case "rmsNorm": {
        const norm = { x: op.x, added: null, combine: null, addedNorm: null, factor: 1, sum: null, norm: op };
        return this.#norm({ kind: "norm", ...norm });
      }
      case "rope": {
        const shape = {
          heads: op.heads,
          headDim: op.x.cols / op.heads,
          pairs: op.rope.frequencies.length,
        };
        return this.#emit(
          ropeDispatch(this.#values.target(op.out, "f32"), plain(op.x), shared.angles[op.rope.id], shape),
        );
      }
      case "takeTurned": {
        const { x, heads, rope, weight } = op;
        const pairs = rope.frequencies.length;
        const shape = { heads, headDim: x.cols / heads, pairs, turnedPairs: turnedPairs(rope)! };
        const vector = weight && shared.weights.vector(weight);
        return this.#emit(takeTurnedDispatch(this.#values.target(op.out, "f32"), plain(x), vector, shape));
      }
      case "attend": {
        const wanted = this.#asked(op.out);
        // q8 is written in groups of 32, which must not cross heads.
        const writesQ8 = op.cache.headDim % 32 === 0;
        const form = wanted === "q8" && !writesQ8 ? "f32" : wanted;
        return this.#emit(
          ...attendDispatches({
            traits: shared.traits,
            mode: this.mode,
            ...shared.caches[op.cache.id],
            recentCache: shared.recentCaches[op.cache.id],
            heads: op.heads,
            scale: op.scale,
            softcap: op.softcap,
            sinks: op.sinks && shared.weights.vector(op.sinks),
            queries: plain(op.queries),
            queriesRotated: this.#rotated.has(op.queries.id),
            batch: shared.batch,
            out: this.#values.target(op.out, form),
            form,
            maxTokens: this.#values.most(op.queries),
            maxSpanned: this.#mostSpanned(),
            mostPositions: shared.graph.blocks * PAGE_SLOTS,
            scratch: shared.activation,
          }),
        );
      }
      case "gate": {
        const wanted = this.#asked(op.out);
        return this.#emit(
          gateDispatch({
            ...this.#values.rows(op.out),
            out: this.#values.target(op.out, wanted),
            gate: this.#values.split(op.gate) ?? this.#values.view(op.gate),
            up: this.#values.split(op.up) ?? this.#values.view(op.up),
            activation: op.activation,
            limit: op.limit,
            each: op.up.cols / op.gate.cols,
            form: wanted,
          }),
        );
      }
      case "add":
        return this.#emit(addDispatch(target(op.out), plain(op.a), plain(op.b)));
      case "softcap":
        return this.#emit(softcapDispatch(target(op.out), plain(op.x), op.cap));
      case "takeOutputs":
        return this.#copy("takeOutputs", op.x, op.out, "f32", { batch: shared.batch });
      case "scale":
        return this.#copy("scale", op.x, op.out, this.#asked(op.out), { factor: op.factor });
      case "slice":
        return this.#slice(op);
      case "route":
        return this.#emit(
          routeDispatch({
            traits: shared.traits,
            rows: op.out.rows,
            experts: op.logits.cols,
            picks: op.k,
            normalise: op.normalise,
            logits: plain(op.logits),
            weights: op.weights && shared.weights.vector(op.weights),
            out: this.#values.target(op.out, "f32"),
          }),
        );
      case "conv":
      case "gatedDelta": {
        const views = { plain, flat: (value: Value) => this.#values.flat(value) };
        const out = this.#values.target(op.out, "f32");
        return this.#emit(recurrentDispatch(op, shared, this.mode, views, out));
      }
      case "combine": {
        const form = this.#asked(op.out);
        return this.#emit(
          combineDispatch({
            ...this.#values.rows(op.out),
            x: plain(op.x),
            picks: plain(op.picks),
            count: op.picks.cols / 2,
            form,
            out: this.#values.target(op.out, form),
          }),
        );
      }
    }
  }

  #slice({ x, groups, from, size, out }: OpOf<"slice">): void {
    const { buffer, offset, stride } = this.#values.flat(x);
    const runs = groups > 1 ? { size, stride: x.cols / groups } : undefined;
    const view = { buffer, offset: offset + from, stride, groups: runs };
    if (this.shared.kept.has(out.id)) this.#copy("slice", view, out, "f32");
    else this.#values.set(out, view);
  }

  #experts(stage: StageOf<"experts">): void {
    const { traits, weights, spare, activation: scratch } = this.shared;
    const { ops } = stage;
    const [{ x, picks: picked, experts, weight }] = ops;
    const form = this.#inputForm(stage);
    const input = { form, buffer: this.#values.input(x, form) };
    const count = picked.cols / 2;
    const picks = this.#values.plain(picked);
    const { rows, maxRows } = this.#values.rows(x);
    let sorted = this.#sorted.get(picked.id) ?? null;
    if (sortsPicks(this.mode, form) && !sorted) {
      sorted = sortPicks({ rows, maxRows, experts, count, picks, tile: TILE_ENTRIES, scratch });
      this.#sorted.set(picked.id, sorted);
      this.#emit(sorted.dispatch);
    }
    this.#emit(
      ...expertDispatches({
        traits,
        mode: this.mode,
        matrix: weights.of(ops),
        experts,
        count,
        picks,
        rows,
        maxRows,
        x: input,
        shared: x.cols === weight.cols,
        out: this.#values.products(ops, count),
        sorted,
        spare,
      }),
    );
  }

  /** Copies rows of x to `out`, in this form. */
  #copy(
    label: string,
    x: Value | View,
    out: Value,
    form: Form,
    more: Pick<CopyOptions, "batch" | "factor"> = {},
  ): void {
    const from = "buffer" in x ? x : this.#values.view(x);
    this.#emit(
      copyDispatch({
        label,
        ...this.#values.rows(out),
        x: from,
        form,
        out: this.#values.target(out, form),
        ...more,
      }),
    );
  }

  #emit(...dispatches: Dispatch[]): void {
    this.#dispatches.push(...dispatches);
  }

  /** The form of an operation's output: the only one that is needed, or f32. */
  #asked(out: Value): Form {
    const forms = this.#wanted.get(out.id);
    return forms?.size === 1 ? [...forms][0] : "f32";
  }

  #inputForm(stage: StageOf<"matmul"> | StageOf<"experts">): Form {
    const { traits, weights } = this.shared;
    const form = stage.kind === "experts" ? expertForm : inputForm;
    return form(traits, weights.of(stage.ops), this.mode);
  }

  /** Most rows that attend in spans. In a prompt, these are single rows; runs of several rows attend in tiles. */
  #mostSpanned(): number {
    const { graph, traits } = this.shared;
    if (this.mode !== "prompt") return Math.min(mostRows(this.mode, traits), graph.maxTokens);
    // A prompt step has more rows than a batch, so single rows alone need more texts than that.
    return graph.texts > traits.batch ? Math.min(graph.texts, graph.maxTokens) : graph.texts - 1;
  }
}

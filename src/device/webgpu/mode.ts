/**
 * Stages -> dispatches, for one row (`decode`), some (`few`, `several`, `batch`) or many (`prompt`). Owns in which form each activation is made: the
 * one that its readers ask for, written by the dispatch that computes it; a reader that differs costs a copy. Pure.
 */
import { PAGE_SLOTS, type Value, type Weight } from "../contract.ts";
import { appendDispatch } from "./append.ts";
import { attendDispatches } from "./attend.ts";
import { type Chains, chainsOf, type Follower, NO_CHAINS } from "./chains.ts";
import type { Buffer, Dispatch, Mode } from "./dispatch.ts";
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
import { type Form, formBytes, type View } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { embedDispatches, inputForm, matmulDispatches } from "./matmul.ts";
import { type Join, joinedDispatch } from "./matmul-vector.ts";
import { packDispatch } from "./pack-kv.ts";
import { recurrentDispatch } from "./recurrent.ts";
import type { Shared } from "./shared.ts";
import { type HeadChain, type OpOf, readsOf, type Stage, type StageOf } from "./stages.ts";

export class ModeCompiler {
  readonly #dispatches: Dispatch[] = [];
  /** f32 rows of values, by value id. */
  readonly #views = new Map<number, View>();
  /** Other forms of values, and f32 without gaps: "id form". */
  readonly #made = new Map<string, Buffer>();
  /** Queries that appendKv has rotated. */
  readonly #rotated = new Set<number>();
  /** The forms that a value's readers ask for, by value id; of values that stay readable absent: they are f32. */
  readonly #wanted = new Map<number, ReadonlySet<Form>>();
  /** Of prompts: picks by expert, by the id of the value that holds them. */
  readonly #sorted = new Map<number, Sorted>();
  readonly #chains: Chains = NO_CHAINS;

  constructor(
    readonly shared: Shared,
    readonly mode: Mode,
  ) {
    for (const { value, form } of readsOf(shared.stages, (stage) => this.#inputForm(stage)))
      if (!shared.kept.has(value.id))
        this.#wanted.set(value.id, new Set(this.#wanted.get(value.id)).add(form));
    if (mode === "decode")
      this.#chains = chainsOf({
        stages: shared.stages,
        isKept: ({ id }) => shared.kept.has(id),
        goesOn: (stage) => this.#inputForm(stage) === "q8" && shared.blocks.of(stage.ops).parts.length === 1,
        wanted: ({ id }) => this.#wanted.get(id),
      });
  }

  compile(): readonly Dispatch[] {
    for (const stage of this.shared.stages) if (!this.#chains.done.has(stage)) this.#stage(stage);
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
    const { blocks, spare, traits, activation } = this.shared;
    const vector = (weight: Weight | null) => weight && blocks.vector(weight);
    const result = norm ? norm.out : sum!;
    const groups = norm?.groups ?? 1;
    const forms = [...(this.#wanted.get(result.id) ?? [])];
    // The other forms are made by whole rows, and heads are normed one by one.
    const other = groups === 1 ? forms.find((form) => form !== "f32") : undefined;
    const options: NormOptions = {
      ...this.#rows(x),
      x: this.#plain(x),
      groups,
      norm: norm && { weight: vector(norm.weight), epsilon: norm.epsilon },
      form: other ?? "f32",
      added: combine ? this.#plain(combine.x) : added && this.#plain(added),
      combine: combine && { picks: this.#plain(combine.picks), count: combine.picks.cols / 2 },
      addedNorm: addedNorm && { weight: vector(addedNorm.weight), epsilon: addedNorm.epsilon },
      factor,
      sum: norm && sum && this.#target(sum, "f32"),
      out: this.#target(result, other ?? "f32"),
      plain: other && forms.length > 1 ? this.#target(result, "f32") : null,
    };
    this.#emit(normDispatch(traits, options, spare, activation("not written", 16)));
  }

  #matmul(stage: StageOf<"matmul">): void {
    const { ops } = stage;
    const { x } = ops[0];
    const { traits, blocks } = this.shared;
    const form = this.#inputForm(stage);
    const input = { form, buffer: this.#input(x, form) };
    const options = {
      traits,
      block: blocks.of(ops),
      x: input,
      unscaled: this.#chains.unscaled.get(x.id),
      rows: x.rows,
      mode: this.mode,
      maxRows: this.#most(x),
      spare: this.shared.spare,
      scratch: this.shared.activation,
    };
    const follower = this.#chains.followers.get(stage);
    if (!follower) return this.#emit(...matmulDispatches({ ...options, out: this.#products(ops) }));
    const result = follower.kind === "norm" ? follower.stage.norm.out : follower.op.out;
    const join = this.#join(stage, follower);
    this.#emit(joinedDispatch({ ...options, out: this.#target(result, "q8") }, join, result.cols));
  }

  #join({ ops }: StageOf<"matmul">, follower: Follower): Join {
    if (follower.kind === "norm") {
      const { x, norm, factor, sum } = follower.stage;
      const gain = norm.weight && this.shared.blocks.vector(norm.weight);
      return { kind: "addNorm", addedTo: this.#plain(x), gain, factor, sum: this.#target(sum, "f32") };
    }
    const { gate, up, activation, limit } = follower.op;
    const rowOf = (value: Value) => (value === ops[0].out ? 0 : ops[0].out.cols);
    return { kind: "gate", activation, limit, gateRow: rowOf(gate), upRow: rowOf(up) };
  }

  /** Where a stage's products go: rows of all of them, of `picks` picks each, as views where they are several. */
  #products(ops: readonly { readonly out: Value }[], picks = 1): Buffer {
    if (ops.length === 1) return this.#target(ops[0].out, "f32");
    const cols = ops.reduce((all, { out }) => all + out.cols, 0);
    const out = this.shared.activation("products", formBytes("f32", this.#most(ops[0].out), cols));
    let offset = 0;
    for (const { out: value } of ops) {
      const size = value.cols / picks;
      const groups = picks > 1 ? { size, stride: cols / picks } : undefined;
      this.#views.set(value.id, { buffer: out, offset, stride: cols, groups });
      offset += size;
    }
    return out;
  }

  #append({ op, keys, values, queries }: StageOf<"append">): void {
    const { angles, spare, blocks, batch } = this.shared;
    const chain = (from: HeadChain) => ({
      view: this.#flat(from.x),
      norm: from.norm && {
        weight: from.norm.weight && blocks.vector(from.norm.weight),
        epsilon: from.norm.epsilon,
      },
    });
    if (queries) this.#rotated.add(queries.attend.queries.id);
    const cache = this.shared.caches[op.cache.id];
    // To a packed cache vectors are appended as they come, and packed after.
    const recent = this.shared.recents[op.cache.id];
    const rope = keys.rope && { angles: angles[keys.rope.id], pairs: keys.rope.frequencies.length };
    this.#emit(
      appendDispatch({
        ...(recent ?? cache),
        keys: chain(keys),
        values: { view: this.#flat(values.x), epsilon: values.epsilon },
        rope,
        queries: queries && {
          ...chain(queries),
          heads: queries.attend.heads,
          out: this.#target(queries.attend.queries, "f32"),
        },
        batch,
        spare,
        scratch: this.shared.activation,
      }),
    );
    if (recent) this.#emit(packDispatch(recent, cache, batch));
  }

  #single({ op }: StageOf<"single">): void {
    const { shared } = this;
    const plain = (value: Value) => this.#plain(value);
    const target = (value: Value) => ({ ...this.#rows(value), out: this.#target(value, "f32") });
    switch (op.op) {
      case "embed": {
        const { chosen, batch, blocks } = shared;
        const out = this.#target(op.out, "f32");
        return this.#emit(
          ...embedDispatches({ block: blocks.of([op]), chosen, batch, scale: op.scale, out }),
        );
      }
      case "lookUp": {
        const rows = { buffer: shared.blocks.table(op.table), offset: 0, stride: op.out.cols };
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
          ropeDispatch(this.#target(op.out, "f32"), plain(op.x), shared.angles[op.rope.id], shape),
        );
      }
      case "attend": {
        const wanted = this.#asked(op.out);
        // By whole groups of a head.
        const writesQ8 = op.cache.headDim % 32 === 0;
        const form = wanted === "q8" && !writesQ8 ? "f32" : wanted;
        return this.#emit(
          ...attendDispatches({
            traits: shared.traits,
            mode: this.mode,
            ...shared.caches[op.cache.id],
            recent: shared.recents[op.cache.id],
            heads: op.heads,
            scale: op.scale,
            softcap: op.softcap,
            sinks: op.sinks && shared.blocks.vector(op.sinks),
            queries: plain(op.queries),
            rotated: this.#rotated.has(op.queries.id),
            batch: shared.batch,
            out: this.#target(op.out, form),
            form,
            maxTokens: this.#most(op.queries),
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
            ...this.#rows(op.out),
            out: this.#target(op.out, wanted),
            gate: this.#view(op.gate),
            up: this.#view(op.up),
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
            weights: op.weights && shared.blocks.vector(op.weights),
            out: this.#target(op.out, "f32"),
          }),
        );
      case "conv":
      case "gatedDelta": {
        const views = { plain, flat: (value: Value) => this.#flat(value) };
        return this.#emit(recurrentDispatch(op, shared, views, this.#target(op.out, "f32"), this.mode));
      }
      case "combine": {
        const form = this.#asked(op.out);
        return this.#emit(
          combineDispatch({
            ...this.#rows(op.out),
            x: plain(op.x),
            picks: plain(op.picks),
            count: op.picks.cols / 2,
            form,
            out: this.#target(op.out, form),
          }),
        );
      }
    }
  }

  /** A view of the rows that it is cut from. */
  #slice({ x, groups, from, size, out }: OpOf<"slice">): void {
    const { buffer, offset, stride } = this.#flat(x);
    const runs = groups > 1 ? { size, stride: x.cols / groups } : undefined;
    const view = { buffer, offset: offset + from, stride, groups: runs };
    if (this.shared.kept.has(out.id)) this.#copy("slice", view, out, "f32");
    else this.#views.set(out.id, view);
  }

  #experts(stage: StageOf<"experts">): void {
    const { traits, blocks, spare, activation: scratch } = this.shared;
    const { ops } = stage;
    const [{ x, picks: picked, experts, weight }] = ops;
    const form = this.#inputForm(stage);
    const input = { form, buffer: this.#input(x, form) };
    const count = picked.cols / 2;
    const picks = this.#plain(picked);
    const { rows, maxRows } = this.#rows(x);
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
        block: blocks.of(ops),
        experts,
        count,
        picks,
        rows,
        maxRows,
        x: input,
        shared: x.cols === weight.cols,
        out: this.#products(ops, count),
        sorted,
        spare,
      }),
    );
  }

  /** `out` from rows of x, in a form. */
  #copy(
    label: string,
    x: Value | View,
    out: Value,
    form: Form,
    more: Pick<CopyOptions, "batch" | "factor"> = {},
  ): void {
    const from = "buffer" in x ? x : this.#view(x);
    this.#emit(
      copyDispatch({ label, ...this.#rows(out), x: from, form, out: this.#target(out, form), ...more }),
    );
  }

  #emit(...dispatches: Dispatch[]): void {
    this.#dispatches.push(...dispatches);
  }

  /** The form in which an operation that makes one makes its output. */
  #asked(out: Value): Form {
    const forms = this.#wanted.get(out.id);
    return forms?.size === 1 ? [...forms][0] : "f32";
  }

  #inputForm(stage: StageOf<"matmul"> | StageOf<"experts">): Form {
    const { traits, blocks } = this.shared;
    const form = stage.kind === "experts" ? expertForm : inputForm;
    return form(traits, blocks.of(stage.ops), this.mode);
  }

  /** Most rows of a value in one step of this mode. */
  #most({ rows }: Value): number {
    const { graph, traits } = this.shared;
    const most = rows === "outputs" ? graph.maxOutputs : graph.maxTokens;
    return Math.min(most, mostRows(this.mode, traits));
  }

  /** Most rows that attend in spans; in a prompt, beside runs of several. */
  #mostSpanned(): number {
    const { graph, traits } = this.shared;
    if (this.mode !== "prompt") return Math.min(mostRows(this.mode, traits), graph.maxTokens);
    // Many rows that are all alone need as many texts.
    return graph.texts > traits.batch ? Math.min(graph.texts, graph.maxTokens) : graph.texts - 1;
  }

  #rows(value: Value) {
    return { rows: value.rows, cols: value.cols, maxRows: this.#most(value) };
  }

  /** A place for a value in a form; kept values have theirs. */
  #target(value: Value, form: Form): Buffer {
    const { cols } = value;
    const buffer =
      this.shared.kept.get(value.id) ??
      this.shared.activation(`${form} activation`, formBytes(form, this.#most(value), cols));
    if (form === "f32") this.#views.set(value.id, { buffer, offset: 0, stride: cols });
    this.#made.set(`${value.id} ${form}`, buffer);
    return buffer;
  }

  /** f32 rows of a value, wherever they lie. */
  #view(value: Value): View {
    const view = this.#views.get(value.id);
    if (!view) throw new Error(`value ${value.id} is read as f32 but was made as ${this.#asked(value)}`);
    return view;
  }

  /** Rows whose columns lie together. */
  #flat(value: Value): View {
    const view = this.#view(value);
    return view.groups ? { buffer: this.#plain(value), offset: 0, stride: value.cols } : view;
  }

  /** f32 rows of a value without gaps. */
  #plain(value: Value): Buffer {
    return this.#input(value, "f32");
  }

  #input(value: Value, form: Form): Buffer {
    const known = this.#made.get(`${value.id} ${form}`);
    if (known) return known;
    const view = this.#view(value);
    const out = this.shared.activation(`${form} copy`, formBytes(form, this.#most(value), value.cols));
    this.#made.set(`${value.id} ${form}`, out);
    const label = form === "q8" ? "quantize" : "copy";
    this.#emit(copyDispatch({ label, ...this.#rows(value), x: view, form, out }));
    return out;
  }
}

/** Of a step in a mode, whatever the graph. */
function mostRows(mode: Mode, { few, several, batch }: Traits): number {
  return { decode: 1, few, several, batch, prompt: Number.POSITIVE_INFINITY }[mode];
}

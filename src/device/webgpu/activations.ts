/**
 * Where the values of a mode are stored while it is compiled: as float32 rows where a kernel has written them, in other
 * forms, or as splits that readers add up. A reader that needs another form than there is costs a copy, which is made
 * here.
 */
import type { Value } from "../contract.ts";
import type { Dispatch, Mode, PlannedBuffer } from "./dispatch.ts";
import { copyDispatch } from "./elementwise.ts";
import { type Form, formBytes, type View } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import type { Shared } from "./shared.ts";

export class Activations {
  /** f32 rows of values, by value id. */
  readonly #views = new Map<number, View>();
  /** Other forms of values, and f32 without gaps: "id form". */
  readonly #made = new Map<string, PlannedBuffer>();

  /** emit: receives a copy dispatch, which runs before the reader's. */
  constructor(
    readonly shared: Shared,
    readonly mode: Mode,
    readonly emit: (copy: Dispatch) => void,
  ) {}

  /** Makes a value a view of rows that are stored there already, or will be. */
  set({ id }: Value, view: View): void {
    this.#views.set(id, view);
  }

  /** The splits of a stage's products, as views of rows that are to be added up. */
  splitProducts(ops: readonly { readonly out: Value }[], count: number): PlannedBuffer {
    const cols = ops.reduce((all, { out }) => all + out.cols, 0);
    const most = this.most(ops[0].out);
    const buffer = this.shared.activation("splits", count * formBytes("f32", most, cols));
    let offset = 0;
    for (const { out } of ops) {
      this.#views.set(out.id, { buffer, offset, stride: cols, splits: { count, stride: most * cols } });
      offset += out.cols;
    }
    return buffer;
  }

  /**
   * The destination of a stage's products: rows of all of them, for `picks` picks each, as views if there are several.
   */
  products(ops: readonly { readonly out: Value }[], picks = 1): PlannedBuffer {
    if (ops.length === 1) return this.target(ops[0].out, "f32");
    const cols = ops.reduce((all, { out }) => all + out.cols, 0);
    const out = this.shared.activation("products", formBytes("f32", this.most(ops[0].out), cols));
    let offset = 0;
    for (const { out: value } of ops) {
      const size = value.cols / picks;
      const groups = picks > 1 ? { size, stride: cols / picks } : undefined;
      this.#views.set(value.id, { buffer: out, offset, stride: cols, groups });
      offset += size;
    }
    return out;
  }

  /** Maximum rows of a value in one step of this mode. */
  most({ rows }: Value): number {
    const { graph, traits } = this.shared;
    const most = rows === "outputs" ? graph.maxOutputs : graph.maxTokens;
    return Math.min(most, mostRows(this.mode, traits));
  }

  rows(value: Value) {
    return { rows: value.rows, cols: value.cols, maxRows: this.most(value) };
  }

  /** A buffer for a value in a form; kept values have their own. */
  target(value: Value, form: Form): PlannedBuffer {
    const { cols } = value;
    const buffer =
      this.shared.kept.get(value.id) ??
      this.shared.activation(`${form} activation`, formBytes(form, this.most(value), cols));
    if (form === "f32") this.#views.set(value.id, { buffer, offset: 0, stride: cols });
    this.#made.set(`${value.id} ${form}`, buffer);
    return buffer;
  }

  /** A value's rows in splits; null: they are whole. */
  split(value: Value): View | null {
    const view = this.#views.get(value.id);
    return view?.splits ? view : null;
  }

  /** f32 rows of a value, wherever they are. */
  view(value: Value): View {
    const view = this.#views.get(value.id);
    if (!view) throw new Error(`value ${value.id} is read as f32 but was made in another form`);
    if (view.splits) throw new Error(`value ${value.id} is read whole but stored in splits`);
    return view;
  }

  /** Rows whose columns are contiguous. */
  flat(value: Value): View {
    const view = this.view(value);
    return view.groups ? { buffer: this.plain(value), offset: 0, stride: value.cols } : view;
  }

  /** f32 rows of a value without gaps. */
  plain(value: Value): PlannedBuffer {
    return this.input(value, "f32");
  }

  input(value: Value, form: Form): PlannedBuffer {
    const known = this.#made.get(`${value.id} ${form}`);
    if (known) return known;
    const view = this.view(value);
    const out = this.shared.activation(`${form} copy`, formBytes(form, this.most(value), value.cols));
    this.#made.set(`${value.id} ${form}`, out);
    const label = form === "q8" ? "quantize" : "copy";
    this.emit(copyDispatch({ label, ...this.rows(value), x: view, form, out }));
    return out;
  }
}

/** Properties of a step in a mode, whatever the graph. */
export function mostRows(mode: Mode, { few, several, batch }: Traits): number {
  return { decode: 1, few, several, batch, prompt: Number.POSITIVE_INFINITY }[mode];
}

/**
 * What graphs take on a GPU. Compiling a model's graph takes a tenth of a second, and a plan's tables ask for many lengths
 * of texts: they are compiled once for each cache format.
 */
import type { Footprint, Graph } from "../contract.ts";
import { sameButPages } from "../same-but-pages.ts";
import type { Traits } from "./gpu.ts";
import { compileGraph, type GpuProgram, type Limits } from "./program.ts";
import { footprintFor, type ProgramSizes } from "./sizes.ts";

/** Enough for the formats of a table. */
const MOST_KNOWN = 8;

export class Measuring {
  /** The last that were asked for, newest first. */
  readonly #known: { readonly graph: Graph; readonly sizes: ProgramSizes }[] = [];
  #last: { readonly graph: Graph; readonly program: GpuProgram } | null = null;

  constructor(
    readonly traits: Traits,
    readonly limits: Limits,
  ) {}

  footprint(graph: Graph): Footprint {
    const at = this.#known.findIndex((one) => sameButPages(one.graph, graph));
    const known = this.#known[at];
    if (known) {
      this.#known.splice(at, 1);
      this.#known.unshift(known);
      return footprintFor(known.sizes, graph);
    }
    const program = compileGraph(graph, this.traits, this.limits);
    this.#last = { graph, program };
    this.#known.unshift({ graph, sizes: program.sizes });
    this.#known.splice(MOST_KNOWN);
    return program.footprint;
  }

  /** The program of a graph, which is compiled again only if another was measured since. */
  program(graph: Graph): GpuProgram {
    const last = this.#last;
    this.#last = null;
    return last?.graph === graph ? last.program : compileGraph(graph, this.traits, this.limits);
  }
}

/** The lab's public names (Node only): experiments with cache formats, their memory, statistics and search. `nibble/lab`. */
export * from "./lab/book.ts";
export * from "./lab/child-runner.ts";
export * from "./lab/hash.ts";
export * from "./lab/journal.ts";
export * from "./lab/lock.ts";
export * from "./lab/open-book.ts";
export * from "./lab/open-lab.ts";
export { JOURNAL } from "./lab/owner.ts";
export * from "./lab/snapshot.ts";
export * from "./lab/spec.ts";
export * from "./lab/swarm.ts";
export * from "./lab/types.ts";
export * from "./lab/work.ts";

/** The lab's public names (Node only): experiments with cache formats, their memory, statistics and search. `nibble/lab`. */
export * from "./lab/book.ts";
export * from "./lab/hash.ts";
export * from "./lab/snapshot.ts";
export * from "./lab/spec.ts";
export * from "./lab/types.ts";

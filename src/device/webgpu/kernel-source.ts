/** A kernel as scripts/wgsl.js collects it: its text, and what the text declares. */
type BindingType = "uniform" | "read-only-storage" | "storage";

export interface KernelSource {
  readonly name: string;
  readonly text: string;
  /** Library files it uses: `lib/<name>.wgsl`, or one of `lib/<name>.<variant>.wgsl`. */
  readonly libs: readonly string[];
  readonly bindings: readonly (readonly [number, BindingType, string])[];
}

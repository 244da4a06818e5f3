/** What models that run here are called and where they come from, and what a page can say before anything is loaded. */

/** Next to the page: `nibble serve` and a static site both have it there. */
export const NEEDLE = { source: "models/needle-14m-Q8_0.gguf", name: "needle-14m" };

/** Why models cannot run here, and what to do; null: they can. */
export function whyNotHere(): string | null {
  if ((navigator as { gpu?: unknown }).gpu) return null;
  return globalThis.isSecureContext
    ? "This browser has no WebGPU. Use a current Chrome, Edge, Safari or Firefox, and see that hardware acceleration is on in its settings."
    : "Browsers give WebGPU to pages over https and on localhost only. Open this page there.";
}

/** A link as people copy it; Hugging Face's page of a file becomes the file. null: no address. */
export function modelUrl(text: string, page: string): string | null {
  try {
    const url = new URL(text.trim(), page);
    if (url.protocol !== "http:" && url.protocol !== "https:") return null;
    if (url.hostname === "huggingface.co") url.pathname = url.pathname.replace("/blob/", "/resolve/");
    return url.href;
  } catch {
    return null;
  }
}

/** What people call the model of a file or an address. */
export function modelName(path: string): string {
  return path.replace(/^.*\//, "").replace(/\.gguf$/i, "") || path;
}

/** Formats that have a name (src/cache/format-layers.ts; test/web/conversation.test.ts compares). */
export const FORMATS: readonly (readonly [string, string?])[] = [
  ["", "by the model"],
  ["kv4", "kv4 (4.4 bits)"],
  ["kv3", "kv3 (3.5 bits)"],
  ["int4", "int4 (5 bits)"],
  ["rq4", "rq4 (4.1 bits)"],
  ["f16", "f16 (16 bits)"],
];

/** Where a model is chosen: loaded when it is first shown, since the page's own server is found without it. */
import { lazily } from "../lazily.tsx";
import type { ModelChoice } from "./choice.ts";

export const ModelPanel = lazily<{ choice: ModelChoice }>(
  async () => (await import("./panel.tsx")).ModelPanel,
);

/** The form for a model in this browser: needle, files, an address, and files that are kept here. */
import { useRef, useState } from "preact/hooks";
import { bytes, grouped } from "../../src/page.ts";
import { SelectField } from "../fields.tsx";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";
import type { ModelChoice } from "./choice.ts";
import { keptModels } from "./kept-models.ts";
import { FORMATS, modelName, modelUrl, NEEDLE, whyNotHere } from "./names.ts";

/** "": not chosen. */
const CONTEXTS: readonly (readonly [string, string])[] = [
  ["", "up to 8,192"],
  ...[2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072].map(
    (tokens) => [String(tokens), grouped(tokens)] as const,
  ),
];

export function HereForm({ choice }: { choice: ModelChoice }) {
  const { context, kv } = useStore(settings);
  const files = useRef<HTMLInputElement>(null);
  const [url, setUrl] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [isKeeping, setKeeping] = useState(false);
  const why = whyNotHere();
  if (why !== null)
    return (
      <div class="place">
        <h3>This browser</h3>
        <p class="problem">{why}</p>
      </div>
    );
  const run = (source: string | readonly File[], name: string) => choice.run({ source, name, context, kv });
  const runFiles = async (chosen: readonly File[]) => {
    const name = modelName(chosen[0].name);
    try {
      run(isKeeping ? await keptModels.keep(name, chosen) : chosen, name);
    } catch (error) {
      setProblem(`${name} could not be kept: ${(error as Error).message}`);
    }
  };
  return (
    <form
      class="place"
      onSubmit={(event) => {
        event.preventDefault();
        const found = url.trim() === "" ? null : modelUrl(url, document.baseURI);
        setProblem(found === null ? "Write the address of a GGUF file." : null);
        if (found) run(found, modelName(new URL(found).pathname));
      }}
    >
      <h3>This browser</h3>
      <p class="note">On your GPU, through WebGPU. Nothing leaves the page.</p>
      <div class="row">
        <button
          type="button"
          class="primary"
          onClick={() => run(new URL(NEEDLE.source, document.baseURI).href, NEEDLE.name)}
        >
          Run {NEEDLE.name} (15 MB)
        </button>
        <button type="button" onClick={() => files.current?.click()}>
          Open a GGUF file
        </button>
        <input
          ref={files}
          type="file"
          multiple
          accept=".gguf,.safetensors,.json,.jinja"
          hidden
          aria-label="Model files"
          onChange={({ currentTarget }) => {
            const chosen = [...(currentTarget.files ?? [])];
            if (chosen.length > 0) runFiles(chosen);
            currentTarget.value = "";
          }}
        />
      </div>
      {keptModels.isPossible && (
        <label class="check">
          <input type="checkbox" checked={isKeeping} onChange={() => setKeeping(!isKeeping)} />
          Keep the file in this browser
        </label>
      )}
      <KeptModels onRun={run} />
      <div class="beside">
        <label>
          Or a GGUF file's address
          <input
            value={url}
            placeholder="https://huggingface.co/…/model.gguf"
            inputMode="url"
            autocomplete="off"
            spellcheck={false}
            aria-invalid={problem !== null}
            onInput={({ currentTarget }) => setUrl(currentTarget.value)}
          />
        </label>
        <button type="submit">Load</button>
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="row">
        <SelectField
          label="Context, tokens"
          value={String(context ?? "")}
          options={CONTEXTS}
          onChange={(found) => settings.set({ context: found ? Number(found) : null })}
        />
        <SelectField
          label="Cache"
          value={kv}
          options={FORMATS}
          onChange={(found) => settings.set({ kv: found })}
        />
      </div>
    </form>
  );
}

/** What lies in the browser's own file system. */
function KeptModels({ onRun }: { onRun: (files: readonly File[], name: string) => void }) {
  const { models, copying } = useStore(keptModels);
  if (copying)
    return (
      <p role="status">
        Keeping {copying.name}: {bytes(copying.bytes)} of {bytes(copying.totalBytes)}
      </p>
    );
  if (models.length === 0) return null;
  return (
    <ul class="kept" aria-label="Models kept in this browser">
      {models.map(({ name, bytes: size }) => (
        <li key={name}>
          <span class="name">{name}</span> <span class="figures">{bytes(size)}</span>
          <button type="button" class="quiet" onClick={async () => onRun(await keptModels.files(name), name)}>
            Run
          </button>
          <button
            type="button"
            class="quiet"
            aria-label={`Remove ${name}`}
            onClick={() => keptModels.remove(name)}
          >
            Remove
          </button>
        </li>
      ))}
    </ul>
  );
}

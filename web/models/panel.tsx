/**
 * Where the model runs: this machine's server, or this browser. Shows the server's form and the progress of the choice.
 */
import { useState } from "preact/hooks";
import { bytes } from "../../src/page.ts";
import { SelectField } from "../fields.tsx";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";
import type { ModelChoice } from "./choice.ts";
import { HereForm } from "./here-form.tsx";
import { serverUrl } from "./server.ts";

export function ModelPanel({ choice }: { choice: ModelChoice }) {
  return (
    <div class="panel">
      <Status choice={choice} />
      <div class="places">
        <HereForm choice={choice} />
        <ServerForm choice={choice} />
      </div>
    </div>
  );
}

function Status({ choice }: { choice: ModelChoice }) {
  const { status } = useStore(choice);
  if (status.kind === "looking") return <p role="status">Looking for a server…</p>;
  if (status.kind === "failed")
    return (
      <p class="problem" role="alert">
        {status.message}{" "}
        <button type="button" class="quiet" onClick={() => choice.again()}>
          Try again
        </button>
      </p>
    );
  if (status.kind !== "loading") return null;
  const { name, totalBytes } = status;
  const text = totalBytes ? `${bytes(status.bytes)} of ${bytes(totalBytes)}` : "opening";
  return (
    <div class="loading" role="status">
      <p>
        Loading {name}: <span class="figures">{text}</span>{" "}
        <button type="button" class="quiet" onClick={() => choice.cancel()}>
          Cancel
        </button>
      </p>
      <progress max={totalBytes || 1} value={totalBytes ? status.bytes : 0} aria-label={`Loading ${name}`} />
    </div>
  );
}

function ServerForm({ choice }: { choice: ModelChoice }) {
  const { server, key, serverModel } = useStore(settings);
  const { model, offered, status } = useStore(choice);
  const [problem, setProblem] = useState<string | null>(null);
  const wantsKey = status.kind === "failed" && status.wantsKey;
  const connect = (id: string) => {
    const url = serverUrl(server, document.baseURI);
    setProblem(url === null ? `"${server}" is no address. Write one such as http://127.0.0.1:8080.` : null);
    if (url !== null) choice.connect({ url, key }, id);
  };
  return (
    <form
      class="place"
      onSubmit={(event) => {
        event.preventDefault();
        connect(serverModel);
      }}
    >
      <h3>A server</h3>
      <p class="note">
        <code>nibble serve MODEL</code>, or any that speaks OpenAI's API.
      </p>
      <label>
        Address
        <input
          value={server}
          placeholder={new URL(document.baseURI).origin}
          inputMode="url"
          autocomplete="off"
          spellcheck={false}
          aria-invalid={problem !== null}
          // A key is its server's: another address must not be sent it.
          onInput={({ currentTarget }) => settings.set({ server: currentTarget.value, key: "" })}
        />
      </label>
      <label>
        API key, if it wants one
        <input
          type="password"
          value={key}
          autocomplete="off"
          aria-invalid={wantsKey}
          onInput={({ currentTarget }) => settings.set({ key: currentTarget.value })}
        />
      </label>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {model?.kind === "server" && offered.length > 1 && (
        <SelectField
          label="Model"
          value={model.name}
          options={offered.map(({ id }) => [id])}
          onChange={(id) => {
            settings.set({ serverModel: id });
            connect(id);
          }}
        />
      )}
      <button type="submit">{model?.kind === "server" ? "Connect again" : "Connect"}</button>
    </form>
  );
}

/**
 * The models that one may switch to, in the page's head: the server's, with whether they are loaded, and those that this
 * browser keeps. A server's model is loaded when it is chosen, and the list is refreshed.
 */
import { useEffect } from "preact/hooks";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";
import type { ModelChoice } from "./choice.ts";
import { keptModels } from "./kept-models.ts";
import { whyNotHere } from "./names.ts";
import { loadServerModel, ServerChatModel, type ServerModel, serverModels, serverUrl } from "./server.ts";

/** Intervals of refreshing the list: while a model is loading, while the chosen model is not loaded, and otherwise. */
const LOADING_MS = 500;
const SOON_MS = 2000;
const LOOK_MS = 10_000;
/** Arrow keys pass through items that are not meant. */
const PASSING_MS = 400;

export function ModelSwitcher({ choice }: { choice: ModelChoice }) {
  const { model, offered, status } = useStore(choice);
  const { models } = useStore(keptModels);
  const kept = whyNotHere() === null ? models : [];
  const own = offered.find(({ id }) => model?.kind === "server" && id === model.name);
  const isReady = (own?.state ?? "loaded") === "loaded";
  const isLoading = offered.some(({ state }) => state === "loading");
  const pause = isLoading ? LOADING_MS : isReady ? LOOK_MS : SOON_MS;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || lookAgain(choice), pause);
    return () => clearInterval(timer);
  }, [pause]);
  const value = model ? `${model.kind} ${model.name}` : "";
  const options = [
    ...offered.map((one) => [`server ${one.id}`, described(one)]),
    ...kept.map(({ name }) => [`here ${name}`, `${name} (this browser)`]),
  ];
  // Needle, and files that are not kept.
  if (!options.some(([known]) => known === value))
    options.push([value, model?.name ?? (status.kind === "loading" ? `loading ${status.name}…` : "choose")]);
  if (options.length < 2) return null;
  return (
    <>
      <select
        class="switcher"
        aria-label="Model that answers"
        value={value}
        onFocus={() => lookAgain(choice)}
        onChange={({ currentTarget }) => switchTo(choice, currentTarget.value)}
      >
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
      <span class="hidden" role="status">
        {own?.state ? `${own.id} is ${own.state}` : ""}
      </span>
    </>
  );
}

/** Other servers do not report it. */
function described({ id, state, part }: ServerModel): string {
  if (state === null || state === "unloaded") return id;
  return `${id} (${state}${state === "loading" && part !== null ? ` ${Math.floor(part * 100)} %` : ""})`;
}

async function switchTo(choice: ModelChoice, value: string): Promise<void> {
  const { server, key, context, kv } = settings.state;
  const [kind, ...rest] = value.split(" ");
  const name = rest.join(" ");
  if (kind === "here") return choice.run({ source: await keptModels.files(name), name, context, kv });
  const url = serverUrl(server, document.baseURI);
  if (kind !== "server" || url === null) return;
  settings.set({ serverModel: name });
  await choice.connect({ url, key }, name);
  const { model, offered } = choice.state;
  const found = offered.find(({ id }) => id === name);
  if (!(model instanceof ServerChatModel) || !found?.state || found.state === "loaded") return;
  await new Promise((resolve) => setTimeout(resolve, PASSING_MS));
  if (model.name !== name || choice.state.model !== model) return;
  // An error is shown in the list, and when the model is used.
  await loadServerModel(model.server, name).catch(() => {});
  await lookAgain(choice);
}

async function lookAgain(choice: ModelChoice): Promise<void> {
  const { model } = choice.state;
  if (!(model instanceof ServerChatModel)) return;
  const offered = await serverModels(model.server).catch(() => null);
  if (offered === null || choice.state.model !== model) return;
  const own = offered.find(({ id }) => id === model.name);
  if (own) model.learn(own);
  choice.set({ offered });
}

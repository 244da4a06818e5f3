/** The page: its tabs, and the dialog where the model is chosen. The address's fragment says which tab is open. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Chat } from "./chat/chat.tsx";
import type { Talk } from "./chat/talk.ts";
import { lazily } from "./lazily.tsx";
import type { ModelChoice } from "./models/choice.ts";
import { useStore } from "./store.ts";

const Planner = lazily(async () => (await import("./plan/planner.tsx")).Planner);
const ModelDialog = lazily<{ talk: Talk; choice: ModelChoice }>(
  async () => (await import("./models/dialog.tsx")).ModelDialog,
);
/** Nothing where there is no choice, so nothing until it is known. */
const ModelSwitcher = lazily<{ choice: ModelChoice }>(
  async () => (await import("./models/switcher.tsx")).ModelSwitcher,
  null,
);
const Bench = lazily(async () => (await import("./bench/bench.tsx")).Bench);

const TABS = [
  { name: "chat", title: "Chat" },
  { name: "plan", title: "Plan" },
  { name: "bench", title: "Bench" },
] as const;

type Tab = (typeof TABS)[number]["name"];

export function App({ talk, choice }: { talk: Talk; choice: ModelChoice }) {
  const tab = useTab();
  const dialog = useRef<HTMLDialogElement>(null);
  const [isChoosing, setChoosing] = useState(false);
  const { model, status, isGone } = useStore(choice);
  // The dialog was opened to choose a model, so it closes when one is there.
  useEffect(() => {
    if (model) dialog.current?.close();
  }, [model]);
  return (
    <>
      <header>
        <a href="#chat" class="brand">
          <Mark /> Nibble
        </a>
        <nav aria-label="Sections">
          {TABS.map(({ name, title }) => (
            <a key={name} href={`#${name}`} aria-current={name === tab ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <ModelSwitcher choice={choice} />
        <button
          type="button"
          class="chosen"
          aria-haspopup="dialog"
          title={isGone ? `${model?.place} does not answer` : model?.place}
          onClick={() => {
            setChoosing(true);
            dialog.current?.showModal();
          }}
        >
          <span class={model ? (isGone ? "lamp gone" : "lamp on") : "lamp"} aria-hidden="true" />
          <span class="name">{model?.name ?? (status.kind === "loading" ? "loading…" : "choose")}</span>
          <span class="hidden" role="status">
            {isGone ? `${model?.place} does not answer` : ""}
          </span>
        </button>
      </header>
      <main>
        {tab === "chat" && <Chat {...{ talk, choice }} />}
        {tab === "plan" && <Planner />}
        {tab === "bench" && <Bench />}
      </main>
      <dialog ref={dialog} aria-label="Model" onClose={() => setChoosing(false)}>
        {isChoosing && (
          <div class="dialog">
            <div class="dialog-head">
              <h2>Model</h2>
              <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
                Close
              </button>
            </div>
            <ModelDialog {...{ talk, choice }} />
          </div>
        )}
      </dialog>
    </>
  );
}

/** Four bits. */
function Mark() {
  return (
    <svg viewBox="0 0 19 4" aria-hidden="true">
      {[0, 5, 10, 15].map((x, i) => (
        <rect key={x} {...{ x, y: 0, width: 4, height: 4 }} class={i === 2 ? "zero" : "one"} />
      ))}
    </svg>
  );
}

function useTab(): Tab {
  const read = () => TABS.find(({ name }) => `#${name}` === location.hash)?.name ?? "chat";
  const [tab, setTab] = useState(read);
  useEffect(() => {
    const onChange = () => setTab(read());
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  }, []);
  return tab;
}

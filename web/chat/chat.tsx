/** The chat: turns, and the field below them. Scrolls along with an answer until the reader scrolls away. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { lazily } from "../lazily.tsx";
import type { ModelChoice } from "../models/choice.ts";
import { ModelPanel } from "../models/lazy-panel.tsx";
import { modelName } from "../models/names.ts";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";
import { Composer } from "./composer.tsx";
import type { Turn } from "./conversation.ts";
import type { Talk } from "./talk.ts";
import { TurnView } from "./turn.tsx";

const Sidebar = lazily<{ talk: Talk; onChosen: () => void }>(
  async () => (await import("./sidebar.tsx")).Sidebar,
);

/** Within this distance of the end counts as at the end. */
const NEAR_PIXELS = 48;

export function Chat({ talk, choice }: { talk: Talk; choice: ModelChoice }) {
  const state = useStore(talk);
  const { model } = useStore(choice);
  const isDropping = useDrop((files) => {
    const models = files.filter(({ name }) => /\.(gguf|safetensors)$/i.test(name));
    const { context, kv } = settings.state;
    if (models.length > 0) choice.run({ source: models, name: modelName(models[0].name), context, kv });
    talk.attach(files.filter((file) => !models.includes(file)));
  });
  const { isFollowing, follow } = useFollowing(state.turns);
  const { turns, isRunning, reading } = state;
  const canAsk = model !== null && !isRunning && state.editing === null;
  const { list } = useStore(settings);
  // Next to the chat where there is room; otherwise over it, and only on request.
  const [isOver, setOver] = useState(false);
  const isListed = isWide() ? list : isOver;
  return (
    <div class={isListed ? "with-list" : "without-list"}>
      {isListed && <Sidebar talk={talk} onChosen={() => setOver(false)} />}
      <section class="chat" aria-label="Chat">
        <div class="top">
          <button
            type="button"
            class="quiet"
            aria-expanded={isListed}
            onClick={() => (isWide() ? settings.set({ list: !list }) : setOver(!isOver))}
          >
            Conversations
          </button>
          {turns.length > 0 && (
            <button type="button" class="quiet" onClick={() => talk.fresh()}>
              New
            </button>
          )}
        </div>
        {/* Screen readers read it when it is complete: piece by piece it could not be followed. */}
        <div class="turns" role="log" aria-live="polite" aria-busy={isRunning}>
          {turns.map((turn, i) => (
            <TurnView
              key={turn.id}
              {...{ turn, talk, canAsk }}
              branch={branchOf(talk, turn)}
              reading={i === turns.length - 1 ? reading : null}
              isLast={i === turns.length - 1}
            />
          ))}
        </div>
        {turns.length > 0 && <h1 class="hidden">{state.head.title}</h1>}
        {turns.length === 0 && <Welcome choice={choice} hasModel={model !== null} />}
        {turns.length > 0 && !model && <ModelPanel choice={choice} />}
        {isDropping && (
          <p class="drop">
            Drop texts, PDF or DOCX files to put them in front of your next question, or a GGUF file to run it
            here
          </p>
        )}
        <div class="bottom">
          {!isFollowing && (
            <button type="button" class="quiet follow" onClick={follow}>
              To the end
            </button>
          )}
          <Composer {...{ talk, state, model }} />
        </div>
      </section>
    </div>
  );
}

function isWide(): boolean {
  return matchMedia("(min-width: 60rem)").matches;
}

function branchOf(talk: Talk, turn: Turn): string {
  const [at, of] = talk.branch(turn);
  return of > 1 ? `${at + 1} of ${of}` : "";
}

function Welcome({ choice, hasModel }: { choice: ModelChoice; hasModel: boolean }) {
  return (
    <div class="welcome">
      <h1>
        Long documents, <br />
        small memory.
      </h1>
      <p>
        {hasModel
          ? "Ask something, or attach a text and ask about it. The line below the field shows what the cache holds."
          : "Nibble answers from models on your own machine, with attention computed directly on a 4-bit cache. Choose where the model runs."}
      </p>
      {!hasModel && <ModelPanel choice={choice} />}
    </div>
  );
}

/** Files dropped anywhere on the page, which would otherwise make way for them. True while some hover over it. */
function useDrop(onFiles: (files: File[]) => void): boolean {
  const [isOver, setOver] = useState(false);
  const take = useRef(onFiles);
  take.current = onFiles;
  useEffect(() => {
    const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes("Files") === true;
    const onOver = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const onLeave = ({ relatedTarget }: DragEvent) => {
      if (relatedTarget === null) setOver(false);
    };
    const onDrop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      take.current([...(event.dataTransfer?.files ?? [])]);
    };
    addEventListener("dragover", onOver);
    addEventListener("dragleave", onLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onOver);
      removeEventListener("dragleave", onLeave);
      removeEventListener("drop", onDrop);
    };
  }, []);
  return isOver;
}

/** Keeps the end in view while `changes` come, unless the reader has scrolled up. */
function useFollowing(changes: unknown) {
  const [isFollowing, setFollowing] = useState(true);
  const following = useRef(true);
  useEffect(() => {
    const onScroll = () => {
      const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
      following.current = scrollHeight - clientHeight - scrollTop < NEAR_PIXELS;
      setFollowing(following.current);
    };
    addEventListener("scroll", onScroll, { passive: true });
    return () => removeEventListener("scroll", onScroll);
  }, []);
  const toEnd = () => scrollTo({ top: document.documentElement.scrollHeight });
  useLayoutEffect(() => {
    if (following.current) toEnd();
  }, [changes]);
  const follow = () => {
    following.current = true;
    setFollowing(true);
    toEnd();
  };
  return { isFollowing, follow };
}

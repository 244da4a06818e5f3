/** The chat: turns, and the field below them. Owns scrolling along with an answer, until the reader scrolls away. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ModelChoice } from "../models/choice.ts";
import { ModelPanel } from "../models/panel.tsx";
import { useStore } from "../store.ts";
import { Composer } from "./composer.tsx";
import type { Talk } from "./talk.ts";
import { TurnView } from "./turn.tsx";

/** Closer to the end than this is at the end. */
const NEAR_PIXELS = 48;

export function Chat({ talk, choice }: { talk: Talk; choice: ModelChoice }) {
  const state = useStore(talk);
  const { model } = useStore(choice);
  const [isDropping, setDropping] = useState(false);
  const { isFollowing, follow } = useFollowing(state.turns);
  const { turns, isRunning, reading } = state;
  const canAsk = model !== null && !isRunning;
  return (
    <section
      class={isDropping ? "chat dropping" : "chat"}
      aria-label="Chat"
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        setDropping(true);
      }}
      onDragLeave={({ relatedTarget, currentTarget }) => {
        if (!currentTarget.contains(relatedTarget as Node | null)) setDropping(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setDropping(false);
        talk.attach([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      {/* Read out when it is whole: piece by piece nobody could follow. */}
      <div class="turns" role="log" aria-live="polite" aria-busy={isRunning}>
        {turns.map((turn, i) => (
          <TurnView key={i} {...{ turn, talk, canAsk, reading }} isLast={i === turns.length - 1} />
        ))}
      </div>
      {turns.length === 0 && <Welcome choice={choice} hasModel={model !== null} />}
      {isDropping && <p class="drop">Drop text files to put them in front of your next question</p>}
      <div class="bottom">
        {!isFollowing && (
          <button type="button" class="quiet follow" onClick={follow}>
            To the end
          </button>
        )}
        {turns.length > 0 && !model && <ModelPanel choice={choice} />}
        <Composer {...{ talk, state, model }} />
      </div>
    </section>
  );
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
          ? "Ask something, or attach a text and ask about it. Attention runs on a 4-bit cache; the line below the field shows what that saves."
          : "Nibble answers from models on your own machine, with attention computed directly on a 4-bit cache. Choose where the model runs."}
      </p>
      {!hasModel && <ModelPanel choice={choice} />}
    </div>
  );
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

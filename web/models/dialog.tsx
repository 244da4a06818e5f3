/** The dialog's content: which model answers, what it could be instead, and how answers are asked for. */
import { grouped } from "../../src/page.ts";
import type { Talk } from "../chat/talk.ts";
import { useStore } from "../store.ts";
import { AnswerSettings } from "./answer-settings.tsx";
import type { ModelChoice } from "./choice.ts";
import { ModelPanel } from "./panel.tsx";

export function ModelDialog({ talk, choice }: { talk: Talk; choice: ModelChoice }) {
  const { model, isGone } = useStore(choice);
  return (
    <>
      {model && (
        <p class="note">
          {model.name} on {model.place}
          {model.context === null ? "" : `, context of ${grouped(model.context)} tokens`}
          {isGone && <strong> · does not answer at the moment</strong>}
        </p>
      )}
      <ModelPanel choice={choice} />
      <AnswerSettings talk={talk} />
    </>
  );
}

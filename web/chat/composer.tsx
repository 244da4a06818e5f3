/**
 * The field for the next question. Enter sends, Shift+Enter breaks the line, Escape stops an answer or an edit, the up
 * arrow in an empty field brings the last question back; the page's "/" moves here.
 */
import { useEffect, useRef } from "preact/hooks";
import { grouped } from "../../src/page.ts";
import type { ChatModel } from "../models/model.ts";
import { Gauge } from "./gauge.tsx";
import type { Talk, TalkState } from "./talk.ts";
import { DocumentLine } from "./turn.tsx";

export interface ComposerProperties {
  talk: Talk;
  state: TalkState;
  model: ChatModel | null;
}

export function Composer({ talk, state, model }: ComposerProperties) {
  const field = useRef<HTMLTextAreaElement>(null);
  const files = useRef<HTMLInputElement>(null);
  const { draft, draftTokens, documents, isRunning, editing, notice } = state;

  useEffect(() => grow(field.current), [draft]);
  useEffect(() => {
    if (editing) field.current?.focus();
  }, [editing]);
  // A button that disappears must not lose the focus; on a phone a focused field opens the keyboard.
  useEffect(() => {
    const isFree = document.activeElement === null || document.activeElement === document.body;
    if (model && isFree && matchMedia("(pointer: fine)").matches) field.current?.focus();
  }, [model, isRunning]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && talk.state.isRunning && !document.querySelector("dialog[open]"))
        talk.stop();
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target))
        return;
      event.preventDefault();
      field.current?.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [talk]);

  const onKeyDown = (event: KeyboardEvent) => {
    // Enter also ends the composing of a Chinese or Japanese word.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      talk.send();
    } else if (event.key === "ArrowUp" && draft === "" && state.turns.length > 0) {
      event.preventDefault();
      talk.edit();
    } else if (event.key === "Escape" && editing) talk.cancelEdit();
  };
  const onPaste = (event: ClipboardEvent) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (pasted.length === 0) return;
    event.preventDefault();
    talk.attach(pasted);
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        talk.send();
      }}
    >
      {notice && (
        <p class="notice" role="status">
          {notice.text}
          {notice.undo && (
            <button type="button" class="quiet" onClick={notice.undo}>
              Undo
            </button>
          )}
          <button type="button" class="quiet" onClick={() => talk.set({ notice: null })}>
            Dismiss
          </button>
        </p>
      )}
      <div class="field">
        {editing && (
          <p class="note">
            Editing a message{" "}
            <button type="button" class="quiet" onClick={() => talk.cancelEdit()}>
              Cancel
            </button>
          </p>
        )}
        {documents.map((document) => (
          <DocumentLine document={document} onRemove={() => talk.detach(document)} />
        ))}
        <textarea
          ref={field}
          rows={1}
          aria-label="Message"
          placeholder={model ? `Ask ${model.name}` : "Choose a model first"}
          value={draft}
          enterkeyhint="send"
          onInput={({ currentTarget }) => talk.setDraft(currentTarget.value)}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
        />
        <div class="actions">
          <input
            ref={files}
            type="file"
            multiple
            hidden
            aria-label="Documents"
            onChange={({ currentTarget }) => {
              talk.attach([...(currentTarget.files ?? [])]);
              currentTarget.value = "";
            }}
          />
          <button type="button" class="quiet" onClick={() => files.current?.click()}>
            Attach
          </button>
          {draftTokens && (
            <span class="figures" data-testid="draft-tokens">
              {draftTokens.isExact ? "" : "about "}
              {grouped(draftTokens.tokens)} tokens
            </span>
          )}
          <span class="hint" aria-hidden="true">
            {isRunning ? "Esc stops" : "Enter sends"}
          </span>
          {isRunning ? (
            <button type="button" class="primary" onClick={() => talk.stop()}>
              Stop
            </button>
          ) : (
            <button type="submit" class="primary" disabled={!model || draft.trim() === ""}>
              Send
            </button>
          )}
        </div>
      </div>
      {model && <Gauge model={model} talk={state} />}
    </form>
  );
}

/** Makes the field as tall as its text, up to the limit of the style. */
function grow(field: HTMLTextAreaElement | null): void {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select, dialog") !== null;
}

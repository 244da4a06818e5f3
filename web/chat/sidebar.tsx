/** The list of conversations: search, open, rename, delete, import and export. */
import { useRef, useState } from "preact/hooks";
import { useStore } from "../store.ts";
import type { Head } from "./book.ts";
import type { Conversations } from "./conversations.ts";
import type { Talk } from "./talk.ts";

export function Sidebar({ talk, onChosen }: { talk: Talk; onChosen: () => void }) {
  const { conversations } = talk;
  const { heads, query, found, notice } = useStore(conversations);
  const { head } = useStore(talk);
  const files = useRef<HTMLInputElement>(null);
  const shown = (heads ?? []).filter(({ id }) => found === null || found.has(id));
  return (
    <aside class="list" aria-label="Conversations">
      <button
        type="button"
        onClick={() => {
          talk.fresh();
          onChosen();
        }}
      >
        New conversation
      </button>
      <input
        type="search"
        aria-label="Search conversations"
        placeholder="Search"
        value={query}
        onInput={({ currentTarget }) => conversations.find(currentTarget.value)}
      />
      {notice && (
        <p class="note" role="status">
          {notice.text}{" "}
          {notice.undo && (
            <button type="button" class="quiet" onClick={notice.undo}>
              Undo
            </button>
          )}
        </p>
      )}
      <ul>
        {shown.map((one) => (
          <Entry
            key={one.id}
            {...{ conversations }}
            head={one}
            isOpen={one.id === head.id}
            onOpen={() => {
              talk.open(one.id);
              onChosen();
            }}
          />
        ))}
      </ul>
      {heads !== null && shown.length === 0 && (
        <p class="note">{query === "" ? "What you ask is kept here, in this browser." : "Nothing found."}</p>
      )}
      <div class="files">
        {shown.length > 0 && (
          <button
            type="button"
            class="quiet"
            onClick={async () => save("conversations.json", await conversations.exported("json"))}
          >
            Export all
          </button>
        )}
        <button type="button" class="quiet" onClick={() => files.current?.click()}>
          Import
        </button>
        <input
          ref={files}
          type="file"
          multiple
          hidden
          accept=".json,.md"
          aria-label="Files of conversations"
          onChange={({ currentTarget }) => {
            conversations.import([...(currentTarget.files ?? [])]);
            currentTarget.value = "";
          }}
        />
      </div>
    </aside>
  );
}

interface EntryProperties {
  conversations: Conversations;
  head: Head;
  isOpen: boolean;
  onOpen(): void;
}

function Entry({ conversations, head, isOpen, onOpen }: EntryProperties) {
  const [isNaming, setNaming] = useState(false);
  const { id, title } = head;
  const file = async (kind: "json" | "md") =>
    save(
      `${title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim() || "conversation"}.${kind}`,
      await conversations.exported(kind, id),
    );
  if (isNaming)
    return (
      <li>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            const field = event.currentTarget.elements[0] as HTMLInputElement;
            conversations.rename(id, field.value);
            setNaming(false);
          }}
        >
          <input
            aria-label="Title"
            defaultValue={title}
            ref={(field) => field?.focus()}
            onKeyDown={({ key }) => key === "Escape" && setNaming(false)}
          />
        </form>
      </li>
    );
  return (
    <li>
      <button type="button" class="title" aria-current={isOpen ? "true" : undefined} onClick={onOpen}>
        {title || "Untitled"}
      </button>
      {isOpen && (
        <div class="files">
          <button type="button" class="quiet" onClick={() => setNaming(true)}>
            Rename
          </button>
          <button type="button" class="quiet" onClick={() => conversations.remove(id)}>
            Delete
          </button>
          <button type="button" class="quiet" onClick={() => file("md")}>
            Markdown
          </button>
          <button type="button" class="quiet" onClick={() => file("json")}>
            JSON
          </button>
        </div>
      )}
    </li>
  );
}

/** Offers a text as a download. */
function save(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

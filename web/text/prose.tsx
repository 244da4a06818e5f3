/** An answer's text. The Markdown reader is loaded with the first answer; until then the text is shown as it is. */
import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";

type View = FunctionComponent<{ text: string; hasPictures: boolean }>;

let view: View | null = null;
let loading: Promise<void> | null = null;

function load(): Promise<void> {
  loading ??= import("./markdown.tsx").then(
    ({ Markdown }) => {
      view = Markdown;
    },
    // Plain text then, until the page is opened again.
    () => {},
  );
  return loading;
}

/** Loaded before there is a text, so that an answer does not change its look half-way. */
export function Prose({ text }: { text: string }) {
  const [, draw] = useState(view !== null);
  useEffect(() => {
    if (!view) load().then(() => draw(true));
  }, []);
  const { pictures } = useStore(settings);
  if (text === "") return null;
  const View = view;
  return (
    <div class="prose">
      {View ? <View text={text} hasPictures={pictures} /> : <p class="plain">{text}</p>}
    </div>
  );
}

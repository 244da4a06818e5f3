/** A block of code: its language, a button to copy it, and a box that scrolls by itself. Its colours come when they are loaded. */
import { useEffect, useState } from "preact/hooks";
import { CopyButton } from "./copy.tsx";

type Highlighter = typeof import("./highlight.ts").highlighted;

let highlighted: Highlighter | null = null;

/** Longer blocks stay plain: while an answer streams, a block is read again for each update. */
const MOST_CHARACTERS = 20_000;

export function CodeBlock({ text, language }: { text: string; language: string }) {
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={text} />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
      <pre tabIndex={0}>
        <code>
          <Coloured {...{ text, language }} />
        </code>
      </pre>
    </figure>
  );
}

function Coloured({ text, language }: { text: string; language: string }) {
  const [, draw] = useState(false);
  useEffect(() => {
    if (!highlighted && language !== "")
      import("./highlight.ts").then(
        (module) => {
          highlighted = module.highlighted;
          draw(true);
        },
        () => {},
      );
  }, [language]);
  return <>{(text.length > MOST_CHARACTERS ? null : highlighted?.(text, language.toLowerCase())) ?? text}</>;
}

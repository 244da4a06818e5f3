/**
 * Markdown -> Preact nodes. Owns what a model's words may become on the page: text, structure, and links that a person has
 * to follow. Nothing is ever parsed as HTML, no picture is fetched (its address could carry the conversation away), and
 * links go to http and https alone. Blocks are drawn anew only when their source changes, so a long answer streams cheaply.
 */
import type { Token, Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { ScrollBox } from "../fields.tsx";
import { CodeBlock } from "./code.tsx";
import { decodeEntities } from "./entities.ts";
import { lex } from "./lexer.ts";
import { memo } from "./memo.ts";

/** Deeper than people write; a model that goes on forever with ">" must not exhaust the stack. */
const MOST_DEPTH = 24;

export function Markdown({ text }: { text: string }) {
  const blocks = blocksOf(text);
  if (blocks === null) return <p class="plain">{text}</p>;
  return (
    <>
      {blocks.map((token, i) => (
        <Block key={i} token={token} source={token.raw} />
      ))}
    </>
  );
}

/** null: the text is beyond the lexer, and is shown as it is. */
export function blocksOf(text: string): Token[] | null {
  if (/^[\s>*+-]{200}/m.test(text)) return null;
  try {
    return lex(text);
  } catch {
    return null;
  }
}

/** `source` decides whether it is drawn again: tokens are made anew for each piece. */
const Block = memo(
  ({ token }: { token: Token; source: string }) => <>{block(token, 0)}</>,
  (before, after) => before.source === after.source && before.token.type === after.token.type,
);

function block(token: Token, depth: number): ComponentChildren {
  if (depth > MOST_DEPTH) return <p class="plain">{token.raw}</p>;
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "hr":
      return <hr />;
    case "code":
      return <CodeBlock text={token.text} language={/^\S*/.exec(token.lang ?? "")?.[0] ?? ""} />;
    case "heading":
      return <Heading depth={(token as Tokens.Heading).depth}>{inlines(token, depth)}</Heading>;
    case "blockquote":
      return <blockquote>{blocks(token.tokens, depth + 1)}</blockquote>;
    case "list":
      return list(token as Tokens.List, depth);
    case "table":
      return table(token as Tokens.Table, depth);
    case "paragraph":
      return <p>{inlines(token, depth)}</p>;
    // A tight list item's text, with its own inline tokens.
    case "text":
      return inlines(token, depth);
    case "html":
      return <p class="plain">{token.raw.trimEnd()}</p>;
    default:
      return inline(token, depth);
  }
}

function blocks(tokens: readonly Token[] | undefined, depth: number): ComponentChildren {
  return tokens?.map((token) => block(token, depth));
}

/** A page has one h1 of its own: an answer's headings begin below the turn's. */
function Heading({ depth, children }: { depth: number; children: ComponentChildren }) {
  if (depth === 1) return <h3>{children}</h3>;
  return depth === 2 ? <h4>{children}</h4> : <h5>{children}</h5>;
}

function list({ ordered, start, items }: Tokens.List, depth: number): ComponentChildren {
  const entries = items.map((item) => <li>{blocks(item.tokens, depth + 1)}</li>);
  return ordered ? <ol start={start === "" ? 1 : start}>{entries}</ol> : <ul>{entries}</ul>;
}

function table({ header, rows, align }: Tokens.Table, depth: number): ComponentChildren {
  const style = (i: number) => ({ textAlign: align[i] ?? "left" }) as const;
  return (
    <ScrollBox label="table">
      <table>
        <thead>
          <tr>
            {header.map((cell, i) => (
              <th style={style(i)}>{inlines(cell, depth)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              {row.map((cell, i) => (
                <td style={style(i)}>{inlines(cell, depth)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

function inlines(token: { text?: string; tokens?: Token[] }, depth: number): ComponentChildren {
  if (depth > MOST_DEPTH) return token.text ?? "";
  return token.tokens?.map((one) => inline(one, depth + 1)) ?? decodeEntities(token.text ?? "");
}

function inline(token: Token, depth: number): ComponentChildren {
  switch (token.type) {
    case "strong":
      return <strong>{inlines(token, depth)}</strong>;
    case "em":
      return <em>{inlines(token, depth)}</em>;
    case "del":
      return <del>{inlines(token, depth)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "checkbox":
      return token.checked ? "☑ " : "☐ ";
    case "escape":
      return token.text;
    case "link":
      return <Link href={token.href}>{inlines(token, depth)}</Link>;
    case "image":
      return <Link href={token.href}>{`picture: ${token.text || token.href}`}</Link>;
    case "text":
      return inlines(token, depth);
    default:
      return token.raw;
  }
}

function Link({ href, children }: { href: string; children: ComponentChildren }) {
  const url = safeUrl(href);
  if (url === null) return <>{children}</>;
  return (
    <a href={url} target="_blank" rel="noopener noreferrer nofollow" title={url}>
      {children}
    </a>
  );
}

/** null: nothing that a click should open. */
export function safeUrl(href: string): string | null {
  try {
    const url = new URL(href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * Markdown -> Preact nodes. A model's words can become text, structure, and links that a person has
 * to follow. Nothing is ever parsed as HTML, no picture is fetched unless a person has asked for pictures (its address could
 * carry the conversation away), and links go to http and https alone. Blocks are drawn anew only when their source changes, so a long answer streams cheaply.
 */
import type { Token, Tokens } from "marked";
import type { ComponentChildren } from "preact";
import { ScrollBox } from "../fields.tsx";
import { CodeBlock } from "./code.tsx";
import { decodeEntities } from "./entities.ts";
import { FormulaView } from "./formula.tsx";
import { asWritten, atFormulas, type Formula, takeFormulas } from "./formulas.ts";
import { lex } from "./lexer.ts";
import { memo } from "./memo.ts";

/** Deeper than anyone writes; a model that repeats ">" forever must not exhaust the stack. */
const MOST_DEPTH = 24;

/** What is being drawn: formulas that were taken out of the text, and whether pictures are fetched. */
interface Drawing {
  readonly formulas: readonly Formula[];
  readonly hasPictures: boolean;
}

/** Set while blocks are drawn, which happens at once: each function here would hand it on. */
let drawing: Drawing = { formulas: [], hasPictures: false };

export function Markdown({ text, hasPictures = false }: { text: string; hasPictures?: boolean }) {
  const taken = takeFormulas(text);
  const blocks = blocksOf(taken.text);
  if (blocks === null) return <p class="plain">{text}</p>;
  return (
    <>
      {blocks.map((token, i) => {
        const used = [...token.raw.matchAll(/\ue000(\d+)\ue001/g)].map(
          ([, at]) => taken.formulas[Number(at)]?.raw,
        );
        const source = [token.raw, ...used, hasPictures].join("\n");
        return <Block key={i} {...{ token, source, hasPictures }} formulas={taken.formulas} />;
      })}
    </>
  );
}

/** null: the text is beyond the lexer, and is shown as it is. */
function blocksOf(text: string): Token[] | null {
  if (/^[\s>*+-]{200}/m.test(text)) return null;
  try {
    return lex(text);
  } catch {
    return null;
  }
}

/** `source` decides whether it is drawn again: tokens are new objects for each update. */
const Block = memo(
  ({ token, formulas, hasPictures }: { token: Token; source: string } & Drawing) => {
    drawing = { formulas, hasPictures };
    return <>{block(token, 0)}</>;
  },
  (before, after) => before.source === after.source && before.token.type === after.token.type,
);

function block(token: Token, depth: number): ComponentChildren {
  if (depth > MOST_DEPTH) return <p class="plain">{written(token.raw)}</p>;
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "hr":
      return <hr />;
    case "code":
      return <CodeBlock text={written(token.text)} language={/^\S*/.exec(token.lang ?? "")?.[0] ?? ""} />;
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
      return <p class="plain">{written(token.raw.trimEnd())}</p>;
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
  if (depth > MOST_DEPTH) return written(token.text ?? "");
  if (token.tokens) return token.tokens.map((one) => inline(one, depth + 1));
  return atFormulas(token.text ?? "", drawing.formulas).map((piece) =>
    typeof piece === "string" ? decodeEntities(piece) : <FormulaView formula={piece} />,
  );
}

function written(text: string): string {
  return asWritten(text, drawing.formulas);
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
      return <code>{written(token.text)}</code>;
    case "br":
      return <br />;
    case "checkbox":
      return token.checked ? "☑ " : "☐ ";
    case "escape":
      return token.text;
    case "link":
      return <Link href={written(token.href)}>{inlines(token, depth)}</Link>;
    case "image":
      return picture(written(token.href), written(token.text));
    case "text":
      return inlines(token, depth);
    default:
      return written(token.raw);
  }
}

/** A link, unless a person wants pictures. */
function picture(href: string, text: string): ComponentChildren {
  const url = drawing.hasPictures ? safeUrl(href) : null;
  if (url === null) return <Link href={href}>{`picture: ${text || href}`}</Link>;
  return <img src={url} alt={text} loading="lazy" referrerpolicy="no-referrer" />;
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

/** null: a click should open nothing. */
export function safeUrl(href: string): string | null {
  try {
    const url = new URL(href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Markdown to nodes: structure where it is meant, and from hostile text nothing but text. */
import fc from "fast-check";
import { Tokenizer } from "marked";
import { type ComponentChildren, isValidElement, type VNode } from "preact";
import { describe, expect, it, vi } from "vitest";
import { decodeEntities } from "../../web/text/entities.ts";
import { Markdown, safeUrl } from "../../web/text/markdown.tsx";

interface Element {
  tag: string;
  props: Record<string, unknown>;
  children: (Element | string)[];
}

/** Calls components until only elements and text are left. */
function drawn(node: ComponentChildren): (Element | string)[] {
  if (node === null || node === undefined || typeof node === "boolean") return [];
  if (Array.isArray(node)) return node.flatMap(drawn);
  if (!isValidElement(node)) return [String(node)];
  const { type, props } = node as VNode<Record<string, unknown> & { children?: ComponentChildren }>;
  if (typeof type === "string") {
    const { children, ...rest } = props;
    return [{ tag: type, props: rest, children: drawn(children as ComponentChildren) }];
  }
  const View = type as unknown as { prototype?: { render?: unknown } } & ((
    props: object,
  ) => ComponentChildren);
  if (View.prototype?.render) {
    const made = new (
      View as unknown as new (
        props: object,
      ) => { props: object; render(): ComponentChildren }
    )(props);
    made.props = props;
    return drawn(made.render());
  }
  // A part of the page with hooks, which needs a DOM: its text is what counts.
  if (View.name === "CopyButton") return [];
  if (View.name === "Coloured") return [String(props.text)];
  if (View.name === "FormulaView") return [{ tag: "formula", props, children: [] }];
  return drawn(View(props));
}

const markdown = (text: string) => drawn(Markdown({ text }));
const textOf = (nodes: (Element | string)[]): string =>
  nodes.map((node) => (typeof node === "string" ? node : textOf(node.children))).join("");
const all = (nodes: (Element | string)[]): Element[] =>
  nodes.flatMap((node) => (typeof node === "string" ? [] : [node, ...all(node.children)]));
const tags = (text: string) => all(markdown(text)).map(({ tag }) => tag);

describe("markdown", () => {
  it.each([
    ["a **b** *c* ~~d~~ `e`", ["p", "strong", "em", "del", "code"], "a b c d e"],
    ["# a\n\n## b\n\n##### c", ["h3", "h4", "h5"], "abc"],
    ["- a\n- b\n  - c", ["ul", "li", "li", "ul", "li"], "abc"],
    ["3. a\n4. b", ["ol", "li", "li"], "ab"],
    ["- [x] a", ["ul", "li"], "☑ a"],
    ["> a\n\n---", ["blockquote", "p", "hr"], "a"],
    ["```ts\nconst a = 1 < 2;\n```", ["figure", "figcaption", "span", "pre", "code"], "tsconst a = 1 < 2;"],
    ["a  \nb", ["p", "br"], "ab"],
    ["AT&amp;T &lt;b&gt; &#8212; &unknown;", ["p"], "AT&T <b> — &unknown;"],
    ["`&amp;`", ["p", "code"], "&amp;"],
    ["1 \\* 2", ["p"], "1 * 2"],
  ])("%j", (text, expected, said) => {
    expect(tags(text)).toEqual(expected);
    expect(textOf(markdown(text)).trim()).toBe(said);
  });

  it("draws tables with their alignment, and lists from their number", () => {
    const nodes = all(markdown("| a | b |\n|---|--:|\n| 1 | **2** |"));
    expect(nodes.find(({ tag, children }) => tag === "td" && textOf(children) === "2")!.props.style).toEqual({
      textAlign: "right",
    });
    expect(all(markdown("3. a")).find(({ tag }) => tag === "ol")!.props.start).toBe(3);
  });

  it("draws an answer that is not finished", () => {
    expect(tags("```py\nprint(")).toContain("pre");
    expect(textOf(markdown("**bold"))).toBe("**bold");
    expect(tags("| a | b |\n|---|---")).toContain("table");
  });
});

describe("formulas", () => {
  const formulas = (text: string) =>
    all(markdown(text)).flatMap(({ tag, props }) =>
      tag === "formula" ? [(props.formula as { source: string }).source] : [],
    );

  it.each([
    ["$a_1 + b_2$ and \\(c\\)", ["a_1 + b_2", "c"]],
    ["$$\nx^2\n$$\n\nthen \\[\ny\n\\]", ["\nx^2\n", "\ny\n"]],
    ["| $a|b$ | c |\n|---|---|\n| **$d$** | e |", ["a|b", "d"]],
    ["It costs $5, or $6.", []],
    ["`$a$` and ``$b` $c$`` and\n```\n$d$\n```", []],
    ["\ue0000\ue001 $a$", []],
  ])("of %j", (text, expected) => {
    expect(formulas(text)).toEqual(expected);
  });

  it("in code and addresses stand as written", () => {
    expect(textOf(markdown("`a $x$ b`"))).toBe("a $x$ b");
    const link = all(markdown("[t](https://a.b/$x$)")).find(({ tag }) => tag === "a");
    expect(link?.props.href).toBe("https://a.b/$x$");
  });

  // In time that grows with the text: else these take minutes.
  it.each(["\\[", "\\(", "$a ", "$$a", "`"])("%j without end is text", (piece) => {
    expect(formulas(piece.repeat(20_000)).length).toBeLessThan(20_000);
  });
});

it("pictures are drawn only where a person has asked for them", () => {
  const text = "![a](https://example.org/a.png) ![b](javascript:x)";
  expect(all(drawn(Markdown({ text }))).map(({ tag }) => tag)).toEqual(["p", "a"]);
  const [picture] = all(drawn(Markdown({ text, hasPictures: true }))).filter(({ tag }) => tag === "img");
  expect(picture.props).toMatchObject({
    src: "https://example.org/a.png",
    alt: "a",
    referrerpolicy: "no-referrer",
  });
});

describe("hostile text", () => {
  it.each([
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "text <b onclick=alert(1)>b</b>",
    "<!-- a --><iframe src=javascript:alert(1)>",
    "<svg/onload=alert(1)>",
    "- <details open ontoggle=alert(1)>",
    "| <script>a</script> |\n|---|\n| <img src=x> |",
  ])("%j is shown as it stands", (text) => {
    expect(textOf(markdown(text))).toContain(
      text.startsWith("|") ? "<script>a</script>" : text.replace(/^- /, ""),
    );
    for (const tag of tags(text))
      expect(["p", "ul", "li", "div", "table", "thead", "tbody", "tr", "th", "td"]).toContain(tag);
  });

  it.each([
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](\u0001javascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    "[a](file:///etc/passwd)",
    "[a](//example.org)",
    "[a](relative)",
    "[a](#chat)",
    "<javascript:alert(1)>",
    "[a][b]\n\n[b]: javascript:alert(1)",
  ])("%j is no link", (text) => {
    expect(tags(text)).not.toContain("a");
  });

  it("fetches no picture; a link that may be followed opens apart from this page", () => {
    const nodes = all(markdown("![secret](https://example.org/?leak) [b](https://example.org/x)"));
    expect(nodes.map(({ tag }) => tag)).not.toContain("img");
    const links = nodes.filter(({ tag }) => tag === "a");
    expect(links).toHaveLength(2);
    for (const { props } of links)
      expect(props).toMatchObject({
        href: expect.stringMatching(/^https:\/\/example\.org\//),
        target: "_blank",
        rel: expect.stringContaining("noopener"),
      });
  });

  it.each([
    ["quotes", ">".repeat(100_000)],
    ["quotes with blanks", "> ".repeat(50_000)],
    ["lists", "- ".repeat(20_000)],
    ["brackets", "[".repeat(20_000)],
    ["stars", "*a ".repeat(5000)],
    ["nested emphasis", `${"*".repeat(3000)}a${"*".repeat(3000)}`],
  ])("%s without end do no harm", (_, text) => {
    expect(textOf(markdown(text)).length).toBeGreaterThan(0);
  });

  it.each(["**_a", "_**a", "*a_", ".*a", "~~_a", "*a **b", "*a", "a_b_", "[**_a"])(
    "%j without end is text within its paragraph, and is looked through a few times only",
    (piece) => {
      const text = piece.repeat(64_000 / piece.length);
      const looks = vi.spyOn(Tokenizer.prototype, "emStrong");
      const nodes = markdown(`a **b**\n\n${text}\n\n*c*`);
      const looked = looks.mock.calls.reduce((sum, [rest]) => sum + rest.length, 0);
      looks.mockRestore();
      // A paragraph's budget of 10^6 characters, of which each look that finds an end takes an eighth; without it 2 to 57 s.
      expect(looked).toBeLessThan(8.1e6);
      expect(textOf(nodes)).toContain(piece.repeat(1000).slice(0, 2000));
      expect(all(nodes).filter(({ tag }) => tag === "strong").length).toBeGreaterThanOrEqual(1);
      expect(all(nodes).at(-1)?.tag).toBe("em");
    },
  );

  it("of any kind gives only what the page knows", () => {
    const known =
      /^(p|h[345]|ul|ol|li|blockquote|hr|figure|figcaption|span|pre|code|div|formula|table|thead|tbody|tr|t[hd]|strong|em|del|br|a)$/;
    const piece = fc.constantFrom(
      ..."<>[]()!*_`~#|-\n \\&;:/\"'=".split(""),
      "javascript:",
      "https://a.b",
      "<script>",
      "onerror=",
      "&#x6a;",
      "```",
      "a",
      "1.",
      "| a |\n|---|\n",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        for (const { tag, props } of all(markdown(pieces.join("")))) {
          expect(tag).toMatch(known);
          expect(props).not.toHaveProperty("dangerouslySetInnerHTML");
          if (tag === "a") expect(props.href).toMatch(/^https?:\/\//);
          for (const name of Object.keys(props)) expect(name).not.toMatch(/^on(?!Click$)/i);
        }
      }),
      { numRuns: 500 },
    );
  });
});

it("character references outside of Unicode stay text", () => {
  expect(decodeEntities("&#0; &#xd800; &#x110000; &#x1F600;")).toBe("&#0; &#xd800; &#x110000; 😀");
});

it("addresses are taken as browsers read them", () => {
  expect(safeUrl("https://example.org/a b")).toBe("https://example.org/a%20b");
  expect(safeUrl(" java\nscript:alert(1)")).toBeNull();
});

/**
 * Parses a template into a tree. @huggingface/jinja reads the language; this file rewrites the text and tokens that it
 * does not read into ones that it does: {% raw %}, {%+ and +%}, Windows line ends, tests with arguments, tuples that
 * end with a comma, {% with %}, recursive loops, numbers such as 1e3 and 1_000.
 */
import { parse, tokenize } from "@huggingface/jinja";

// The library's declarations import each other without file extensions, which "nodenext" does not resolve
// (@huggingface/jinja 0.5.11). Until that is fixed, the parts of its tree that are used are declared here.
interface Block {
  readonly body: readonly Node[];
}
export interface Name {
  readonly type: "Identifier";
  readonly value: string;
}
/** A named argument of a call, or a parameter of a macro. */
interface Named {
  readonly type: "KeywordArgumentExpression";
  readonly key: Name;
  readonly value: Node;
}
export interface Call {
  readonly type: "CallExpression";
  readonly callee: Node;
  readonly args: readonly Node[];
}
export interface For extends Block {
  readonly type: "For";
  readonly loopvar: Node;
  readonly iterable: Node;
  readonly defaultBlock: readonly Node[];
}
interface Macro extends Block {
  readonly type: "Macro";
  readonly name: Name;
  readonly args: readonly Node[];
}
export interface CallBlock extends Block {
  readonly type: "CallStatement";
  readonly call: Call;
  readonly callerArgs: readonly Node[] | null;
}
export interface Binary {
  readonly type: "BinaryExpression";
  readonly operator: Token;
  readonly left: Node;
  readonly right: Node;
}
export type Node =
  | Name
  | Named
  | Call
  | For
  | Macro
  | CallBlock
  | Binary
  | ({ readonly type: "Program" } & Block)
  | ({ readonly type: "If"; readonly test: Node; readonly alternate: readonly Node[] } & Block)
  | ({ readonly type: "Set"; readonly assignee: Node; readonly value: Node | null } & Block)
  | ({ readonly type: "FilterStatement"; readonly filter: Name | Call } & Block)
  | { readonly type: "Break" | "Continue" | "Comment" }
  | { readonly type: "StringLiteral"; readonly value: string }
  | { readonly type: "IntegerLiteral" | "FloatLiteral"; readonly value: number }
  | { readonly type: "ArrayLiteral" | "TupleLiteral"; readonly value: readonly Node[] }
  | { readonly type: "ObjectLiteral"; readonly value: ReadonlyMap<Node, Node> }
  | {
      readonly type: "MemberExpression";
      readonly object: Node;
      readonly property: Node;
      readonly computed: boolean;
    }
  | { readonly type: "SliceExpression"; readonly start?: Node; readonly stop?: Node; readonly step?: Node }
  | { readonly type: "UnaryExpression"; readonly operator: Token; readonly argument: Node }
  | { readonly type: "FilterExpression"; readonly operand: Node; readonly filter: Name | Call }
  | { readonly type: "SelectExpression"; readonly lhs: Node; readonly test: Node }
  | { readonly type: "Ternary"; readonly condition: Node; readonly trueExpr: Node; readonly falseExpr: Node }
  | { readonly type: "SpreadExpression" | "KeywordSpreadExpression"; readonly argument: Node };

interface Token {
  readonly type: string;
  readonly value: string;
  /** The depth of brackets around it, which shows which comparisons form one chain, a < b < c. */
  depth?: number;
}

/** Names that no template can write, for rewritten places in the tree. */
const TUPLE_END = "(end of tuple)";
const WITH = "(with)";
const RECURSIVE = "(recursive)";
const IS = "is ";
const IS_NOT = "is not ";

/** Throws what the library throws, or SyntaxError. */
export function parseTemplate(source: string): Node {
  const tokens = tokenize(withoutRaw(source.replace(/\r\n?/g, "\n")), {
    lstrip_blocks: true,
    trim_blocks: true,
  }) as Token[];
  return parse(rewritten(tokens) as Parameters<typeof parse>[0]) as unknown as Node;
}

/** The test that a filter node stands for; null: it is a filter. */
export function testOf(filter: string): { readonly name: string; readonly negated: boolean } | null {
  if (filter.startsWith(IS_NOT)) return { name: filter.slice(IS_NOT.length), negated: true };
  return filter.startsWith(IS) ? { name: filter.slice(IS.length), negated: false } : null;
}

/** The assignments of {% with %}; null for an {% if %}. */
export function withArguments(test: Node): readonly Node[] | null {
  return test.type === "CallExpression" && isNamed(test.callee, WITH) ? test.args : null;
}

/** The iterable of a recursive loop; null: the loop is not recursive. */
export function recursiveOver(iterable: Node): Node | null {
  return iterable.type === "CallExpression" && isNamed(iterable.callee, RECURSIVE) ? iterable.args[0] : null;
}

/** The elements of a list or tuple as written. */
export function elementNodes(nodes: readonly Node[]): readonly Node[] {
  return nodes.filter((node) => !isNamed(node, TUPLE_END));
}

/** Whether `operator` continues the comparison `left`, as in a < b < c. */
export function isChained(operator: Token, left: Node): left is Binary {
  return (
    left.type === "BinaryExpression" && operator.depth !== undefined && left.operator.depth === operator.depth
  );
}

function isNamed(node: Node, name: string): boolean {
  return node.type === "Identifier" && node.value === name;
}

const RAW = /\{%([-+]?)\s*raw\s*(-?)%\}/y;
const END_RAW = /\{%([-+]?)\s*endraw\s*([-+]?)%\}/g;

/** Turns {% raw %} into a text in an expression, and {%+ and +%} into tags that keep the whitespace around them. */
function withoutRaw(source: string): string {
  let out = "";
  let from = 0;
  for (let at = source.indexOf("{"); at >= 0; at = source.indexOf("{", at)) {
    if (source.startsWith("{#", at)) {
      const end = source.indexOf("#}", at + 2);
      if (end < 0) break;
      at = end + 2;
      continue;
    }
    RAW.lastIndex = at;
    const open = RAW.exec(source);
    if (open) {
      END_RAW.lastIndex = RAW.lastIndex;
      const close = END_RAW.exec(source);
      if (close === null) throw new SyntaxError("Missing end of raw directive");
      let text = source.slice(RAW.lastIndex, close.index);
      text = open[2] === "-" ? text.trimStart() : text;
      text =
        close[1] === "-" ? text.trimEnd() : close[1] === "+" ? text : text.replace(/(?<=^|\n)[ \t]+$/, "");
      // Comments, whose whitespace the library strips as it does for blocks.
      const kept = (sign: string) => (sign === "-" ? "-" : "");
      out += source.slice(from, at) + (open[1] === "+" ? '{{""}}' : `{#${kept(open[1])} #}`);
      out += `{{ ${JSON.stringify(text).replace(/[{}]/g, (brace) => (brace === "{" ? "\\x7b" : "\\x7d"))} }}`;
      out += close[2] === "+" ? '{{""}}' : `{# ${kept(close[2])}#}`;
      at = END_RAW.lastIndex;
      from = at;
    } else if (source.startsWith("{%+", at)) {
      out += `${source.slice(from, at)}{{""}}{%`;
      at += 3;
      from = at;
    } else at++;
  }
  return (out + source.slice(from)).replaceAll("+%}", '%}{{""}}');
}

const OPEN = new Set(["OpenParen", "OpenSquareBracket", "OpenCurlyBracket"]);
const CLOSE = new Set(["CloseParen", "CloseSquareBracket", "CloseCurlyBracket"]);
const WORDS = new Set(["and", "else", "elif", "if", "in", "is", "not", "or"]);

const isWord = (token: Token | undefined, word: string) =>
  token?.type === "Identifier" && token.value === word;

/** Whether an operand ends with this token, so that a bracket after it is a call or an element. */
function endsOperand(token: Token | undefined): boolean {
  if (token?.type === "Identifier") return !WORDS.has(token.value);
  return token !== undefined && (CLOSE.has(token.type) || /Literal$/.test(token.type));
}

/** Whether this token begins the argument of a test without brackets, by Jinja2's rules. */
function beginsArgument(token: Token | undefined): boolean {
  if (token?.type === "Identifier") return !WORDS.has(token.value);
  return (
    token !== undefined && (OPEN.has(token.type) || /Literal$/.test(token.type)) && token.type !== "OpenParen"
  );
}

/** The end of the operand that begins at `from`, with its calls, attributes and elements. */
function operandEnd(tokens: readonly Token[], from: number): number {
  let depth = 0;
  for (let at = from; at < tokens.length; at++) {
    const { type } = tokens[at];
    if (OPEN.has(type)) depth++;
    else if (CLOSE.has(type)) depth--;
    if (depth > 0) continue;
    const next = tokens[at + 1]?.type;
    if (next === "Dot") at++;
    else if (next !== "OpenParen" && next !== "OpenSquareBracket") return at + 1;
  }
  return tokens.length;
}

/** The end of the statement that contains `at`. */
function statementEnd(tokens: readonly Token[], at: number): number {
  while (at < tokens.length && !/Statement$/.test(tokens[at].type)) at++;
  return at;
}

/**
 * For each `for` of a recursive loop, where its iterable begins and ends; null: the loop is not recursive. Its tokens:
 * for, names, in, iterable, if and a condition, recursive.
 */
function recursiveLoop(
  tokens: readonly Token[],
  from: number,
): { begin: number; end: number; mark: number } | null {
  const mark = statementEnd(tokens, from) - 1;
  if (!isWord(tokens[mark], "recursive")) return null;
  let depth = 0;
  let begin = -1;
  for (let at = from; at < mark; at++) {
    if (OPEN.has(tokens[at].type)) depth++;
    else if (CLOSE.has(tokens[at].type)) depth--;
    if (depth > 0) continue;
    if (begin < 0 && isWord(tokens[at], "in")) begin = at + 1;
    else if (begin >= 0 && isWord(tokens[at], "if")) return { begin, end: at, mark };
  }
  return begin < 0 ? null : { begin, end: mark, mark };
}

/** The number that the library reads from here, and its end. */
function numberAt(tokens: readonly Token[], at: number): { value: string; end: number } {
  const { value } = tokens[at];
  const after = tokens[at + 1];
  if (after?.type !== "Identifier") return { value, end: at };
  const { value: rest } = after;
  if (value === "0" && /^[xob][\da-f_]+$/i.test(rest)) {
    const digits = rest.slice(1).replaceAll("_", "");
    const whole = Number(`0${rest[0].toLowerCase()}${digits}`);
    if (!Number.isNaN(whole)) return { value: String(whole), end: at + 1 };
  }
  const written = /^(?:_\d+)*(?:e(\d*))?$/i.exec(rest);
  if (written === null) return { value, end: at };
  const digits = value + rest.replace(/e.*$/i, "").replaceAll("_", "");
  // With a decimal point: a number with an exponent is a float.
  const float = value.includes(".") ? digits : `${digits}.0`;
  if (written[1] === undefined) return { value: digits, end: at + 1 };
  if (written[1] !== "") return { value: `${float}e${written[1]}`, end: at + 1 };
  const [sign, exponent] = [tokens[at + 2], tokens[at + 3]];
  if (sign === undefined || !/^[-+]$/.test(sign.value) || !/^\d+$/.test(exponent?.value ?? ""))
    return { value, end: at };
  return { value: `${float}e${sign.value}${exponent.value}`, end: at + 3 };
}

/** Statements that need other files, and the error for them. */
const OTHER_FILES = new Set("include import from extends block".split(" "));

/** Limit for tests nested in arguments of tests: each looks for its own end. */
const DEEPEST = 64;

function rewritten(tokens: readonly Token[]): Token[] {
  const out: Token[] = [];
  const add = (type: string, value: string) => out.push({ type, value });
  /** For each open bracket: whether it belongs to a tuple or a group. */
  const open: boolean[] = [];
  /** The ends of arguments without brackets, innermost last. */
  const ends: number[] = [];
  let loop = null as ReturnType<typeof recursiveLoop>;
  for (let at = 0; at < tokens.length; at++) {
    while (ends.at(-1) === at) {
      ends.pop();
      add("CloseParen", ")");
    }
    if (at === loop?.end) add("CloseParen", ")");
    if (at === loop?.mark) continue;
    let token = tokens[at];
    const before = tokens[at - 1];
    const next = tokens[at + 1];
    if (token.type === "NumericLiteral") {
      const { value, end } = numberAt(tokens, at);
      token = { ...token, value };
      at = end;
    }
    if (before?.type === "OpenStatement" && OTHER_FILES.has(token.value))
      throw new SyntaxError(`{% ${token.value} %} needs other templates, and a chat template stands alone`);
    if (before?.type === "OpenStatement" && isWord(token, "for")) loop = recursiveLoop(tokens, at);
    if (at === loop?.begin) {
      add("Identifier", RECURSIVE);
      add("OpenParen", "(");
    }
    if (isWord(token, "is") && endsOperand(before)) {
      const negated = isWord(next, "not");
      const name = tokens[at + (negated ? 2 : 1)];
      if (name?.type === "Identifier") {
        at += negated ? 2 : 1;
        add("Pipe", "|");
        add("Identifier", (negated ? IS_NOT : IS) + name.value);
        if (beginsArgument(tokens[at + 1])) {
          add("OpenParen", "(");
          ends.push(operandEnd(tokens, at + 1));
          if (ends.length > DEEPEST) throw new SyntaxError(`more than ${DEEPEST} tests in one another`);
        }
        continue;
      }
    }
    if (before?.type === "OpenStatement" && isWord(token, "with")) {
      add("Identifier", "if");
      add("Identifier", WITH);
      add("OpenParen", "(");
      ends.push(statementEnd(tokens, at));
      continue;
    }
    if (before?.type === "OpenStatement" && isWord(token, "endwith")) {
      add("Identifier", "endif");
      continue;
    }
    if (OPEN.has(token.type)) open.push(token.type === "OpenParen" && !endsOperand(before));
    const isGroup = open.at(-1) === true;
    const isComparison = token.type === "ComparisonBinaryOperator" || isWord(token, "in");
    out.push(isComparison ? { ...token, depth: open.length } : token);
    if (isGroup && token.type === "OpenParen" && next?.type === "CloseParen") {
      for (const _ of "()") {
        add("Identifier", TUPLE_END);
        add("Comma", ",");
      }
      out.pop();
    } else if (isGroup && token.type === "Comma" && next?.type === "CloseParen") add("Identifier", TUPLE_END);
    if (CLOSE.has(token.type)) open.pop();
  }
  return out;
}

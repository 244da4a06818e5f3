/**
 * Evaluates a template's tree: statements, scopes and expressions as in Jinja2. Operators, filters, tests and methods
 * are in the other files of this folder. Statements run in a generator that pauses between iterations of loops, so that
 * a long conversation can be rendered in slices; the meter counts every step.
 */
import { attribute, element, slice } from "./access.ts";
import { bind } from "./arguments.ts";
import { Namespace } from "./globals.ts";
import { filter, isFilter } from "./list-filters.ts";
import type { Meter } from "./meter.ts";
import { negated, operate } from "./operators.ts";
import { Scope } from "./scope.ts";
import {
  type Call,
  type CallBlock,
  elementNodes,
  type For,
  isChained,
  type Name,
  type Node,
  recursiveOver,
  testOf,
  withArguments,
} from "./syntax.ts";
import { isTest, test } from "./tests.ts";
import {
  type Arguments,
  Callable,
  Dict,
  Float,
  isEqual,
  isTrue,
  iterate,
  orUndefined,
  TemplateError,
  Thing,
  Tuple,
  toText,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** How a block ended: at its end, or by `break` or `continue`. */
type Ending = "end" | "break" | "continue";
type Steps<Result> = Generator<void, Result, void>;

/** The `loop` variable of a for: one object for all iterations. depth: of loops called by `loop(...)`. */
class Loop extends Thing {
  readonly type = "LoopContext";
  at = 0;
  #last: Value | null = null;

  constructor(
    readonly items: readonly Value[],
    readonly meter: Meter,
    readonly depth: number,
    /** Runs the same loop over other items and returns the text; null: the loop is not recursive. */
    readonly again: ((items: Value) => string) | null,
  ) {
    super();
  }

  attribute(name: string): Value | undefined {
    const { at, items } = this;
    switch (name) {
      case "index":
        return at + 1;
      case "index0":
        return at;
      case "revindex":
        return items.length - at;
      case "revindex0":
        return items.length - at - 1;
      case "first":
        return at === 0;
      case "last":
        return at === items.length - 1;
      case "length":
        return items.length;
      case "depth":
        return this.depth;
      case "depth0":
        return this.depth - 1;
      case "previtem":
        return orUndefined(items[at - 1], "there is no previous item");
      case "nextitem":
        return orUndefined(items[at + 1], "there is no next item");
      case "cycle":
        return new Callable(({ positional }) =>
          orUndefined(positional[at % positional.length], "no items for cycling given"),
        );
      case "changed":
        return new Callable(({ positional }) => {
          const now = new Tuple(positional);
          const isSame = this.#last !== null && isEqual(now, this.#last, this.meter);
          this.#last = now;
          return !isSame;
        });
    }
    return undefined;
  }
}

export class Evaluation {
  readonly #meter: Meter;
  #out = "";

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  *run(program: Node, globals: Scope): Steps<string> {
    if (program.type !== "Program") throw new TemplateError(`a tree that begins with ${program.type}`);
    yield* this.#block(program.body, globals);
    return this.#out;
  }

  #write(value: Value): void {
    const text = toText(value, this.#meter);
    this.#meter.text(this.#out.length + text.length);
    this.#out += text;
  }

  /** The text that a block writes. */
  #captured(nodes: readonly Node[], scope: Scope): string {
    return this.#written(this.#block(nodes, scope));
  }

  #written(steps: Steps<unknown>): string {
    const before = this.#out;
    this.#out = "";
    while (!steps.next().done);
    const found = this.#out;
    this.#out = before;
    return found;
  }

  *#block(nodes: readonly Node[], scope: Scope): Steps<Ending> {
    for (const node of nodes) {
      this.#meter.spend(1);
      switch (node.type) {
        case "Comment":
          break;
        case "Break":
          return "break";
        case "Continue":
          return "continue";
        case "If": {
          const assigned = withArguments(node.test);
          let inner = scope;
          if (assigned) {
            inner = new Scope(scope);
            for (const [name, value] of this.#arguments(assigned, scope).named) inner.set(name, value);
          }
          const holds = assigned !== null || isTrue(this.#evaluate(node.test, scope));
          const ending = yield* this.#block(holds ? node.body : node.alternate, inner);
          if (ending !== "end") return ending;
          break;
        }
        case "For":
          yield* this.#loop(node, scope);
          break;
        case "Set":
          this.#set(node.assignee, node.value, node.body, scope);
          break;
        case "Macro":
          scope.set(node.name.value, this.#macro(node.args, node.body, scope));
          break;
        case "CallStatement":
          this.#write(this.#callBlock(node, scope));
          break;
        case "FilterStatement": {
          const text = this.#captured(node.body, new Scope(scope));
          this.#write(this.#filtered(text, node.filter, scope));
          break;
        }
        default:
          this.#write(this.#evaluate(node, scope));
      }
    }
    return "end";
  }

  *#loop(node: For, scope: Scope): Steps<void> {
    const { iterable } = node;
    const filtered = iterable.type === "SelectExpression";
    const over = filtered ? iterable.lhs : iterable;
    const recursive = recursiveOver(over);
    yield* this.#rounds(node, scope, this.#evaluate(recursive ?? over, scope), recursive === null ? null : 1);
  }

  /** depth: null unless the loop is recursive. */
  *#rounds(node: For, scope: Scope, over: Value, depth: number | null): Steps<void> {
    const { loopvar, iterable, body, defaultBlock } = node;
    let items = iterate(over, this.#meter);
    if (iterable.type === "SelectExpression") {
      this.#meter.list(items.length);
      items = items.filter((item) => {
        const inner = new Scope(scope);
        this.#assign(loopvar, item, inner);
        return isTrue(this.#evaluate(iterable.test, inner));
      });
    }
    const again = (items: Value) => this.#written(this.#rounds(node, scope, items, (depth ?? 0) + 1));
    const loop = new Loop(items, this.#meter, depth ?? 1, depth === null ? null : again);
    for (; loop.at < items.length; loop.at++) {
      this.#meter.spend(1);
      if (this.#meter.wantsPause()) yield;
      const inner = new Scope(scope);
      inner.set("loop", loop);
      this.#assign(loopvar, items[loop.at], inner);
      if ((yield* this.#block(body, inner)) === "break") break;
    }
    if (items.length === 0) yield* this.#block(defaultBlock, new Scope(scope));
  }

  /** Assigns a value, or its parts, to names. */
  #assign(target: Node, value: Value, scope: Scope): void {
    if (target.type === "Identifier") return scope.set(target.value, value);
    if (target.type === "MemberExpression" && !target.computed && target.property.type === "Identifier") {
      const object = this.#evaluate(target.object, scope);
      if (!(object instanceof Namespace))
        throw new TemplateError("cannot assign attribute on non-namespace object");
      return object.set(target.property.value, value);
    }
    if (target.type !== "TupleLiteral") throw new TemplateError(`can't assign to ${target.type}`);
    const names = elementNodes(target.value);
    const items = iterate(value, this.#meter);
    if (items.length !== names.length)
      throw new TemplateError(
        `too ${items.length > names.length ? "many" : "few"} values to unpack (expected ${names.length})`,
      );
    for (const [at, name] of names.entries()) this.#assign(name, items[at], scope);
  }

  #set(target: Node, value: Node | null, body: readonly Node[], scope: Scope): void {
    if (value !== null) return this.#assign(target, this.#evaluate(value, scope), scope);
    // {% set name | filter %}...{% endset %}: the name is innermost.
    const filters: (Name | Call)[] = [];
    let name = target;
    for (; name.type === "FilterExpression"; name = name.operand) filters.unshift(name.filter);
    let text: Value = this.#captured(body, new Scope(scope));
    for (const one of filters) text = this.#filtered(text, one, scope);
    this.#assign(name, text, scope);
  }

  /** A macro, or the `caller` of a call block. */
  #macro(parameters: readonly Node[], body: readonly Node[], outer: Scope): Callable {
    return new Callable(({ positional, named }) => {
      const scope = new Scope(outer);
      const rest = new Map(named);
      scope.set("caller", orUndefined(rest.get("caller"), "No caller defined"));
      rest.delete("caller");
      for (const [at, parameter] of parameters.entries()) {
        const name = nameOf(parameter);
        let value = at < positional.length ? positional[at] : rest.get(name);
        if (value === undefined && parameter.type === "KeywordArgumentExpression")
          value = this.#evaluate(parameter.value, scope);
        scope.set(name, orUndefined(value, `parameter '${name}' was not provided`));
        rest.delete(name);
      }
      const others = new Dict();
      for (const [name, value] of rest) others.set(name, value);
      scope.set("kwargs", others);
      scope.set("varargs", new Tuple(positional.slice(parameters.length)));
      return this.#captured(body, scope);
    });
  }

  #callBlock({ call, callerArgs, body }: CallBlock, scope: Scope): Value {
    const { positional, named } = this.#arguments(call.args, scope);
    const caller = this.#macro(callerArgs ?? [], body, scope);
    return this.#call(this.#evaluate(call.callee, scope), {
      positional,
      named: new Map([...named, ["caller", caller]]),
    });
  }

  #call(callee: Value, given: Arguments): Value {
    if (callee instanceof Undefined) callee.fail();
    if (callee instanceof Loop && callee.again) {
      this.#meter.spend(1);
      return callee.again(bind("loop", given, ["iterable"])[0] ?? null);
    }
    if (callee instanceof Loop)
      throw new TemplateError("The loop must have the 'recursive' marker to be called recursively.");
    if (!(callee instanceof Callable))
      throw new TemplateError(`'${typeName(callee)}' object is not callable`);
    return callee.call(given);
  }

  #arguments(nodes: readonly Node[], scope: Scope): Arguments {
    const positional: Value[] = [];
    const named = new Map<string, Value>();
    for (const node of nodes) {
      if (node.type === "KeywordArgumentExpression")
        named.set(node.key.value, this.#evaluate(node.value, scope));
      else if (node.type === "SpreadExpression") {
        const items = iterate(this.#evaluate(node.argument, scope), this.#meter);
        this.#meter.list(positional.length + items.length);
        for (const item of items) positional.push(item);
      } else if (node.type === "KeywordSpreadExpression") {
        const dict = this.#evaluate(node.argument, scope);
        if (!(dict instanceof Dict)) throw new TemplateError("argument after ** must be a mapping");
        this.#meter.list(dict.size);
        for (const [name, value] of dict.entries()) named.set(toText(name, this.#meter), value);
      } else positional.push(this.#evaluate(node, scope));
    }
    return { positional, named };
  }

  #filtered(value: Value, node: Name | Call, scope: Scope): Value {
    const name = filterName(node);
    const given = this.#arguments(node.type === "CallExpression" ? node.args : [], scope);
    const asked = testOf(name);
    if (asked === null) return filter(name, value, given, this.#meter);
    return test(asked.name, value, given.positional, this.#meter) !== asked.negated;
  }

  #evaluate(node: Node, scope: Scope): Value {
    this.#meter.spend(1);
    switch (node.type) {
      case "StringLiteral":
      case "IntegerLiteral":
        return node.value;
      case "FloatLiteral":
        return new Float(node.value);
      case "Identifier":
        return scope.get(node.value);
      case "ArrayLiteral":
        return node.value.map((item) => this.#evaluate(item, scope));
      case "TupleLiteral":
        return new Tuple(elementNodes(node.value).map((item) => this.#evaluate(item, scope)));
      case "ObjectLiteral": {
        const dict = new Dict();
        for (const [key, value] of node.value)
          dict.set(this.#evaluate(key, scope), this.#evaluate(value, scope));
        return dict;
      }
      case "MemberExpression": {
        const object = this.#evaluate(node.object, scope);
        const { property } = node;
        if (!node.computed && property.type === "Identifier")
          return attribute(object, property.value, this.#meter);
        if (property.type !== "SliceExpression")
          return element(object, this.#evaluate(property, scope), this.#meter);
        const part = (bound: Node | undefined) => bound && this.#evaluate(bound, scope);
        return slice(object, [part(property.start), part(property.stop), part(property.step)], this.#meter);
      }
      case "CallExpression":
        return this.#call(this.#evaluate(node.callee, scope), this.#arguments(node.args, scope));
      case "FilterExpression":
        return this.#filtered(this.#evaluate(node.operand, scope), node.filter, scope);
      case "UnaryExpression": {
        const value = this.#evaluate(node.argument, scope);
        if (node.operator.value === "not") return !isTrue(value);
        return node.operator.value === "-" ? negated(value) : operate("+", 0, value, this.#meter);
      }
      case "BinaryExpression": {
        const { operator, left, right } = node;
        const first = this.#evaluate(left, scope);
        if (operator.value === "and") return isTrue(first) ? this.#evaluate(right, scope) : first;
        if (operator.value === "or") return isTrue(first) ? first : this.#evaluate(right, scope);
        if (!isChained(operator, left))
          return operate(operator.value, first, this.#evaluate(right, scope), this.#meter);
        // a < b < c: the last operand of the left comparison is compared again.
        if (!isTrue(first)) return first;
        return operate(
          operator.value,
          this.#evaluate(left.right, scope),
          this.#evaluate(right, scope),
          this.#meter,
        );
      }
      case "Ternary":
        return this.#evaluate(
          isTrue(this.#evaluate(node.condition, scope)) ? node.trueExpr : node.falseExpr,
          scope,
        );
      case "SelectExpression":
        return isTrue(this.#evaluate(node.test, scope))
          ? this.#evaluate(node.lhs, scope)
          : new Undefined("the inline if-expression evaluated to false and no else section was defined.");
      default:
        throw new TemplateError(`${node.type} in an expression`);
    }
  }
}

function nameOf(parameter: Node): string {
  if (parameter.type === "Identifier") return parameter.value;
  if (parameter.type === "KeywordArgumentExpression") return parameter.key.value;
  throw new TemplateError(`the parameter ${parameter.type}`);
}

function filterName(node: Name | Call): string {
  const name = node.type === "CallExpression" ? node.callee : node;
  if (name.type === "Identifier") return name.value;
  throw new TemplateError(`the filter ${name.type}`);
}

/** The unknown filters and tests in a tree, to report them before the template is needed. */
export function unknownNames(tree: Node): string[] {
  const found = new Set<string>();
  const visit = (part: unknown): void => {
    if (Array.isArray(part)) for (const one of part) visit(one);
    else if (part instanceof Map) for (const pair of part) visit(pair);
    else if (typeof part === "object" && part !== null) {
      const { filter: used } = part as { filter?: Name | Call };
      if (used) {
        const name = filterName(used);
        const asked = testOf(name);
        if (asked && !isTest(asked.name)) found.add(`test '${asked.name}'`);
        else if (!asked && !isFilter(name)) found.add(`filter '${name}'`);
      }
      for (const inner of Object.values(part)) visit(inner);
    }
  };
  visit(tree);
  return [...found];
}

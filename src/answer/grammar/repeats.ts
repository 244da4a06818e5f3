/**
 * Repetitions as rules that XGrammar follows quickly. By itself it follows a repetition of more than 128 times in
 * all the ways in which a text may be divided, which costs 30 to 60 times as much for each token (0.1.27). Here every text
 * is divided in one way: into hundreds, hundreds of hundreds, and the rest.
 */

/** Adds a rule and gives its name. */
export type AddRule = (body: string) => string;

const HUNDRED = 100;
export const MOST_TIMES = HUNDRED ** 3;

/** What follows a repetition: a full one, or one of fewer times. */
interface Ends {
  readonly full: string;
  readonly less: string;
}

/** `item`, a name or a group, low to high times, high null without end. At most MOST_TIMES. */
export function repeated(item: string, low: number, high: number | null, rule: AddRule): string {
  const rest = high === null ? `${item}*` : upTo(item, high - low, rule);
  return low === 0 ? rest : `${times(item, low, rule)} ${rest}`;
}

/** `item` a number of times. */
export function times(item: string, count: number, rule: AddRule): string {
  return new Repetition(item, rule).times(count);
}

/** `item` up to N times. */
export function upTo(item: string, count: number, rule: AddRule, ends?: Ends): string {
  return new Repetition(item, rule).upTo(count, ends);
}

class Repetition {
  readonly #item: string;
  readonly #rule: AddRule;
  /** Rules by the count that they stand for. */
  readonly #exactly = new Map<number, string>();

  constructor(item: string, rule: AddRule) {
    this.#item = item;
    this.#rule = rule;
  }

  times(count: number): string {
    if (count === 0) return '""';
    if (count === 1) return this.#item;
    const unit = unitOf(count);
    if (unit === 1) return `${this.#item}{${count}}`;
    const rest = count % unit;
    return `${this.#unit(unit)}{${Math.floor(count / unit)}}${rest > 0 ? ` ${this.times(rest)}` : ""}`;
  }

  /** Whether a unit is full is known from what follows, so only two ways are followed at a time. */
  upTo(count: number, ends?: Ends): string {
    if (count === 0) return ends?.full ?? '""';
    const unit = unitOf(count);
    if (unit === 1) {
      if (ends) return `(${this.times(count)} ${ends.full} | ${this.upTo(count - 1)} ${ends.less})`;
      return count === 1 ? `${this.#item}?` : `${this.#item}{0,${count}}`;
    }
    const full = this.#unit(unit);
    const less = this.#rule(`${this.upTo(unit - 1)} ${ends?.less ?? ""}`);
    let rest = this.#rule(this.upTo(count % unit, ends));
    for (let units = Math.floor(count / unit); units > 0; units--)
      rest = this.#rule(`${full} ${rest} | ${less}`);
    return rest;
  }

  #unit(count: number): string {
    const name = this.#exactly.get(count) ?? this.#rule(this.times(count));
    this.#exactly.set(count, name);
    return name;
  }
}

/** The largest unit of which `count` has at most a hundred. */
function unitOf(count: number): number {
  let unit = 1;
  while (count > unit * HUNDRED) unit *= HUNDRED;
  return unit;
}

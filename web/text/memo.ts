/** A component that is drawn again only when `same` says that its properties differ: what preact/compat has, alone. */
import { Component, type FunctionComponent, h } from "preact";

/** Each property is the very same. */
function isSame<Properties extends object>(before: Properties, after: Properties): boolean {
  return (Object.keys(after) as (keyof Properties)[]).every((name) => Object.is(before[name], after[name]));
}

export function memo<Properties extends object>(
  draw: FunctionComponent<Properties>,
  same: (before: Properties, after: Properties) => boolean = isSame,
) {
  return class Memo extends Component<Properties> {
    override shouldComponentUpdate(after: Properties): boolean {
      return !same(this.props as Properties, after);
    }

    override render() {
      return h(draw, this.props as Properties);
    }
  };
}

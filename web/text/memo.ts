/** A component that is drawn again only when `same` says that its properties differ: what preact/compat has, alone. */
import { Component, type FunctionComponent, h } from "preact";

export function memo<Properties extends object>(
  draw: FunctionComponent<Properties>,
  same: (before: Properties, after: Properties) => boolean,
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

/** A component whose script is loaded when it is first drawn, and what stands there until then. */
import type { FunctionComponent, VNode } from "preact";
import { useEffect, useState } from "preact/hooks";

export function lazily<Properties extends object = object>(
  load: () => Promise<FunctionComponent<Properties>>,
  waiting: VNode | null = <p class="waiting">Loading…</p>,
): FunctionComponent<Properties> {
  return function Lazy(properties: Properties) {
    const [found, setFound] = useState<{ View: FunctionComponent<Properties> } | { problem: string } | null>(
      null,
    );
    useEffect(() => {
      load().then(
        (View) => setFound({ View }),
        () => setFound({ problem: "This part of the page could not be loaded. Reload the page." }),
      );
    }, []);
    if (found === null) return waiting;
    return "View" in found ? <found.View {...properties} /> : <p class="problem">{found.problem}</p>;
  };
}

/** One formula as MathML, which browsers draw themselves. Temml comes with the first; what it cannot read stands as written. */
import { useEffect, useRef } from "preact/hooks";
import type { Formula } from "./formulas.ts";

export function FormulaView({ formula: { source, isDisplayed, raw } }: { formula: Formula }) {
  const place = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let isCurrent = true;
    import("temml").then(
      ({ default: temml }) => {
        const span = place.current;
        if (!isCurrent || !span) return;
        try {
          // \href, \includegraphics and the like are refused without trust.
          temml.render(source, span, {
            displayMode: isDisplayed,
            throwOnError: true,
            trust: false,
            annotate: true,
          });
        } catch {
          span.textContent = raw;
        }
      },
      () => {},
    );
    return () => {
      isCurrent = false;
    };
  }, [source, isDisplayed]);
  // Its own key: what temml puts into it is none of Preact's.
  return (
    <span key={raw} ref={place} class={isDisplayed ? "formula displayed" : "formula"}>
      {raw}
    </span>
  );
}

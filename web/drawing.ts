/**
 * When the page is drawn: once a frame, however much of an answer came meanwhile, but at once after a user's event,
 * since the next click or key must find what this one changed.
 */
import { options } from "preact";

/** User events whose handlers change what is drawn. */
const ACTIONS = ["click", "input", "change", "keydown", "submit"] as const;
/** A hidden page has no frames. */
const HIDDEN_MS = 200;

export function drawOncePerFrame(): void {
  let waiting: (() => void) | null = null;
  const drawNow = () => {
    const draw = waiting;
    waiting = null;
    draw?.();
  };
  options.debounceRendering = (draw) => {
    waiting = draw;
    if (document.hidden) setTimeout(drawNow, HIDDEN_MS);
    else requestAnimationFrame(drawNow);
  };
  // On the window, so that the page's own handlers have run before.
  for (const action of ACTIONS) addEventListener(action, drawNow);
}

/** Starts the page: looks for a server where it comes from, and draws. */
import { render } from "preact";
import { App } from "./app.tsx";
import { Conversations } from "./chat/conversations.ts";
import { Talk } from "./chat/talk.ts";
import { drawOncePerFrame } from "./drawing.ts";
import { ModelChoice } from "./models/choice.ts";
import { serverUrl } from "./models/server.ts";
import { settings } from "./settings.ts";

drawOncePerFrame();

const choice = new ModelChoice();
const talk = new Talk(choice, new Conversations());
render(<App {...{ talk, choice }} />, document.body);

const { server, key, serverModel } = settings.state;
const url = serverUrl(server, document.baseURI);
// A static site has none, which is no failure; a server that was written down should be there.
if (url !== null) choice.connect({ url, key }, serverModel, server === "");

// Registers the service worker if the browser supports it, and not before the page has loaded.
if (location.protocol.startsWith("http"))
  addEventListener("load", () => navigator.serviceWorker?.register("./sw.js").catch(() => {}));

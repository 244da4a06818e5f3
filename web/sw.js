/**
 * The service worker: the page opens without a network, and what runs in it keeps running. Files with a hash in their name
 * never change and come from the cache; the page itself comes from the network while there is one. An API's requests are
 * not touched. scripts/page.js writes what is kept from the start, and a name that changes with it.
 */
const FILES = ["./"];
const NAME = "nibble-0";

const scope = new URL("./", location.href);

addEventListener("install", (event) => {
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(FILES)));
});

addEventListener("activate", (event) => {
  event.waitUntil(
    caches.keys().then((names) => {
      const old = names.filter((name) => name.startsWith("nibble-") && name !== NAME);
      return Promise.all(old.map((name) => caches.delete(name)));
    }),
  );
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== scope.origin || !pathname.startsWith(scope.pathname)) return;
  const path = pathname.slice(scope.pathname.length);
  if (path === "" || path === "index.html") event.respondWith(fresh(request));
  else if (path.startsWith("assets/")) event.respondWith(kept(request));
  else if (path.startsWith("models/")) event.respondWith(ranged(request));
});

/** Fetches from the network; from the cache if there is no network. */
async function fresh(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const found = await (await caches.open(NAME)).match("./");
    if (found) return found;
    throw error;
  }
}

async function kept(request) {
  const cache = await caches.open(NAME);
  const found = await cache.match(request.url);
  if (found) return found;
  const response = await fetch(request);
  if (response.status === 200) await cache.put(request.url, response.clone());
  return response;
}

/** A model is read in ranges, which a cache cannot hold: it is fetched whole, once, and cut here. */
async function ranged(request) {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  if (!range) return fetch(request);
  const whole = await kept(new Request(request.url));
  if (whole.status !== 200) return whole;
  const bytes = await whole.blob();
  const first = Number(range[1]);
  const end = range[2] === "" ? bytes.size : Math.min(bytes.size, Number(range[2]) + 1);
  if (first >= end)
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${bytes.size}` } });
  return new Response(bytes.slice(first, end), {
    status: 206,
    headers: {
      "content-range": `bytes ${first}-${end - 1}/${bytes.size}`,
      "content-length": String(end - first),
      "accept-ranges": "bytes",
      ...(whole.headers.has("etag") ? { etag: whole.headers.get("etag") } : {}),
    },
  });
}

/**
 * The Host of a request as the listener can read it. Handles what the listener would refuse although HTTP allows it: a
 * request of HTTP/1.0 names no host and means the address that it came to, and an IPv6 address has several forms.
 */
import type { IncomingMessage } from "node:http";

/** Changes the header in place. */
export function readHost({ headers, httpVersion, socket }: IncomingMessage): void {
  if (headers.host === undefined && httpVersion === "1.0") {
    const { localAddress = "127.0.0.1", localPort = 80 } = socket;
    headers.host = `${localAddress.includes(":") ? `[${localAddress}]` : localAddress}:${localPort}`;
  }
  // "[::ffff:127.0.0.1]" is [::ffff:7f00:1].
  const isAddress = headers.host?.startsWith("[") && URL.canParse(`http://${headers.host}`);
  if (isAddress) headers.host = new URL(`http://${headers.host}`).host;
}

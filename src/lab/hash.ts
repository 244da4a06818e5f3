/** SHA-256, at once (Node only): identities are made by the thousand. */
import { createHash } from "node:crypto";

/** Hexadecimal digits. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

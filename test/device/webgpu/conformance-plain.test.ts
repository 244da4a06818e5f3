/** The conformance suite as on a device without subgroups. A file of its own, so that two workers share the cases. */
import { conform } from "./conformance.ts";

conform("no subgroups", { subgroups: false });

/**
 * The conformance suite as on a device without subgroups, whose reductions alone differ. A file of its own, so that two
 * workers share the cases.
 */
import { ordinaryCases } from "../device-cases.ts";
import { conform } from "./conformance.ts";

conform("no subgroups", { subgroups: false }, ordinaryCases);

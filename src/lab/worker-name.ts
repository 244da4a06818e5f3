/** How a process signs what it computed (Node only). */
import { hostname } from "node:os";

export const workerName = () => `${hostname()}:${process.pid}`;

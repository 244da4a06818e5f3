/**
 * In the worker: `planTable` for models that are not here, on a typical GPU. Models and device are
 * kept, since the tables remember their plans by them.
 */
import { type Model, plannedGpu, plannedModel, planTable, SHAPES } from "../../src/browser.ts";
import type { Doing } from "./protocol.ts";

const device = plannedGpu();
const shapes = Object.fromEntries(Object.entries(SHAPES).map(([name, of]) => [name, of.trainedContext]));
const models = new Map<string, Promise<Model>>();

export const plan: Doing<"plan"> = async ({ shape, type, ...options }) => {
  const key = `${shape} ${type}`;
  const model = models.get(key) ?? plannedModel(shape, type);
  models.set(key, model);
  const table = planTable(await model, device, options);
  return { ...table, shortfall: table.shortfall?.message ?? null, shapes };
};

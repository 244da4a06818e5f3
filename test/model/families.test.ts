/** A family is one file: nothing else in model/ knows its name, and no two claim the same one. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FAMILIES } from "../../src/model/families/registry.ts";

const root = new URL("../../src/model/", import.meta.url);
/** Shapes are data with the names of their files' architectures. */
const DATA = ["shapes.ts"];
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !DATA.includes(file))
  .map((file) => [file, readFileSync(new URL(file, root), "utf8")] as const);

const names = FAMILIES.flatMap(({ gguf, folders }) => [...Object.keys(gguf), ...Object.keys(folders)]);

describe("families", () => {
  it.each([...new Set(names)])("%s is named in one file", (name) => {
    const named = new RegExp(`["'\`]${name}["'\`]|^ +${name}: `, "m");
    const found = files.filter(([, text]) => named.test(text)).map(([file]) => file);
    expect(found.length, found.join(", ")).toBe(1);
    expect(found[0]).toMatch(/^families\//);
  });

  it("are told apart by architecture and by model_type", () => {
    for (const kind of ["gguf", "folders"] as const) {
      const all = FAMILIES.flatMap((family) => Object.keys(family[kind]));
      expect(new Set(all).size).toBe(all.length);
    }
  });

  it("stand in the registry, each with a file of its own", () => {
    const own = files.map(([file]) => file).filter((file) => /^families\/(?!family|registry)/.test(file));
    expect(own.length).toBe(FAMILIES.length);
  });
});

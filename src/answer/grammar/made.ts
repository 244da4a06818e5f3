/** A schema as a grammar that is made when it is needed. */
import type { GrammarToMake } from "./grammar.ts";
import { schemaSlices } from "./schema-grammar.ts";
import { Size } from "./size.ts";

/** Texts are JSON that the schema allows. Making it throws PlaceError for what cannot be enforced. */
export function schemaToMake(schema: unknown, place: string, isStrict: boolean): GrammarToMake {
  return {
    *make() {
      const size = new Size();
      const text = yield* schemaSlices(schema, place, isStrict, size);
      return { text, weight: size.weight };
    },
  };
}

/** Code in colours, by lowlight: a tree of spans, never HTML. Loaded with the first block of code in a language it knows. */

import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import kotlin from "highlight.js/lib/languages/kotlin";
import php from "highlight.js/lib/languages/php";
import python from "highlight.js/lib/languages/python";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import swift from "highlight.js/lib/languages/swift";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import { type ComponentChild, h } from "preact";

const lowlight = createLowlight({
  ...{
    bash,
    c,
    cpp,
    csharp,
    css,
    diff,
    go,
    java,
    javascript,
    json,
    kotlin,
    php,
    python,
    ruby,
    rust,
    sql,
    swift,
  },
  ...{ typescript, xml, yaml },
});

type Node = ReturnType<typeof lowlight.highlight>["children"][number];

/** null: a language that is not known. */
export function highlighted(text: string, language: string): ComponentChild[] | null {
  if (!lowlight.registered(language)) return null;
  return lowlight.highlight(language, text).children.map(drawn);
}

function drawn(node: Node): ComponentChild {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  return h("span", { class: (node.properties.className as string[]).join(" ") }, node.children.map(drawn));
}

/**
 * The documents of the repository and their links: lists the files, the anchors of their headings, and links that lead
 * nowhere. docs.js builds the site; test/docs.test.ts checks the links in every test run.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/** Paths, from the root, of the documents that people read. */
export function documents(root) {
  const top = readdirSync(root).filter((name) => name.endsWith(".md"));
  const docs = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
  return [...top, ...docs.map((name) => `docs/${name}`), "lab/README.md", "lab/LOG.md"];
}

/** GitHub's anchors of headings. */
export function anchorOf(heading) {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");
}

const withoutCode = (text) => text.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");

/** Each "file: link" that leads to no file or heading. Pages under docs/api/ are made by docs.js. */
export function brokenLinks(root) {
  const broken = [];
  const headings = new Map();
  const anchors = (path) => {
    if (!headings.has(path)) {
      const text = readFileSync(join(root, path), "utf8").replace(/^```[\s\S]*?^```/gm, "");
      headings.set(path, new Set([...text.matchAll(/^#+ (.+)$/gm)].map((found) => anchorOf(found[1]))));
    }
    return headings.get(path);
  };
  for (const path of documents(root)) {
    const text = withoutCode(readFileSync(join(root, path), "utf8"));
    for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [file, anchor] = link.split("#");
      const target = file === "" ? path : normalize(join(dirname(path), file)).replaceAll("\\", "/");
      if (target.startsWith("docs/api/")) continue;
      const isThere = existsSync(join(root, target));
      const isFound =
        isThere &&
        (anchor === undefined || (statSync(join(root, target)).isFile() && anchors(target).has(anchor)));
      if (!isFound) broken.push(`${path}: ${link}`);
    }
  }
  return broken;
}

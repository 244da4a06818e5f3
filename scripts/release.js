/**
 * `node scripts/release.js [NODE ...] [--quick] [--repository URL] [--publish]`: packs what would be published,
 * installs it in an empty folder, and runs it there as a user would, on this Node or on the given versions (20 22 24:
 * npm's packages of Node). Run `npm run build` first. `--quick` skips the demo, which reads 8,700 tokens twice.
 * Publishes only with `--publish`, and only with the addresses that npm's page and provenance name: package.json's
 * `repository` and `bugs`, or those that `--repository` puts into the package. `--may-publish` only checks for these
 * addresses, as plain `npm publish` does first.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values: asked, positionals: versions } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean" },
    publish: { type: "boolean" },
    "may-publish": { type: "boolean" },
    repository: { type: "string" },
  },
});
const json = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const { name } = json;
/** Limit for the tarball, including the model. */
const MOST_BYTES = 30e6;
const FACT = "The access code of Clara Whitfield is 48213.";

try {
  if (asked["may-publish"]) addressed();
  else release();
} catch (error) {
  console.error(`release: ${error.message}`);
  process.exitCode = 1;
}

function release() {
  // Wrong addresses are reported before anything takes time.
  const addresses = asked.publish || asked.repository !== undefined ? addressed() : {};
  const folder = mkdtempSync(join(tmpdir(), "nibble-release-"));
  try {
    const tarball = packed(folder, addresses);
    const at = join(folder, "installed");
    mkdirSync(at);
    writeFileSync(join(at, "package.json"), JSON.stringify({ private: true, type: "module" }));
    npm(at, "install", "--no-audit", "--no-fund", tarball);
    for (const example of ["demo.js", "texts"])
      cpSync(join(root, "examples", example), join(at, example), { recursive: true });
    const nodes =
      versions.length > 0 ? versions.map((version) => nodeOf(folder, version)) : [process.execPath];
    for (const node of nodes) tryOn(at, node);
    if (asked.publish) console.log(npm(folder, "publish", tarball, "--ignore-scripts").trimEnd());
    else if (!json.repository && asked.repository === undefined)
      console.log(
        "not publishable yet: package.json names no repository (--repository URL; CONTRIBUTING.md)",
      );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `repository` and `bugs` of the package. Throws if they are missing or not an address that npm can show. */
function addressed() {
  const { repository = json.repository?.url ?? json.repository } = asked;
  if (!repository)
    throw new Error(
      `${name} has no public address yet, and provenance has to name one: give --repository https://HOST/OWNER/NAME, or write repository and bugs into package.json. Nothing was published.`,
    );
  const at = /^(?:git\+)?(https:\/\/[\w.-]+\/[\w.-]+\/[\w./-]+?)(?:\.git)?\/?$/.exec(repository)?.[1];
  if (at === undefined)
    throw new Error(`repository is ${JSON.stringify(repository)}; expected: https://HOST/OWNER/NAME`);
  return {
    repository: { type: "git", url: `git+${at}.git` },
    bugs: json.bugs ?? { url: `${at}/issues` },
    homepage: json.homepage ?? `${at}#readme`,
  };
}

/** The tarball; if package.json has no addresses, packed again with them. */
function packed(folder, addresses) {
  const pack = (from) =>
    JSON.parse(npm(from, "pack", "--json", "--ignore-scripts", "--pack-destination", folder))[0];
  let made = pack(root);
  const tarball = join(folder, made.filename);
  if (Object.keys(addresses).length > 0) {
    execFileSync("tar", ["-xzf", tarball, "-C", folder]);
    const copy = join(folder, "package");
    writeFileSync(join(copy, "package.json"), `${JSON.stringify({ ...json, ...addresses }, null, 2)}\n`);
    made = pack(copy);
  }
  const { size } = statSync(tarball);
  console.log(`${made.filename}: ${(size / 1e6).toFixed(1)} MB, ${made.entryCount} files`);
  if (size > MOST_BYTES) throw new Error(`the tarball has ${size} bytes; allowed: ${MOST_BYTES}`);
  return tarball;
}

/** The binary of npm's package of this version, which needs no install script. */
function nodeOf(folder, version) {
  const node = `node-${process.platform}-${process.arch}`;
  const at = join(folder, `node-${version}`);
  npm(folder, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", at, `${node}@${version}`);
  return join(at, "node_modules", node, "bin", "node");
}

function tryOn(folder, node) {
  const run = (...rest) =>
    execFileSync(node, rest, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  const version = run("--version").trim();
  // The command as npm links it, with this Node.
  const cli = join("node_modules", ".bin", "nibble");
  const question = "What is the access code of Clara Whitfield?";
  const said = run(cli, "run", "needle", question, "--system", FACT, "--context", "512");
  if (said.trim() !== FACT)
    throw new Error(`Node ${version}: nibble run said ${JSON.stringify(said)}; expected: ${FACT}`);
  const library = `import { load } from "${name}"; const m = await load("needle", { context: 256 }); console.log((await m.generate("Hugo Marsh lives in", { raw: true, maxTokens: 4 }).result()).generatedTokens); await m.close();`;
  if (run("--input-type=module", "-e", library).trim() !== "4")
    throw new Error(`Node ${version}: the library generated other tokens than expected`);
  const entries = Object.keys(json.exports).map((path) => name + path.slice(1));
  const all = entries.map((entry) => `Object.keys(await import("${entry}")).length > 0`).join(" && ");
  if (run("--input-type=module", "-e", `console.log(${all})`).trim() !== "true")
    throw new Error(`Node ${version}: an entry exports nothing (${entries.join(", ")})`);
  console.log(`Node ${version}: the command, the library and all ${entries.length} entries work`);
  if (!asked.quick) console.log(run("demo.js").trimEnd());
}

function npm(cwd, ...rest) {
  return execFileSync("npm", rest, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/**
 * `node scripts/release.js [NODE ...] [--quick]`: packs what would be published, installs it in an empty folder, and runs it
 * there as a user would, on the Node at hand or on those named (20 22 24: npm's packages of Node). Publishes nothing. The
 * build has to be there (npm run build). `--quick` leaves out the demo, which reads 8,700 tokens twice.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const args = process.argv.slice(2);
const quick = args.includes("--quick");
const versions = args.filter((arg) => arg !== "--quick");
/** Of the tarball, the packaged model included. */
const MOST_BYTES = 30e6;
const FACT = "The access code of Clara Whitfield is 48213.";

const npm = (cwd, ...rest) =>
  execFileSync("npm", rest, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
const folder = mkdtempSync(join(tmpdir(), "nibble-release-"));
try {
  const [packed] = JSON.parse(npm(root, "pack", "--json", "--ignore-scripts", "--pack-destination", folder));
  const tarball = join(folder, packed.filename);
  const { size } = statSync(tarball);
  console.log(`${packed.filename}: ${(size / 1e6).toFixed(1)} MB, ${packed.entryCount} files`);
  if (size > MOST_BYTES) throw new Error(`the tarball has ${size} bytes; allowed: ${MOST_BYTES}`);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  npm(folder, "install", "--no-audit", "--no-fund", tarball);
  for (const name of ["demo.js", "texts"])
    cpSync(join(root, "examples", name), join(folder, name), { recursive: true });
  for (const node of versions.length > 0 ? versions.map(nodeOf) : [process.execPath]) tryOn(node);
  const json = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const key of ["repository", "bugs"])
    if (!json[key])
      console.log(`package.json has no ${key} yet; npm publish --provenance needs the repository`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** The binary of npm's package of this version, which needs no install script. */
function nodeOf(version) {
  const name = `node-${process.platform}-${process.arch}`;
  const at = join(folder, `node-${version}`);
  npm(folder, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", at, `${name}@${version}`);
  return join(at, "node_modules", name, "bin", "node");
}

function tryOn(node) {
  const run = (...rest) =>
    execFileSync(node, rest, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  const cli = join("node_modules", "nibble", "dist", "app", "cli.js");
  const version = run("--version").trim();
  const said = run(
    cli,
    "run",
    "needle",
    `What is the access code of Clara Whitfield?`,
    "--system",
    FACT,
    "--context",
    "512",
  );
  if (said.trim() !== FACT)
    throw new Error(`Node ${version}: nibble run said ${JSON.stringify(said)}; expected: ${FACT}`);
  const library =
    'import { load } from "nibble"; const m = await load("needle", { context: 256 }); console.log((await m.generate("Hugo Marsh lives in", { raw: true, maxTokens: 4 }).result()).generatedTokens); await m.close();';
  if (run("--input-type=module", "-e", library).trim() !== "4")
    throw new Error(`Node ${version}: the library gave other tokens`);
  console.log(`Node ${version}: the command and the library answer`);
  if (!quick) console.log(run("demo.js").trimEnd());
}

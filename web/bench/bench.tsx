/**
 * Attention measured on this browser's GPU: the tests, the plot as it grows, and the rows as a table and as JSON. The
 * rows and the plot are those of `nibble bench attend`.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import type { AttendFinding } from "../../src/browser.ts";
import { grouped, rounded } from "../../src/page.ts";
import { ScrollBox, SelectField } from "../fields.tsx";
import { whyNotHere } from "../models/names.ts";
import { CopyButton } from "../text/copy.tsx";
import { PageWorker } from "../work/call.ts";
import type { BenchAsk, BenchProgress } from "../work/protocol.ts";

const SHAPES: readonly (readonly [shape: string, name: string])[] = [
  ["32/8x128", "Llama 3 8B: 32 query, 8 KV heads of 128"],
  ["64/8x128", "Llama 3 70B: 64 query, 8 KV heads of 128"],
  ["32/16x256w1024", "Gemma 3, sliding: 32 query, 16 KV heads of 256"],
  ["16/2x64", "small: 16 query, 2 KV heads of 64"],
];
const CONTEXTS = [1024, 4096, 16_384, 65_536, 131_072];
/** Tokens of a prompt's chunk; fewer cached tokens are not measured. */
const QUERIES = 512;
const QUERY_COUNTS = [
  ["1", "1, generating"],
  [String(QUERIES), `${QUERIES}, of a prompt`],
] as const;

interface Found {
  readonly rows: readonly AttendFinding[];
  readonly plot: string;
}

export function Bench() {
  const [shape, setShape] = useState(SHAPES[0][0]);
  const [most, setMost] = useState(16_384);
  const [queries, setQueries] = useState<string>(QUERY_COUNTS[0][0]);
  const { found, doing, problem, start, stop } = useBench();
  const why = whyNotHere();
  const tokens = CONTEXTS.filter((count) => count <= most);
  const ask: BenchAsk =
    queries === QUERY_COUNTS[1][0]
      ? { shapes: [shape], tokens: [], prompt: [QUERIES, ...tokens.filter((count) => count > QUERIES)] }
      : { shapes: [shape], tokens, prompt: [] };
  return (
    <section class="planner" aria-label="Bench">
      <h1>Attention on this GPU</h1>
      <p class="note">
        One layer, by the kernels that models run: over the 4-bit cache as it is, over the same expanded to
        f16 first, and over an f16 cache. Browsers round the GPU's clock, so small differences mean nothing.
      </p>
      <form
        class="controls"
        onSubmit={(event) => {
          event.preventDefault();
          start(ask);
        }}
      >
        <SelectField label="Shape" value={shape} options={SHAPES} isWide onChange={setShape} />
        <SelectField
          label="Cached tokens, up to"
          value={String(most)}
          options={CONTEXTS.map((count) => [String(count), grouped(count)])}
          onChange={(count) => setMost(Number(count))}
        />
        <SelectField label="Queries" value={queries} options={QUERY_COUNTS} onChange={setQueries} />
        <div class="wide row">
          {doing === null ? (
            <button type="submit" class="primary" disabled={why !== null}>
              Measure
            </button>
          ) : (
            <button type="button" class="primary" onClick={stop}>
              Stop
            </button>
          )}
          <p class="note" role="status">
            {doing}
          </p>
        </div>
      </form>
      {(why ?? problem) && (
        <p class="problem" role="alert">
          {why ?? problem}
        </p>
      )}
      {found && <Results {...found} />}
    </section>
  );
}

function Results({ rows, plot }: Found) {
  const timed = rows.filter((row) => "us" in row);
  const skipped = rows.filter((row) => "skipped" in row);
  return (
    <div class="results">
      {timed.length > 0 && (
        <img
          class="plot"
          src={`data:image/svg+xml,${encodeURIComponent(plot)}`}
          alt="Microseconds of one layer by cached tokens; the table below has the numbers"
        />
      )}
      <ScrollBox label="Measurements">
        <table class="contexts">
          <thead>
            <tr>
              <th scope="col">tokens</th>
              <th scope="col">cache</th>
              <th scope="col">microseconds</th>
              <th scope="col">GB/s of the cache</th>
            </tr>
          </thead>
          <tbody>
            {timed.map(({ op, tokens, kv, us, gbps }) => (
              <tr key={`${op} ${kv} ${tokens}`}>
                <th scope="row">{grouped(tokens)}</th>
                <td>{op === "attendDequantized" ? `${kv}, expanded` : kv}</td>
                <td>{rounded(us)}</td>
                <td>{rounded(gbps)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollBox>
      {skipped.map(({ kv, tokens, skipped: reason }) => (
        <p class="note" key={`${kv} ${tokens}`}>
          {kv} at {grouped(tokens)} tokens: {reason}
        </p>
      ))}
      <p>
        <CopyButton
          text={rows.map((row) => JSON.stringify(row)).join("\n")}
          label="Copy rows as JSON lines"
        />
      </p>
    </div>
  );
}

/** One bench at a time. `doing`: what is being measured; null: nothing is. */
function useBench() {
  const [found, setFound] = useState<Found | null>(null);
  const [doing, setDoing] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const worker = useRef<PageWorker | null>(null);
  useEffect(() => () => worker.current?.close(), []);

  async function start(ask: BenchAsk): Promise<void> {
    setFound(null);
    setProblem(null);
    setDoing("opening the GPU");
    const own = new PageWorker();
    worker.current = own;
    const onProgress = (update: BenchProgress) => {
      if (update.kind === "rows") return setFound(update);
      const { doing, done, total } = update.progress;
      setDoing(`${doing} (${done + 1} of ${total})`);
    };
    try {
      await own.call("bench", ask, { onProgress });
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code !== "aborted") setProblem(message);
    } finally {
      own.close();
      setDoing(null);
    }
  }

  /** Stops at once, even during a measurement: the worker is closed, and results so far stay. */
  const stop = () => worker.current?.close();
  return { found, doing, problem, start, stop };
}

/**
 * The planner as a calculator: a model's shape, a memory, a context and a format in; what it takes, by part, out. Gets
 * `planTable`'s figures from the worker, for the last input only.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, grouped } from "../../src/page.ts";
import { NumberField, SelectField } from "../fields.tsx";
import { PageWorker } from "../work/call.ts";
import type { PlanAsk, Planned } from "../work/protocol.ts";
import { contextSteps, stepOf, WEIGHT_TYPES } from "./scale.ts";
import { Contexts, Longest, Parts } from "./tables.tsx";

/** Until the worker has sent them all. */
const FIRST_SHAPE = { "llama-3.1-70b": 131_072 };

export function Planner() {
  const [shapes, setShapes] = useState<Planned["shapes"]>(FIRST_SHAPE);
  const [shape, setShape] = useState("llama-3.1-70b");
  const [type, setType] = useState("q4_0");
  const [memoryGb, setMemoryGb] = useState(64);
  const [context, setContext] = useState(131_072);
  const [kv, setKv] = useState("int4");
  const steps = useMemo(() => contextSteps(shapes[shape]), [shapes[shape]]);
  const step = stepOf(steps, context);
  const ask: PlanAsk = { shape, type, memoryBytes: memoryGb * 2 ** 30, context: steps[step], kv };
  const { planned, problem, isBusy } = usePlan(ask);
  useEffect(() => {
    if (planned) setShapes(planned.shapes);
  }, [planned]);
  const models = Object.keys(shapes).map((name) => [name] as const);
  const kvs = planned?.formats.map(({ name }) => name).sort() ?? ["f16", "int4"];
  return (
    <section class="planner" aria-label="Planner">
      <h1>What fits</h1>
      <p class="note">
        The engine's own plan for a GPU, by the arithmetic that allocates. Memory of 64 GB is 64 GiB, as it is
        sold: powers of 1,024.
      </p>
      <form class="controls" onSubmit={(event) => event.preventDefault()}>
        <SelectField label="Model" value={shape} options={models} onChange={setShape} />
        <SelectField label="Weights" value={type} options={WEIGHT_TYPES} onChange={setType} />
        <NumberField
          label="Memory, GB"
          value={memoryGb}
          {...{ min: 0.5, max: 4096, step: "any" }}
          onChange={(found) => found !== null && setMemoryGb(found)}
        />
        <SelectField label="KV cache" value={kv} options={kvs.map((name) => [name])} onChange={setKv} />
        <label class="wide">
          <span>
            Context <output>{grouped(steps[step])} tokens</output>
          </span>
          <input
            type="range"
            min={0}
            max={steps.length - 1}
            value={step}
            aria-valuetext={`${grouped(steps[step])} tokens`}
            onInput={({ currentTarget }) => setContext(steps[currentTarget.valueAsNumber])}
          />
        </label>
      </form>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <div class="results" aria-busy={isBusy} aria-live="polite">
        {planned ? <Results planned={planned} /> : problem === null && <p class="waiting">Planning…</p>}
      </div>
    </section>
  );
}

function Results({ planned }: { planned: Planned }) {
  const { model, plan, shortfall, memoryBytes } = planned;
  const sliding = model.slidingLayers > 0 ? `, ${model.slidingLayers} of them sliding` : "";
  return (
    <>
      <p class="verdict" data-testid="verdict">
        <strong class={shortfall ? "no" : "yes"}>{shortfall ? "Does not fit." : "Fits."}</strong>{" "}
        {shortfall ?? `${bytes(plan.totalBytes)} of ${bytes(memoryBytes ?? 0)}.`}
      </p>
      <Parts planned={planned} />
      <Longest planned={planned} />
      <Contexts planned={planned} />
      <p class="note">
        {model.name}: {(model.parameters / 1e9).toFixed(1)} billion parameters, {model.layers} layers{sliding}
        , trained for {grouped(model.trainedContext)} tokens. Planned for {planned.device}, prompts in chunks
        of {grouped(planned.chunk)}.
      </p>
    </>
  );
}

/** The plan of the last question; earlier ones are dropped. While the worker is busy, only the newest waits. */
function usePlan(ask: PlanAsk) {
  const worker = useRef<PageWorker | null>(null);
  const next = useRef<PlanAsk | null>(null);
  const [planned, setPlanned] = useState<Planned | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const isRunning = useRef(false);

  useEffect(() => () => worker.current?.close(), []);
  const key = JSON.stringify(ask);
  useEffect(() => {
    next.current = JSON.parse(key);
    if (!isRunning.current) work();
  }, [key]);

  async function work(): Promise<void> {
    isRunning.current = true;
    setBusy(true);
    worker.current ??= new PageWorker();
    while (next.current) {
      const asking = next.current;
      next.current = null;
      try {
        const found = await worker.current.call("plan", asking);
        setPlanned(found);
        setProblem(null);
      } catch (error) {
        if ((error as { code?: string }).code === "aborted") return;
        setProblem((error as Error).message);
      }
    }
    isRunning.current = false;
    setBusy(false);
  }
  return { planned, problem, isBusy };
}

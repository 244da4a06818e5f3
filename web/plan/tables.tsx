/** The planner's pictures: memory by part, the longest context by format and engine, contexts by format. */
import { bytes, grouped } from "../../src/page.ts";
import { ScrollBox } from "../fields.tsx";
import type { Planned } from "../work/protocol.ts";
import { byFormat } from "./scale.ts";

/** Memory as one bar, with its parts named below; what does not fit extends beyond the memory's edge. */
export function Parts({ planned: { plan, memoryBytes } }: { planned: Planned }) {
  const parts = [
    { name: "weights", size: plan.weightBytes },
    { name: "KV cache", size: plan.cacheBytes },
    { name: "activations", size: plan.activationBytes + plan.workspaceBytes },
    { name: "overhead", size: plan.overheadBytes },
  ];
  const memory = memoryBytes ?? plan.totalBytes;
  const whole = Math.max(memory, plan.totalBytes);
  const percent = (size: number) => `${((100 * size) / whole).toFixed(3)}%`;
  return (
    <div class="parts">
      <div class="bar" aria-hidden="true">
        {parts.map(({ name, size }) => (
          <div key={name} class={classOf(name)} style={{ width: percent(size) }} />
        ))}
        <i style={{ left: percent(memory) }} />
      </div>
      <dl>
        {parts.map(({ name, size }) => (
          <div key={name}>
            <dt class={classOf(name)}>{name}</dt>
            <dd data-testid={`part-${classOf(name)}`}>{bytes(size)}</dd>
          </div>
        ))}
        <div>
          <dt>{memory >= plan.totalBytes ? "free" : "missing"}</dt>
          <dd>{bytes(Math.abs(memory - plan.totalBytes))}</dd>
        </div>
      </dl>
    </div>
  );
}

/**
 * A size in units of 2^30 bytes, which are called GB: memory is sold like this, and the field above has the same unit.
 */
function gigabytes(size: number): string {
  return `${Number((size / 2 ** 30).toFixed(2))} GB`;
}

function classOf(name: string): string {
  return name.replace(/\W+/g, "-").toLowerCase();
}

export function Longest({ planned }: { planned: Planned }) {
  const { formats, peers, model, memoryBytes } = planned;
  const rows = [
    ...byFormat(formats).map((table) => ({ ...table, name: `Nibble ${table.name}`, isOurs: true })),
    ...peers.map((table) => ({ ...table, isOurs: false })),
  ];
  return (
    <>
      <h2>Longest context in {gigabytes(memoryBytes ?? 0)}</h2>
      <table class="longest">
        <thead class="hidden">
          <tr>
            <th scope="col">engine and format</th>
            <th scope="col">tokens</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ name, longestContext, isOurs }) => (
            <tr key={name} class={isOurs ? "ours" : ""}>
              <th scope="row">{name}</th>
              <td>
                <span class="length" style={{ width: `${(100 * longestContext) / model.trainedContext}%` }} />
                <span class="number">{longestContext === 0 ? "none" : grouped(longestContext)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="note">
        Other engines: weights as in the file and their KV cache, without buffers for computing.{" "}
        {[...new Set(peers.map(({ assumption }) => assumption))].join(". ")}.
      </p>
    </>
  );
}

export function Contexts({ planned: { formats, plan, model } }: { planned: Planned }) {
  const tables = byFormat(formats);
  const isBeyond = (context: number) => context > model.trainedContext;
  return (
    <>
      <h2>Context by format</h2>
      <ScrollBox label="Context by format">
        <table class="contexts">
          <thead>
            <tr>
              <th scope="col">tokens</th>
              {tables.map(({ name }) => (
                <>
                  <th scope="col">{name} cache</th>
                  <th scope="col">with all else</th>
                </>
              ))}
            </tr>
          </thead>
          <tbody>
            {tables[0].rows.map(({ context }, i) => (
              <tr key={context} class={context === plan.context ? "chosen" : ""}>
                <th scope="row">
                  {grouped(context)}
                  {isBeyond(context) && "+"}
                </th>
                {tables.map(({ name, rows }) => (
                  <>
                    <td data-testid={`${name}-${context}`}>{bytes(rows[i].cacheBytes)}</td>
                    <td class={rows[i].fits ? "" : "no"}>
                      {bytes(rows[i].totalBytes)}
                      {rows[i].fits ? "" : " no"}
                    </td>
                  </>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollBox>
      <p class="note">
        "no": does not fit the memory.
        {tables[0].rows.some(({ context }) => isBeyond(context)) &&
          " +: longer than the model was trained for; memory would allow it, loading does not."}
      </p>
    </>
  );
}

/** Settings of answers: instructions before the conversation, presets of them, temperature, longest answer. */
import { useState } from "preact/hooks";
import type { Talk } from "../chat/talk.ts";
import { NumberField, SelectField } from "../fields.tsx";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";

export function AnswerSettings({ talk }: { talk: Talk }) {
  const { temperature, maxTokens, pictures } = useStore(settings);
  const { system } = useStore(talk).head;
  return (
    <div class="place">
      <h3>Answers</h3>
      <label>
        Instructions, in front of this conversation and new ones
        <textarea
          rows={2}
          value={system}
          onInput={({ currentTarget }) => talk.setSystem(currentTarget.value)}
        />
      </label>
      <Presets talk={talk} />
      <div class="row">
        <NumberField
          label="Temperature"
          value={temperature}
          placeholder="default"
          {...{ min: 0, max: 2, step: 0.1 }}
          onChange={(found) => settings.set({ temperature: found })}
        />
        <NumberField
          label="Longest answer, tokens"
          value={maxTokens}
          placeholder="default"
          {...{ min: 1, max: 1_000_000, step: 1 }}
          onChange={(found) => settings.set({ maxTokens: found })}
        />
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={pictures}
          onChange={({ currentTarget }) => settings.set({ pictures: currentTarget.checked })}
        />
        Fetch pictures in answers (their servers can see that you read them)
      </label>
    </div>
  );
}

function Presets({ talk }: { talk: Talk }) {
  const { presets } = useStore(settings);
  const { system } = useStore(talk).head;
  const [name, setName] = useState("");
  const chosen = presets.find((preset) => preset.system === system && system !== "");
  const title = name.trim();
  return (
    <div class="beside">
      {presets.length > 0 && (
        <SelectField
          label="Preset"
          value={chosen?.name ?? ""}
          options={[["", "none"], ...presets.map((preset) => [preset.name] as const)]}
          onChange={(wanted) =>
            talk.setSystem(presets.find((preset) => preset.name === wanted)?.system ?? "")
          }
        />
      )}
      {chosen ? (
        <button
          type="button"
          onClick={() => settings.set({ presets: presets.filter((preset) => preset !== chosen) })}
        >
          Delete preset
        </button>
      ) : (
        system.trim() !== "" && (
          <>
            <label>
              Keep them as a preset
              <input
                value={name}
                placeholder="its name"
                onInput={({ currentTarget }) => setName(currentTarget.value)}
              />
            </label>
            <button
              type="button"
              disabled={title === ""}
              onClick={() => {
                const others = presets.filter((preset) => preset.name !== title);
                settings.set({ presets: [...others, { name: title, system }] });
                setName("");
              }}
            >
              Keep
            </button>
          </>
        )
      )}
    </div>
  );
}

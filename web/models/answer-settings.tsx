/** How answers are asked for: instructions in front of the conversation, temperature, longest answer. */
import { NumberField } from "../fields.tsx";
import { settings } from "../settings.ts";
import { useStore } from "../store.ts";

export function AnswerSettings() {
  const { system, temperature, maxTokens } = useStore(settings);
  return (
    <div class="place">
      <h3>Answers</h3>
      <label>
        Instructions, in front of every conversation
        <textarea
          rows={2}
          value={system}
          onInput={({ currentTarget }) => settings.set({ system: currentTarget.value })}
        />
      </label>
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
    </div>
  );
}

/** How answers are asked for: instructions in front of the conversation, temperature, longest answer. */
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
          {...{ min: 0, max: 2, step: 0.1 }}
          onChange={(found) => settings.set({ temperature: found })}
        />
        <NumberField
          label="Longest answer, tokens"
          value={maxTokens}
          {...{ min: 1, max: 1_000_000, step: 1 }}
          onChange={(found) => settings.set({ maxTokens: found })}
        />
      </div>
    </div>
  );
}

interface NumberProperties {
  label: string;
  value: number | null;
  min: number;
  max: number;
  step: number;
  onChange(value: number | null): void;
}

/** Empty: the model's own default. What is out of bounds is shown as such by the browser, and not taken. */
function NumberField({ label, value, onChange, ...bounds }: NumberProperties) {
  return (
    <label>
      {label}
      <input
        type="number"
        placeholder="default"
        value={value ?? ""}
        {...bounds}
        onInput={({ currentTarget: field }) => {
          if (field.validity.valid) onChange(field.value === "" ? null : field.valueAsNumber);
        }}
      />
    </label>
  );
}

/** Labelled fields that several forms have, and the box in which wide tables scroll. They only define look and behaviour. */
import type { ComponentChildren } from "preact";

interface SelectProperties {
  label: string;
  value: string;
  /** Values, and what people read; the value itself where that is left out. */
  options: readonly (readonly [value: string, text?: string])[];
  isWide?: boolean;
  onChange(value: string): void;
}

export function SelectField({ label, value, options, isWide, onChange }: SelectProperties) {
  return (
    <label class={isWide ? "wide" : undefined}>
      {label}
      <select value={value} onChange={({ currentTarget }) => onChange(currentTarget.value)}>
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text ?? name}
          </option>
        ))}
      </select>
    </label>
  );
}

interface NumberProperties {
  label: string;
  value: number | null;
  min: number;
  max: number;
  step: number | "any";
  placeholder?: string;
  /** null: the field is empty. The browser marks a value out of bounds, which is not passed on. */
  onChange(value: number | null): void;
}

export function NumberField({ label, value, onChange, ...rest }: NumberProperties) {
  return (
    <label>
      {label}
      <input
        type="number"
        value={value ?? ""}
        {...rest}
        onInput={({ currentTarget: field }) => {
          if (field.validity.valid) onChange(field.value === "" ? null : field.valueAsNumber);
        }}
      />
    </label>
  );
}

export function ScrollBox({ label, children }: { label: string; children: ComponentChildren }) {
  // A group and no section: an answer with two tables would have two landmarks of one name.
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for fields
    <div class="table" role="group" tabIndex={0} aria-label={label}>
      {children}
    </div>
  );
}

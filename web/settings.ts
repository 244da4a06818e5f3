/** The user's settings, kept between visits; an API key only until the tab is closed. */
import { amountOf, fieldsOf, listOf } from "./checked.ts";
import { kept } from "./kept.ts";
import { Store } from "./store.ts";

interface Settings {
  /** The server's address as written; "": the server that this page comes from. */
  readonly server: string;
  readonly serverModel: string;
  readonly key: string;
  readonly system: string;
  readonly temperature: number | null;
  readonly maxTokens: number | null;
  /** Context of models that run in the page; null: not chosen. */
  readonly context: number | null;
  /** "": the device's default. */
  readonly kv: string;
  /** Fetch pictures in answers; their servers see the requests. */
  readonly pictures: boolean;
  /** Show the list of conversations where there is room next to the chat. */
  readonly list: boolean;
  readonly presets: readonly Preset[];
}

/** Instructions under a name. */
interface Preset {
  readonly name: string;
  readonly system: string;
}

const DEFAULTS: Settings = {
  server: "",
  serverModel: "",
  key: "",
  system: "",
  temperature: null,
  maxTokens: null,
  context: null,
  kv: "",
  pictures: false,
  list: true,
  presets: [],
};

const NAME = "nibble.settings";
const KEY_NAME = "nibble.key";

class SettingsStore extends Store<Settings> {
  constructor() {
    super({ ...DEFAULTS, ...readSaved(), key: kept(() => sessionStorage.getItem(KEY_NAME)) ?? "" });
  }

  override set(change: Partial<Settings>): void {
    super.set(change);
    const { key, ...rest } = this.state;
    kept(() => localStorage.setItem(NAME, JSON.stringify(rest)));
    kept(() => sessionStorage.setItem(KEY_NAME, key));
  }
}

/** Only what has the type of its default, or may be null as that may. */
function readSaved(): Partial<Settings> {
  const saved: unknown = kept(() => JSON.parse(localStorage.getItem(NAME) ?? "{}"));
  const nullable = ["temperature", "maxTokens", "context"];
  const { presets, ...rest } = fieldsOf(saved);
  const readPreset = (item: unknown): Preset | null => {
    const { name, system } = fieldsOf(item);
    return typeof name === "string" && typeof system === "string" ? { name, system } : null;
  };
  const read = Object.entries(rest).filter(([name, value]) =>
    nullable.includes(name)
      ? value === null || amountOf(value) !== null
      : typeof value === typeof DEFAULTS[name as keyof Settings],
  );
  return { ...Object.fromEntries(read), presets: listOf(presets, readPreset) };
}

export const settings = new SettingsStore();

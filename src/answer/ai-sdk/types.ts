/**
 * The types of Vercel's AI SDK that a language model uses (@ai-sdk/provider, LanguageModelV3), so that programs without it need
 * no package. test/answer/ai-sdk.test.ts holds it against the package's own types.
 */
export interface CallOptions {
  readonly prompt: readonly PromptMessage[];
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
  readonly stopSequences?: readonly string[];
  readonly topP?: number;
  readonly topK?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly seed?: number;
  readonly responseFormat?: { readonly type: "text" } | { readonly type: "json"; readonly schema?: unknown };
  readonly tools?: readonly (
    | ({ readonly type: "function" } & FunctionTool)
    | { readonly type: "provider"; readonly name: string }
  )[];
  readonly toolChoice?:
    | { readonly type: "auto" | "none" | "required" }
    | { readonly type: "tool"; readonly toolName: string };
  readonly abortSignal?: AbortSignal;
  /** Ours are under "nibble". */
  readonly providerOptions?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

interface FunctionTool {
  readonly name: string;
  readonly description?: string;
  readonly inputSchema: unknown;
  readonly strict?: boolean;
}

export interface PromptMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string | readonly PromptPart[];
}

export interface PromptPart {
  readonly type: string;
  readonly text?: string;
  readonly toolCallId?: string;
  readonly toolName?: string;
  readonly input?: unknown;
  readonly output?: { readonly type: string; readonly value?: unknown; readonly reason?: string };
}

export interface Usage {
  inputTokens: { total: number; noCache: number; cacheRead: number; cacheWrite: undefined };
  outputTokens: { total: number; text: undefined; reasoning: undefined };
}

export interface FinishReason {
  unified: "stop" | "length" | "tool-calls";
  raw: string;
}

export type Content =
  | { type: "text" | "reasoning"; text: string }
  | { type: "tool-call"; toolCallId: string; toolName: string; input: string };

export type Warning = { type: "unsupported"; feature: string; details?: string };

export type StreamPart =
  | { type: "stream-start"; warnings: Warning[] }
  | { type: "text-start" | "text-end" | "reasoning-start" | "reasoning-end"; id: string }
  | { type: "text-delta" | "reasoning-delta"; id: string; delta: string }
  | { type: "tool-input-start"; id: string; toolName: string }
  | { type: "tool-input-delta"; id: string; delta: string }
  | { type: "tool-input-end"; id: string }
  | { type: "tool-call"; toolCallId: string; toolName: string; input: string }
  | { type: "finish"; usage: Usage; finishReason: FinishReason }
  | { type: "error"; error: unknown };

/** A model as Vercel's AI SDK takes it (specification v3). */
export interface AiModel {
  readonly specificationVersion: "v3";
  readonly provider: string;
  readonly modelId: string;
  readonly supportedUrls: Record<string, RegExp[]>;
  doGenerate(options: CallOptions): Promise<{
    content: Content[];
    finishReason: FinishReason;
    usage: Usage;
    warnings: Warning[];
  }>;
  doStream(options: CallOptions): Promise<{ stream: ReadableStream<StreamPart> }>;
}

/** EmbeddingModelV3. */
export interface AiEmbeddingModel {
  readonly specificationVersion: "v3";
  readonly provider: string;
  readonly modelId: string;
  /** No bound: the texts of one call share steps. */
  readonly maxEmbeddingsPerCall: number;
  readonly supportsParallelCalls: boolean;
  doEmbed(options: {
    readonly values: readonly string[];
    readonly abortSignal?: AbortSignal;
    /** Ours are under "nibble". */
    readonly providerOptions?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  }): Promise<{ embeddings: number[][]; usage: { tokens: number }; warnings: Warning[] }>;
}

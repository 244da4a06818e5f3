/** Chat templates. */
export interface ChatMessage {
  role: string;
  content: string;
  [key: string]: unknown;
}
export interface ChatTemplate {
  readonly source: string;
  render(
    messages: readonly ChatMessage[],
    options?: { addGenerationPrompt?: boolean; [key: string]: unknown },
  ): string;
}

/** Progress of loading and reading, and an AbortSignal that ends either: here the reading, after its first part. */
import { AbortedError, load } from "nibble-llm";

const controller = new AbortController();
const { signal } = controller;

const model = await load("needle", {
  context: 2048,
  chunk: 64,
  signal,
  onProgress: ({ bytes, totalBytes }) => {
    if (bytes === totalBytes) console.log(`loaded ${totalBytes} bytes`);
  },
});
try {
  const long = "The harbor lay still in the evening. ".repeat(60);
  const generation = model.generate(long, {
    raw: true,
    signal,
    onPrompt: (tokens, total) => {
      console.log(`read ${tokens} of ${total} tokens`);
      controller.abort();
    },
  });
  await generation.text();
} catch (error) {
  if (!(error instanceof AbortedError)) throw error;
  console.log(error.message);
} finally {
  await model.close();
}

/** `nibble serve` and the options that only it has: names, help and defaults. */
import { type Command, Option } from "commander";
import { POOLINGS } from "../index.ts";
import { collect, count, number, size } from "./arguments.ts";

export function serveCommand(program: Command): Command {
  return program
    .command("serve")
    .description("Serves models over HTTP, as OpenAI's clients expect it, and the chat page.")
    .argument(
      "<models...>",
      "what `run` takes; of several, or of a folder of models, each is loaded when a request names it",
    )
    .option(
      "--keep <minutes>",
      "with several models: how long one stays loaded that is not used; -1: for ever (default: 30)",
      number,
    )
    .option("--host <address>", "address to listen at; 0.0.0.0: all of this machine's", "127.0.0.1")
    .option("--port <number>", "0: any that is free", count, 8080)
    .option("--api-key <key>", "ask clients for this key (also: NIBBLE_API_KEY)")
    .option(
      "--alias <name>",
      "what clients may call the model, too, with several NAME=MODEL; may be repeated",
      collect,
      [],
    )
    .option(
      "--cors <origin>",
      "let pages of this site or app use the server, such as app://obsidian.md; may be repeated",
      collect,
      [],
    )
    .option("--allow-host <name>", "a name under which it is reached; may be repeated", collect, [])
    .option(
      "-n, --tokens <count>",
      "most tokens of an answer (default: 16384, fewer where they repeat themselves)",
      count,
    )
    .option("--parallel <count>", "answers at a time; one step serves all of them", count, 1)
    .option(
      "--cache-tokens <count>",
      "tokens that all answers share (default: a context for each, where that is known to fit)",
      count,
    )
    .option(
      "--snapshots <count>",
      "with recurrent layers (Qwen 3.5): positions of texts that their states are kept for, to go on from (default: 4, and one for each answer at a time)",
      count,
    )
    .option(
      "--embeddings",
      "texts become vectors, too, at /v1/embeddings and /api/embed, with a model that is made for it",
    )
    .addOption(
      new Option("--pooling <kind>", "with --embeddings: instead of what the model's file says").choices(
        POOLINGS,
      ),
    )
    .option("--queue <count>", "requests that may wait for their turn", count, 64)
    .option("--max-body <size>", "longest request (default: 1 MiB, and 32 bytes a token of context)", size)
    .option(
      "--connections <count>",
      "connections of all clients (default: 1024, more with a longer queue)",
      count,
    )
    .option(
      "--connections-per-address <count>",
      "of one other machine (default: 256, more with a longer queue)",
      count,
    )
    .option("--strict", "refuse requests with fields that are not known (default: name them once)")
    .option("--grace <seconds>", "time for running answers when it is stopped", count, 10);
}

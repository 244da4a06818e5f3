/** `nibble serve` and the options that only it has: names, help and defaults. */
import { type Command, Option } from "commander";
import { POOLINGS } from "../index.ts";
import { collect, count, number, size } from "./arguments.ts";

export function serveCommand(program: Command): Command {
  return program
    .command("serve")
    .description("Serves models over HTTP for OpenAI's clients, and the chat page.")
    .argument(
      "<models...>",
      "what `run` takes; several models, or a folder of models, are loaded when a request names them",
    )
    .option(
      "--keep <minutes>",
      "with several models: how long an unused one stays loaded; -1: for ever (default: 30)",
      number,
    )
    .option("--host <address>", "address to listen on; 0.0.0.0: all of this machine's", "127.0.0.1")
    .option("--port <number>", "0: any free one", count, 8080)
    .option("--api-key <key>", "require this key from clients (also: NIBBLE_API_KEY)")
    .option(
      "--alias <name>",
      "another name of the model for clients; with several models NAME=MODEL; may be repeated",
      collect,
      [],
    )
    .option(
      "--cors <origin>",
      "let pages of this site or app use the server, such as app://obsidian.md; may be repeated",
      collect,
      [],
    )
    .option("--allow-host <name>", "a host name of this server; may be repeated", collect, [])
    .option(
      "-n, --tokens <count>",
      "most tokens of an answer (default: 16384, fewer if they repeat themselves)",
      count,
    )
    .option("--parallel <count>", "answers at a time; one step serves all of them", count, 1)
    .option(
      "--cache-tokens <count>",
      "tokens that all answers share (default: a context for each, if that is known to fit)",
      count,
    )
    .option(
      "--snapshots <count>",
      "with recurrent layers (Qwen 3.5): how many positions keep their states, so that texts can continue there (default: 4, and one for each answer at a time)",
      count,
    )
    .option(
      "--embeddings",
      "also serve embeddings, at /v1/embeddings and /api/embed, with a model made for them",
    )
    .addOption(
      new Option("--pooling <kind>", "with --embeddings: overrides the pooling of the model's file").choices(
        POOLINGS,
      ),
    )
    .option("--queue <count>", "requests that may wait", count, 64)
    .option("--max-body <size>", "largest request (default: 1 MiB, plus 32 bytes per token of context)", size)
    .option(
      "--connections <count>",
      "connections of all clients (default: 1024, more with a longer queue)",
      count,
    )
    .option(
      "--connections-per-address <count>",
      "connections of one other machine (default: 256, more with a longer queue)",
      count,
    )
    .option("--strict", "refuse requests with unknown fields (default: report them once)")
    .option("--grace <seconds>", "time for running answers when the server is stopped", count, 10);
}

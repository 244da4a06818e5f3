/**
 * `npm run demo`: the model that ships reads three chapters of a novel with three facts planted in them and is asked
 * for the facts, once over the 4-bit cache and once over f16. Exit code 0 when the 4-bit cache gave all three answers.
 */
import { readFileSync } from "node:fs";
import { kvBytes, load } from "nibble-llm";

const FACTS = [
  {
    depth: 0.15,
    fact: "The access code of Clara Whitfield is 48213.",
    question: "What is the access code of Clara Whitfield?",
    answer: "48213",
  },
  {
    depth: 0.5,
    fact: "Boris Thorne's home city is Vienna.",
    question: "What is the home city of Boris Thorne?",
    answer: "Vienna",
  },
  {
    depth: 0.85,
    fact: "The room number of Helen Archer is 614.",
    question: "What is the room number of Helen Archer?",
    answer: "614",
  },
];
const CONTEXT = 9216;
const MIB = 2 ** 20;

const novel = readFileSync(new URL("./texts/northanger-abbey.txt", import.meta.url), "utf8").trim();
const document = plant(novel.split("\n"));
console.log(
  "needle-14m reads Northanger Abbey (Jane Austen, 1817), chapters 1 to 3, with three facts planted:",
);
for (const { depth, fact } of FACTS) console.log(`  at ${Math.round(100 * depth)} %: ${fact}`);

const int4 = await readAndAsk("int4");
const f16 = await readAndAsk("f16");
printTable(int4, f16);
process.exitCode = int4.right === FACTS.length ? 0 : 1;

/** Each fact becomes a paragraph of its own, in front of the first paragraph at or beyond its depth. */
function plant(paragraphs) {
  const left = [...FACTS];
  const planted = [];
  let at = 0;
  for (const paragraph of paragraphs) {
    while (left.length > 0 && at >= left[0].depth * novel.length) planted.push(left.shift().fact);
    planted.push(paragraph);
    at += paragraph.length + 1;
  }
  return planted.join("\n");
}

async function readAndAsk(kv) {
  const model = await load("needle", { kv, context: CONTEXT });
  try {
    console.log(`\n${kv} cache (${model.device})`);
    const messages = (question) => [
      { role: "system", content: document },
      { role: "user", content: question },
    ];
    // No token is asked for, so this only reads; the questions then find the document in the cache.
    const read = await model
      .generate(messages(FACTS[0].question), { maxTokens: 0, onPrompt: progress() })
      .result();
    console.log(`read ${read.promptTokens} tokens in ${(read.promptMs / 1000).toFixed(1)} s`);

    const answers = [];
    let steps = 0;
    let ms = 0;
    for (const { question, answer } of FACTS) {
      process.stdout.write(`? ${question}\n  `);
      const generation = model.generate(messages(question), { maxTokens: 32 });
      for await (const { text } of generation) process.stdout.write(text);
      const { text, generatedTokens, generateMs } = await generation.result();
      console.log(text.includes(answer) ? "  (right)" : `  (wrong: ${answer} was planted)`);
      answers.push(text);
      // The first token comes with the prompt.
      steps += generatedTokens - 1;
      ms += generateMs;
    }
    return {
      kv,
      answers,
      right: FACTS.filter(({ answer }, i) => answers[i].includes(answer)).length,
      cacheBytes: model.plan.cacheBytes,
      tokenBytes: kvBytes(model.plan, kv) / CONTEXT,
      promptRate: (1000 * read.promptTokens) / read.promptMs,
      answerRate: (1000 * steps) / ms,
    };
  } finally {
    await model.close();
  }
}

/** A bar on a terminal, a line at each quarter elsewhere. */
function progress() {
  let quarter = 0;
  return (done, total) => {
    if (process.stdout.isTTY) {
      const filled = Math.round((32 * done) / total);
      const bar = "█".repeat(filled) + "░".repeat(32 - filled);
      process.stdout.write(done < total ? `\r${bar} ${done} of ${total} tokens` : "\r\x1b[K");
    } else if (done >= ((quarter + 1) * total) / 4) {
      quarter = Math.floor((4 * done) / total);
      console.log(`reading: ${done} of ${total} tokens`);
    }
  };
}

function printTable(...columns) {
  const row = (label, cell) =>
    console.log(label.padEnd(28) + columns.map((column) => cell(column).padStart(12)).join(""));
  console.log();
  row("", ({ kv }) => kv);
  row(`cache for ${CONTEXT} tokens`, ({ cacheBytes }) => `${(cacheBytes / MIB).toFixed(2)} MiB`);
  row("bytes a token", ({ tokenBytes }) => tokenBytes.toFixed(0));
  row("prompt, tokens/s", ({ promptRate }) => promptRate.toFixed(0));
  row("answers, tokens/s", ({ answerRate }) => answerRate.toFixed(0));
  row("right answers", ({ right }) => `${right} of ${FACTS.length}`);
  const same = columns.every(({ answers }) => answers.join("\n") === columns[0].answers.join("\n"));
  console.log("same answers from both".padEnd(28) + (same ? "yes" : "no").padStart(12));
}

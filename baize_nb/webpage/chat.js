// Talk to a GGUF model that runs in this page: llama.cpp, compiled to WebAssembly, loaded with the model's pieces.
// page.json names every file with its SHA-256 ("integrity"): what was changed or cut off on the way is not run.

const $ = (id) => document.getElementById(id);
const [form, send] = [document.querySelector("form"), document.querySelector("button[type=submit]")];
const MARKERS = ["[|Human|]", "[|AI|]"]; // the model goes on as somebody else: its reply ends before that
const SPECIAL = /<(?=\|[^|<>]*\|>|\/?s>)/g; // typed special tokens, <|im_end|> say, must not become real ones

let page, model, running; // settings, engine, AbortController of the reply that is being written
let messages = []; // [{role, content}], as at any chat endpoint
let perByte = 0.5; // tokens that a byte of conversation takes; after each reply the engine's own count

async function file({ url, integrity }) {
  const kept = await caches?.open("models").catch(() => undefined); // none on plain http: fetch again next time
  const known = await kept?.match(url + integrity);
  if (known) return known.blob();
  const answer = await fetch(url, { integrity });
  if (!answer.ok) throw new Error(`${url}: the server answers ${answer.status}`);
  await kept?.put(new Request(url + integrity), answer.clone()).catch(() => {}); // a full disk keeps nothing
  return answer.blob();
}

async function load() {
  page = await (await fetch("page.json")).json();
  const [script, wasm] = [await file(page.engine.script), await file(page.engine.wasm)];
  const { Wllama } = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  const pieces = [];
  for (const piece of page.model) {
    pieces.push(await file(piece));
    $("progress").value = pieces.length / page.model.length;
  }
  model = new Wllama({ default: URL.createObjectURL(new Blob([wasm], { type: "application/wasm" })) }, { suppressNativeLog: true });
  model.setCompat(null); // its fall-back for old browsers would come from elsewhere
  await model.loadModel([new Blob(pieces)], { n_ctx: page.context, n_parallel: 1, n_gpu_layers: 0 });
  $("progress").remove();
  say("Ready.");
  ready(true);
  $("question").focus();
}

function say(text) {
  $("status").textContent = text;
}

function ready(idle) {
  send.disabled = $("clear").disabled = !idle;
  $("question").disabled = false;
  $("stop").disabled = idle;
}

function bubble(role, text) {
  const said = document.createElement("p");
  said.className = `said ${role}`;
  said.textContent = text; // text, never HTML: a model can be led to write anything
  $("talk").append(said);
  said.scrollIntoView({ block: "end" });
  return said;
}

function fitting() {
  const bytes = (text) => new TextEncoder().encode(text).length;
  const asked = messages.map((m) => ({ role: m.role, content: m.content.replace(SPECIAL, "< ") }));
  const room = page.context - page.max_tokens - 96; // preamble and marks take some
  while (asked.length > 1 && perByte * bytes(asked.map((m) => m.content).join("")) > room) asked.splice(0, 2);
  return { asked, size: bytes(asked.map((m) => m.content).join("")) };
}

async function reply() {
  const said = bubble("assistant", "");
  const { asked, size } = fitting();
  let text = "";
  running = new AbortController();
  ready(false);
  say("Writing …");
  try {
    const stream = await model.createChatCompletion({
      messages: asked, stream: true, stream_options: { include_usage: true }, max_tokens: page.max_tokens, temperature: page.temperature,
      top_p: page.top_p, top_k: 0, min_p: 0, seed: page.seed ?? Math.floor(Math.random() * 2 ** 31), stop: MARKERS, abortSignal: running.signal,
    });
    for await (const chunk of stream) {
      text = (text + (chunk.choices[0]?.delta?.content ?? "")).trimStart();
      said.textContent = text;
      $("talk").scrollTop = $("talk").scrollHeight;
      if (chunk.usage && size > 200) perByte = (1.2 * chunk.usage.prompt_tokens) / size;
    }
    say("Ready.");
  } catch (error) {
    say(running.signal.aborted ? "Stopped." : `That did not work: ${error.message}. Clear the conversation, or load the page again.`);
  }
  if (text.trim()) messages.push({ role: "assistant", content: text.trim() });
  else messages.pop(), said.remove(); // no reply: the question is not part of the conversation either
  ready(true);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || send.disabled) return;
  $("question").value = "";
  messages.push({ role: "user", content: text });
  bubble("user", text);
  reply();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  messages = [];
  $("talk").replaceChildren();
  say("Ready.");
});

load().catch((error) => say(`The model could not be loaded: ${error.message}`));

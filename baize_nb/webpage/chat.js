// Talk to a GGUF model that runs in this page: llama.cpp, compiled to WebAssembly, loaded with the model's pieces.
// page.json names every file with its SHA-256 ("integrity"): what was changed or cut off on the way is not run.

const $ = (id) => document.getElementById(id);
const MARKERS = ["[|Human|]", "[|AI|]"]; // the model goes on as somebody else: its reply ends before that
const SPECIAL = /<(?=\|[^|<>]*\|>|\/?s>)/g; // typed special tokens, <|im_end|> say, must not become real ones

let page, model, running, messages = []; // settings, engine, AbortController of a reply, [{role, content}]

async function file({ url, integrity }) {
  // Kept by the browser, under a name that changes with the content.
  return (await fetch(`${url}?${encodeURIComponent(integrity)}`, { integrity, cache: "force-cache" })).blob();
}

async function load() {
  page = await (await fetch("page.json")).json();
  const [script, wasm] = await Promise.all(page.engine.map(file));
  const { Wllama } = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  const pieces = [];
  for (const piece of page.model) {
    pieces.push(await file(piece));
    $("progress").value = pieces.length / page.model.length;
  }
  const engine = URL.createObjectURL(new Blob([wasm], { type: "application/wasm" }));
  model = new Wllama({ default: engine }, { suppressNativeLog: true });
  model.setCompat(null); // its fall-back for old browsers would come from elsewhere
  await model.loadModel([new Blob(pieces)], { n_ctx: page.context, n_parallel: 1, n_gpu_layers: 0 });
  $("progress").remove();
  ready("Ready.");
}

function ready(text, idle = true) {
  $("status").textContent = text;
  $("send").disabled = $("clear").disabled = !idle;
  $("stop").disabled = idle;
}

function bubble(role, text) {
  const said = document.createElement("p");
  said.className = `said ${role}`;
  said.textContent = text; // text, never HTML: a model can be led to write anything
  $("talk").append(said);
  return said;
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || $("send").disabled) return;
  $("question").value = "";
  bubble("user", text);
  messages.push({ role: "user", content: text });
  const asked = messages.map((m) => ({ role: m.role, content: m.content.replace(SPECIAL, "< ") }));
  const tokens = () => 0.4 * new Blob(asked.map((m) => m.content)).size; // by its bytes: as a rule it has fewer
  const room = page.context - page.max_tokens - 96; // preamble and marks take some
  while (asked.length > 1 && tokens() > room) asked.splice(0, 2); // the oldest turn
  const said = bubble("assistant", "");
  let reply = "", ending = "Ready.";
  running = new AbortController();
  ready("Writing …", false);
  try {
    const stream = await model.createChatCompletion({
      messages: asked, stream: true, max_tokens: page.max_tokens, stop: MARKERS, abortSignal: running.signal,
      temperature: page.temperature, top_p: page.top_p, top_k: 0, min_p: 0, seed: Math.floor(Math.random() * 2 ** 31),
    });
    for await (const chunk of stream) {
      reply = (reply + (chunk.choices[0]?.delta?.content ?? "")).trimStart();
      said.textContent = reply;
      said.scrollIntoView({ block: "end" });
    }
  } catch (error) {
    ending = running.signal.aborted ? "Stopped." : `That did not work: ${error.message}. Clear the conversation.`;
  }
  if (reply.trim()) messages.push({ role: "assistant", content: reply.trim() });
  else messages.pop(), said.remove(); // no reply: the question is not part of the conversation either
  ready(ending);
};
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
};
$("stop").onclick = () => running.abort();
$("clear").onclick = () => {
  messages = [];
  $("talk").replaceChildren();
};

load().catch((error) => ($("status").textContent = `The model could not be loaded: ${error.message}`));

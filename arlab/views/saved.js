// The end of a saved page: a stand-in for the ipywidgets model, and the first drawing.
// It keeps state and tells listeners of changes as the real one does; what needs a kernel finds `saved` set.
class SavedModel {
  constructor(state) {
    this.saved = true;
    this.state = state;
    this.listeners = new Map();
  }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    for (const event of [`change:${name}`, "change"]) for (const fn of this.listeners.get(event) ?? []) fn();
  }
  save_changes() {}
  send() {}
  on(event, fn) {
    if (!this.listeners.has(event)) this.listeners.set(event, new Set());
    this.listeners.get(event).add(fn);
  }
  off(event, fn) {
    if (fn) this.listeners.get(event)?.delete(fn);
    else if (event) this.listeners.delete(event);
    else this.listeners.clear();
  }
}

function revive(value) {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$base64 === "string") {
    const text = atob(value.$base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new DataView(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item)]));
}

const savedJson = (id) => JSON.parse(document.getElementById(id).textContent);
for (const [key, strings] of Object.entries(savedJson("arlab-tokens"))) arlab.addTokens(key, strings);
globalThis.arlabModel = new SavedModel(revive(savedJson("arlab-state"))); // for the curious, and for the tests
await render({ model: globalThis.arlabModel, el: document.getElementById("arlab-view") });
requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = "1"; }));

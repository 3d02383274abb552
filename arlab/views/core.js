// The core of every view: elements, text of tokens and numbers, life cycle, questions to the kernel.
// theme.js and controls.js stand before it, the view's own file after it; everything it offers hangs on `arlab`.
const arlab = (() => {
  const { rgb, mix, darkQuery, readTheme } = arlabTheme;
  // ---- elements ------------------------------------------------------------------------------------------
  // h("button", { class: "al-button", onclick: fn, "aria-label": "..." }, "text or nodes"): text is always text, never HTML.
  const SVG = "http://www.w3.org/2000/svg";
  const build = (element, props, children) => {
    for (const [key, value] of Object.entries(props ?? {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key === "class") element.setAttribute("class", value);
      else if (key === "style") Object.assign(element.style, value);
      else if (key === "dataset") Object.assign(element.dataset, value);
      else if (key.startsWith("on") && typeof value === "function") element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  };
  const h = (tag, props, ...children) => build(document.createElement(tag), props, children);
  const svg = (tag, props, ...children) => build(document.createElementNS(SVG, tag), props, children);
  const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  // ---- numbers and tokens as text ---------------------------------------------------------------------------
  const percent = (p) => {
    if (!(p > 0)) return "0 %";
    if (p < 0.0001) return "<0.01 %";
    return `${(100 * p).toFixed(p < 0.01 ? 2 : 1)} %`;
  };
  const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const spell = (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  // Spaces at the ends or in runs become ␣, line ends ⏎, tabs ⇥; invisible characters are spelt out; an accent without
  // its letter gets a dotted circle, or it would stand on whatever comes before it.
  const visible = (token) => {
    if (token === "") return "⟨empty⟩";
    return token
      .replace(/^\p{M}/u, "◌$&")
      .replace(/^ +| +$| {2,}/g, (run) => "␣".repeat(run.length))
      .replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/\r/g, "␍")
      .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u00a0\u2000-\u200a\u3000]/gu, spell);
  };

  // ---- bytes from the kernel ----------------------------------------------------------------------------------
  const copied = (view) => (view ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : new ArrayBuffer(0));
  const floats = (view) => new Float32Array(copied(view));
  const ints = (view) => new Uint32Array(copied(view));
  const bytes = (view) => new Uint8Array(copied(view));

  // ---- token strings: one table for each tokenizer in the whole page ------------------------------------------
  const tables = (globalThis[Symbol.for("arlab.tokens")] ??= new Map()); // key -> { strings, asked, waiting }
  const table = (key) => {
    if (!tables.has(key)) tables.set(key, { strings: null, asked: 0, waiting: new Set() });
    return tables.get(key);
  };
  const addTokens = (key, strings) => {
    const entry = table(key);
    entry.strings = strings;
    for (const fn of entry.waiting) fn();
    entry.waiting.clear();
  };

  // ---- a view: its root, its life, its controls ---------------------------------------------------------------
  // options.label: what a screen reader calls it. options.draw(): draws everything; called at most once a frame.
  const view = (model, el, { label, draw }) => {
    const root = h("section", { class: "arlab", role: "group", "aria-label": label });
    const banner = h("div", { class: "al-banner", role: "alert", hidden: true });
    const tip = h("div", { class: "al-tip", role: "tooltip", hidden: true });
    root.append(banner, tip);
    el.append(root);

    const undo = []; // what clean-up runs
    const painters = []; // canvases and controls, drawn before options.draw
    let frame = 0, queued = false, drawn = false, again = false;
    let theme = null;
    let closed = false;
    const self = { model, root, live: !model.saved, get theme() { return (theme ??= readTheme(root)); } };

    // Drawing: any number of requests, one drawing a frame. The first is drawn at once, without waiting for the
    // frame to begin (that wait would be added to what a key press costs); what follows it waits for the next frame.
    const paint = () => {
      queued = false;
      if (closed) return;
      drawn = true;
      if (!root.isConnected) { // colours and widths are known once the element is in the page
        frame = requestAnimationFrame(() => { drawn = again = false; self.redraw(); });
        return;
      }
      frame = requestAnimationFrame(() => { drawn = false; if (again) { again = false; self.redraw(); } });
      void self.theme;
      draw?.();
      for (const fn of painters) fn();
    };
    self.redraw = () => {
      if (closed || queued) return;
      if (drawn) { again = true; return; }
      queued = true;
      queueMicrotask(paint);
    };
    self.listen = (target, event, fn, options) => {
      target.addEventListener(event, fn, options);
      undo.push(() => target.removeEventListener(event, fn, options));
    };
    // Calls fn (if any) when one of these traits changes, from wherever, then redraws.
    self.watch = (names, fn) => {
      for (const name of names) {
        const changed = () => { fn?.(name); self.redraw(); };
        model.on(`change:${name}`, changed);
        undo.push(() => model.off(`change:${name}`, changed));
      }
    };
    self.get = (name) => model.get(name);
    self.set = (values) => {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      model.save_changes();
    };
    // For what the page computes (figures): one message when the hand rests, so that a drag sends none of them.
    // values: an object of traits, or a function that makes it then.
    let late = null, timer = 0;
    const flush = () => {
      clearTimeout(timer);
      const values = late;
      late = null;
      if (values) self.set(typeof values === "function" ? values() : values);
    };
    self.report = (values) => { late = values; clearTimeout(timer); timer = setTimeout(flush, 120); };
    undo.push(flush);

    // Questions to the kernel. ask() gives { buffers }, or null after showing the refusal as a sentence.
    const open = new Map();
    let count = 0;
    const onMessage = (content, buffers) => {
      const waiting = open.get(content?.answer);
      if (!waiting) return;
      open.delete(content.answer);
      if (content.error === null || content.error === undefined) waiting.resolve({ buffers });
      else waiting.reject(new Error(content.error));
    };
    model.on("msg:custom", onMessage);
    undo.push(() => model.off("msg:custom", onMessage));
    self.fail = (message) => { banner.textContent = message; banner.hidden = false; };
    self.clear = () => { banner.hidden = true; banner.textContent = ""; };
    self.request = (kind, payload) => new Promise((resolve, reject) => {
      if (!self.live) { reject(new Error("A saved page has no kernel. Open the notebook to run the model.")); return; }
      const number = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}-${++count}`;
      open.set(number, { resolve, reject });
      model.send({ ask: kind, number, payload: payload ?? {} });
    });
    self.ask = async (kind, payload) => {
      root.dataset.busy = "1";
      try {
        const answer = await self.request(kind, payload);
        self.clear();
        return answer;
      } catch (error) {
        self.fail(error.message);
        return null;
      } finally {
        delete root.dataset.busy;
      }
    };

    // The text of a token, made visible; `#id` until the table has come (asked for once a page).
    self.tokenText = (id) => {
      const key = model.get("tokens_key");
      if (!key) return `#${id}`;
      const entry = table(key);
      if (entry.strings) return id < entry.strings.length ? visible(entry.strings[id]) : `#${id}`;
      if (!entry.waiting.has(self.redraw)) {
        entry.waiting.add(self.redraw);
        undo.push(() => entry.waiting.delete(self.redraw));
      }
      if (self.live && Date.now() - entry.asked > 10_000) { // another view's kernel may have died: ask again
        entry.asked = Date.now();
        self.request("tokens").then(
          ({ buffers }) => addTokens(key, JSON.parse(new TextDecoder().decode(buffers[0]))), () => {});
      }
      return `#${id}`;
    };

    // Theme: JupyterLab, VS Code and Colab mark theirs on body or html; a saved page follows the system.
    const themed = () => { theme = null; self.redraw(); };
    const observer = new MutationObserver(themed);
    const marks = { attributes: true, attributeFilter: ["class", "theme", "data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-kind"] };
    observer.observe(document.body, marks);
    observer.observe(document.documentElement, marks);
    undo.push(() => observer.disconnect());
    self.listen(darkQuery, "change", themed);

    // Tooltip at a place in the page; content: nodes or strings.
    self.tip = (event, ...content) => {
      tip.replaceChildren(...content);
      tip.hidden = false;
      const box = root.getBoundingClientRect();
      const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 8);
      const below = event.clientY - box.top + 18;
      const top = below + tip.offsetHeight > box.height ? event.clientY - box.top - tip.offsetHeight - 10 : below;
      tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
    };
    self.untip = () => { tip.hidden = true; };

    Object.assign(self, arlabControls(self, { h, undo, painters }));

    // Start: draw once the elements are in the page; clean-up is what `render` returns.
    self.start = () => { self.redraw(); return self.close; };
    self.close = () => {
      if (closed) return;
      for (const fn of undo.reverse()) fn();
      closed = true;
      cancelAnimationFrame(frame);
      open.clear();
      root.remove();
    };
    return self;
  };

  // ---- small helpers for drawings -----------------------------------------------------------------------------
  const steps = (from, to, by) => Array.from({ length: Math.round((to - from) / by) + 1 }, (_, i) => Number((from + i * by).toFixed(10)));
  // Diagonal hatching, so that "cut" differs from "kept" by more than its hue.
  const hatch = (ctx, colour, gap = 5) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = gap;
    const c = tile.getContext("2d");
    c.strokeStyle = colour;
    c.lineWidth = 1;
    c.beginPath();
    for (const shift of [-gap, 0, gap]) { c.moveTo(shift, gap); c.lineTo(shift + gap, 0); }
    c.stroke();
    return ctx.createPattern(tile, "repeat");
  };

  // The pattern of one colour, kept from frame to frame: const hatching = arlab.hatching(); hatching(ctx, colour)
  const hatching = () => {
    let last = "", pattern = null;
    return (ctx, colour) => {
      if (colour !== last) [last, pattern] = [colour, hatch(ctx, colour)];
      return pattern;
    };
  };

  return { h, svg, setText, percent, thousands, visible, floats, ints, bytes, addTokens, rgb, mix, view, steps, hatch, hatching };
})();

// Controls bound to traits, and canvases: what `view.slider`, `view.button` and their like make. Placed before core.js.
const arlabControls = (self, { h, undo, painters }) => {
  const { model } = self;

  // A slider over `stops` (an ascending array of values), bound to a trait. It has a field for exact values
  // (parse(text) -> value, or undefined to refuse) and goes back to `reset` on a double click or by its button.
  // `reset` may be a function, read again whenever the trait or one of `resetOn` (names of traits) changes.
  // Where the trait's value is not the place on the scale (0 for "off"), stored(stop) and placed(value) translate.
  const same = (x) => x;
  const slider = ({ trait, label, stops, format = String, parse, reset, resetOn = [], title, note, stored = same, placed = same }) => {
    const id = `al-${trait}-${Math.random().toString(36).slice(2, 8)}`;
    const nearest = (value) => {
      const at = stops.indexOf(value);
      if (at >= 0) return at;
      let best = 0;
      for (let i = 1; i < stops.length; i++) if (Math.abs(stops[i] - value) < Math.abs(stops[best] - value)) best = i;
      return best;
    };
    const change = (value) => { if (value !== model.get(trait)) self.set({ [trait]: value }); };
    const home = typeof reset === "function" ? reset : () => reset;
    const range = h("input", { type: "range", id, min: 0, max: stops.length - 1, step: 1, title,
      "data-lm-suppress-shortcuts": "true", dataset: { trait },
      oninput: () => change(stored(stops[Number(range.value)])), ondblclick: () => change(home()) });
    const commit = () => {
      const value = (parse ?? Number)(field.value.trim());
      if (value === undefined || Number.isNaN(value)) field.setAttribute("aria-invalid", "true");
      else { field.removeAttribute("aria-invalid"); change(value); }
      field.value = format(model.get(trait));
    };
    // JupyterLab keeps Enter to itself, and the browser then sends no change event before the field is left.
    const field = h("input", { type: "text", class: "al-value", "aria-label": `${label}, exact value`,
      "data-lm-suppress-shortcuts": "true", autocomplete: "off", spellcheck: "false", onchange: commit,
      onkeydown: (event) => { if (event.key === "Enter") { event.stopPropagation(); commit(); } } });
    const back = h("button", { class: "al-reset", type: "button", "data-lm-suppress-shortcuts": "true",
      onclick: () => change(home()) }, "↺");
    const row = h("div", { class: "al-slider", dataset: { trait } },
      h("label", { for: id, title }, label), range, field, back, note ? h("span", { class: "al-note" }, note) : null);
    let shown, goal;
    const show = () => {
      const value = model.get(trait), to = home();
      if (to !== goal) {
        goal = to;
        back.title = `Back to ${format(to)}`;
        back.setAttribute("aria-label", `${label}: back to ${format(to)}`);
      }
      back.disabled = value === to;
      if (value === shown) return;
      shown = value;
      const text = format(value);
      const at = nearest(placed(value));
      if (Number(range.value) !== at) range.value = at;
      if (document.activeElement !== field) field.value = text;
      range.setAttribute("aria-valuetext", text);
    };
    for (const name of [trait, ...resetOn]) {
      model.on(`change:${name}`, show);
      undo.push(() => model.off(`change:${name}`, show));
    }
    self.watch([trait]);
    show();
    return row;
  };
  const button = (text, onclick, props = {}) => h("button", {
    type: "button", class: "al-button", "data-lm-suppress-shortcuts": "true", onclick, ...props }, text);
  // A few exclusive choices, bound to a trait. options: [{ value, label, title }]
  const segmented = ({ trait, label, options }) => {
    const buttons = options.map((option) => button(option.label, () => self.set({ [trait]: option.value }),
      { class: "al-segment", title: option.title, dataset: { value: String(option.value) } }));
    const show = () => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i].value === model.get(trait))));
    self.watch([trait], show);
    show();
    return h("div", { class: "al-segmented", role: "group", "aria-label": label, dataset: { trait } },
      label ? h("span", { class: "al-label" }, label) : null, h("span", { class: "al-segments" }, buttons));
  };
  const checkbox = ({ trait, label, title }) => {
    const box = h("input", { type: "checkbox", "data-lm-suppress-shortcuts": "true", dataset: { trait },
      onchange: () => self.set({ [trait]: box.checked }) });
    const show = () => { box.checked = Boolean(model.get(trait)); };
    self.watch([trait], show);
    show();
    return h("label", { class: "al-checkbox", title }, box, ` ${label}`);
  };
  // A canvas as wide as its place and `height` high: draw(ctx, width, height, theme) in CSS pixels, after each redraw.
  // Height may be a number or a function of the width. Pass paint: false and call .paint() to draw it yourself.
  const canvas = ({ height, label, draw: drawing, paint: auto = true }) => {
    const canvas = h("canvas", { class: "al-canvas", role: "img", "aria-label": label });
    const box = h("div", { class: "al-canvas-box" }, canvas);
    const ctx = canvas.getContext("2d");
    let width = 0, tall = 0, ratio = 0;
    const resize = () => {
      const w = Math.max(1, Math.round(box.clientWidth)), t = typeof height === "function" ? height(w) : height;
      const r = globalThis.devicePixelRatio || 1;
      if (w === width && t === tall && r === ratio) return;
      [width, tall, ratio] = [w, t, r];
      canvas.width = Math.round(w * r);
      canvas.height = Math.round(t * r);
      canvas.style.height = box.style.height = `${t}px`;
      self.redraw();
    };
    const paintNow = () => {
      if (!width) resize();
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, tall);
      drawing(ctx, width, tall, self.theme);
    };
    const sizes = new ResizeObserver(resize);
    sizes.observe(box);
    undo.push(() => sizes.disconnect());
    if (auto) painters.push(paintNow);
    return { box, canvas, ctx, paint: paintNow, resize, get width() { return width; }, get height() { return tall; } };
  };

  return { slider, button, segmented, checkbox, canvas };
};

// Error propagation: one error in the answer, what every model writes after it, and all errors together.
function render({ model, el }) {
  const { h, setText } = arlab;
  const { NOTHING } = errorNumbers;
  const view = arlab.view(model, el, { label: "Error propagation", draw });
  const { live } = view;
  const OFFLINE = "This is a saved page: every error can be looked at, another source needs the notebook.";
  const unique = `ep-${Math.random().toString(36).slice(2, 8)}`;
  const state = { run: null, text: (id) => arlab.visible(view.get("rollouts").strings[id] ?? `#${id}`) };
  const here = () => { const p = view.get("position"); return [p, state.run.column(p, view.get("symbol"))]; };
  const put = (p, c) => view.set({ position: p, symbol: c < state.run.choices.length ? state.run.choices[c] : null });
  const go = (p) => view.set({ position: p });
  const chosen = () => state.run.choices.indexOf(view.get("symbol")); // -1 for no error; also where it is the right symbol
  const keys = (element) => heat.arrows(element, { rows: () => state.run.choices.length, cols: () => state.run.time,
    current: () => [chosen(), view.get("position")], move: (c, p) => (p === view.get("position") ? put(p, c) : go(p)) });

  // ---- another source ------------------------------------------------------------------------------------------------
  let busy = false;
  const ask = async () => {
    if (!live || busy) return;
    busy = true;
    view.redraw();
    await view.ask("run", { text: field.value });
    busy = false;
    view.redraw();
  };
  const field = h("input", { type: "text", class: "ep-field al-token", "aria-label": "Source", dir: "auto", autocomplete: "off", spellcheck: "false", readonly: !live,
    "data-lm-suppress-shortcuts": "true", title: live ? "Enter runs the models on it" : OFFLINE,
    onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); event.stopPropagation(); ask(); } } });
  const runButton = view.button("Run", ask, { class: "al-button al-primary", title: live ? "Run every model after every error for this source" : OFFLINE });
  const again = view.get("_can_recompute");
  const source = h("span", { class: "ep-source" });

  // ---- which error -----------------------------------------------------------------------------------------------------
  const list = (label, onchange) => h("select", { "data-lm-suppress-shortcuts": "true", "aria-label": label, onchange });
  const positions = list("Position of the error", () => go(Number(positions.value)));
  const symbols = list("Symbol put there", () => view.set({ symbol: symbols.value === "" ? null : Number(symbols.value) }));
  const without = view.button("No error", () => view.set({ symbol: null }), { title: "Put the right symbol there: what the models write by themselves" });
  const story = h("p", { class: "ep-story", role: "status" });

  // ---- the rows: everything on one grid of positions ---------------------------------------------------------------------
  const numbers = h("div", { class: "ep-row ep-numbers", "aria-hidden": "true" });
  const answer = h("div", { class: "ep-row ep-answer", role: "listbox", tabindex: 0, "data-lm-suppress-shortcuts": "true",
    "aria-label": "The right answer. Left and right move the error, up and down change its symbol" });
  const wanted = h("div", { class: "ep-row ep-wanted" }), wantedHead = h("div", { class: "ep-head" }, h("span", { class: "al-label" }, "right after this error"));
  const lanes = h("div", {});
  const scroller = h("div", { class: "ep-scroll" }, h("div", { class: "ep-inner" },
    h("div", { class: "ep-head" }, h("span", { class: "al-label" }, "right answer")), numbers, answer, wantedHead, wanted, lanes));
  answer.addEventListener("click", (event) => { const cell = event.target.closest(".ep-cell"); if (cell) go(Number(cell.dataset.t)); });
  keys(answer);

  const maps = h("div", { class: "ep-maps" });
  const chart = errorCharts.distances(view, state);
  const count = h("p", { class: "al-note" });
  const key = (kind, text, props = {}) => h("span", {}, h("i", { class: "ep-cell", dataset: { kind, ...props } }, "3"), ` ${text}`);
  const stop = (share) => ({ colour: view.theme.sequential[Math.round(25 + 230 * share)], text: share.toFixed(share % 1 ? 1 : 0) });
  const ramp = h("span", {});

  view.root.append(...[
    h("h3", {}, "Error propagation"),
    h("p", {}, "The models are told the right answer up to one error. From there on each reads only what it wrote itself."),
    again && h("div", { class: "ep-ask" }, h("label", { class: "al-label" }, "source"), field, runButton),
    again && !live && h("p", { class: "al-note" }, OFFLINE),
    h("div", { class: "ep-controls" }, !again && source, h("label", { class: "ep-select" }, "position ", positions), h("label", { class: "ep-select" }, "write ", symbols), without),
    story, scroller,
    h("div", { class: "al-legend ep-legend" }, key("given", "told, right"), key("error", "the error"), key("right", "right"), key("right", "the first right one", { first: "1" }), key("wrong", "wrong")),
    h("div", { class: "al-panel ep-all" },
      h("div", {}, h("h4", {}, "Right, by distance from the error"), chart.box,
        h("p", { class: "al-note" }, "Solid: mean over all errors at all positions. Dashed: the same positions without an error. Far distances come from early errors alone."), count),
      h("div", {}, h("h4", {}, "Share right after each error"), maps, h("p", { class: "al-note" }, "Across: position of the error; down: the symbol; dots: the right symbol. Click, or use the arrow keys.  ", ramp))),
  ].filter(Boolean));

  // ---- building, once for each run of the models ---------------------------------------------------------------------------
  let rows = [], pictures = [], built = null, seen = -1, legendTheme = null;
  const cells = (row, props = () => ({})) => {
    const made = state.run.answer.map((_, t) => h("div", { class: "ep-cell", ...props(t), dataset: { t } }));
    row.replaceChildren(...made);
    return made;
  };
  function build() {
    const { run } = state;
    scroller.style.setProperty("--ep-time", run.time);
    numbers.replaceChildren(...run.answer.map((_, t) => h("div", {}, String(t))));
    rows = [];
    rows.answer = cells(answer, (t) => ({ role: "option", id: `${unique}-${t}`, "aria-label": `position ${t}, ${state.text(run.answer[t])}` }));
    rows.answer.forEach((cell, t) => setText(cell, state.text(run.answer[t])));
    rows.wanted = cells(wanted);
    wanted.hidden = wantedHead.hidden = !run.depends;
    lanes.replaceChildren(...run.names.map((name, m) => {
      const row = h("div", { class: "ep-row", role: "img" }), figure = (what) => { const value = h("b", { dataset: { figure: what, model: m } }); return value; };
      const one = { row, cells: cells(row), right: figure("right"), first: figure("first"), stays: figure("stays"), without: figure("without") };
      rows.push(one);
      return h("div", { class: "ep-lane" }, h("div", { class: "ep-head" }, h("span", { class: "ep-title" }, errorCharts.mark(m), h("span", { class: "ep-name", title: name }, arlab.visible(name))),
        h("span", { class: "ep-figures" }, h("span", {}, one.right, " right after the error"), h("span", { title: "The first right symbol after the error" }, "first right ", one.first),
          h("span", { title: "From where on all symbols are right, counted from the error" }, "for good ", one.stays), h("span", { title: "Right at the same places where the right symbol is put there" }, "without the error ", one.without))), row);
    }));
    positions.replaceChildren(...run.answer.map((id, t) => h("option", { value: t }, `${t}: ${state.text(id)}`)));
    symbols.replaceChildren(h("option", { value: "" }, "the right symbol"), ...run.choices.map((id) => h("option", { value: id }, state.text(id))));
    pictures = run.names.map((_, m) => errorCharts.map(view, state, m, { here: () => [view.get("position"), chosen()], choose: put, keys }));
    maps.replaceChildren(...pictures.map(({ box }) => box));
    setText(count, `${run.errors} errors for each model, each followed to the end of the answer.`);
    source.replaceChildren(...(view.get("rollouts").source.length ? [h("span", { class: "al-label" }, "source "), ...view.get("rollouts").source.map((token) => h("span", { class: "al-token ep-token" }, arlab.visible(token)))] : []));
  }

  // ---- drawing -----------------------------------------------------------------------------------------------------------
  const set = (cell, text, kind, first = "") => {
    setText(cell, text);
    if (cell.dataset.kind !== kind) cell.dataset.kind = kind;
    if ((cell.dataset.first ?? "") !== first) cell.dataset.first = first;
  };
  const later = (n) => (n === null ? "never" : n === 1 ? "at once" : `after ${n - 1} wrong`);
  function draw() {
    if (built !== view.get("rollouts")) {
      built = view.get("rollouts");
      seen = -1;
      state.run = errorNumbers.read(built);
      build();
    }
    const { run } = state, [p, c] = here(), none = c === run.none;
    const what = none ? run.answer[p] : run.choices[c];
    rows.answer.forEach((cell, t) => { cell.setAttribute("aria-selected", String(t === p)); set(cell, cell.textContent, "given"); });
    answer.setAttribute("aria-activedescendant", `${unique}-${p}`);
    if (run.depends) rows.wanted.forEach((cell, t) => set(cell, t < p ? "" : t === p ? state.text(what) : state.text(run.right(p, c, t)), t < p ? "empty" : t === p && !none ? "error" : "given"));
    const found = run.names.map((_, m) => run.after(m, p, c));
    rows.forEach((row, m) => {
      const one = found[m];
      row.cells.forEach((cell, t) => {
        if (t < p || (t === p && none)) { set(cell, state.text(run.answer[t]), "given"); return; }
        if (t === p) { set(cell, state.text(what), "error"); return; }
        const id = run.token(m, p, c, t), right = run.hit(m, p, c, t);
        set(cell, id === NOTHING ? "–" : state.text(id), right ? "right" : "wrong", !none && t - p === one.first ? "1" : "");
      });
      const by = run.after(m, p, run.none);
      setText(row.right, one.of ? `${one.right} of ${one.of}` : "nothing");
      setText(row.first, none ? "–" : later(one.first));
      setText(row.stays, none ? "–" : one.stays === null ? "never" : one.stays === 1 ? "at once" : `from +${one.stays}`);
      setText(row.without, by.of ? `${by.right} of ${by.of}` : "nothing");
      row.row.setAttribute("aria-label", `${run.names[m]} writes ${row.cells.slice(p + 1).map((cell) => `${cell.textContent}${cell.dataset.kind === "wrong" ? " (wrong)" : ""}`).join(" ") || "nothing more"}`);
    });
    if (Number(positions.value) !== p) positions.value = p;
    const symbol = view.get("symbol") === null ? "" : String(view.get("symbol"));
    if (symbols.value !== symbol) symbols.value = symbol;
    without.disabled = none;
    const title = state.text(run.answer[p]), rest = run.time - 1 - p, more = rest === 1 ? "1 symbol follows" : `${rest} symbols follow`;
    const apart = (text) => h("bdi", {}, text); // letters from right to left would turn the numbers around
    story.replaceChildren(...(none ? [`Position ${p} is right (`, apart(title), `): no error. ${more}, written by the models alone.`]
      : [`At position ${p} the models are told `, apart(state.text(what)), "; ", apart(title), ` would be right. ${rest ? `${more}.` : "Nothing follows: choose an earlier position."}`]));
    if (legendTheme !== view.theme) {
      legendTheme = view.theme;
      ramp.replaceChildren(heat.legend([0, 0.5, 1].map(stop)));
    }
    runButton.disabled = !live || busy;
    if (p !== seen) { // a long answer is scrolled to where the error is
      seen = p;
      const cell = rows.answer[p], from = scroller.scrollLeft, room = scroller.clientWidth;
      if (cell.offsetLeft < from || cell.offsetLeft + cell.offsetWidth > from + room) scroller.scrollLeft = cell.offsetLeft - room / 3;
    }
    for (const picture of pictures) picture.paint();
    chart.paint();
    view.report(() => ({ page_figures: { position: p, right: found.map((one) => one.right), of: found[0].of, first: found.map((one) => one.first),
      stays: found.map((one) => one.stays), mean: run.models.map((one) => one.mean), mean_without: run.models.map((one) => one.meanWithout),
      by_distance: run.models.map((one) => one.byDistance), without: run.models.map((one) => one.without) } }));
  }

  const showSource = () => { if (field.value !== view.get("source_text")) field.value = view.get("source_text"); };
  view.watch(["rollouts", "position", "symbol"]);
  view.watch(["source_text"], showSource);
  showSource();
  return view.start();
}
export default { render };

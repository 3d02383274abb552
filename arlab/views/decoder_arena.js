// Decoder arena: the frontier, and the strategies in rows below it; a row and its point know of each other.
function render({ model, el }) {
  const { h, setText } = arlab;
  const { MEASURES } = arenaRow;
  const view = arlab.view(model, el, { label: "Decoder arena", draw });
  const get = (name) => model.get(name);
  const N = 4; // of the repeated n-grams, as in measures.repetition
  const names = get("rows").map(({ name }) => name), expected = get("expected");
  const several = get("rows").some(({ samples }) => samples.length > 1);
  const columns = Object.keys(MEASURES).filter((name) => (name === "agreement" ? several : name !== "answer" || expected.length > 0));
  const OFFLINE = "A saved page: for another seed, open the notebook and run it.";
  const FINISHED = "Made from finished outcomes: there are no strategies to run.";

  // ---- what the hand is on: rows and points together; it is nobody's business but the page's -------------------------------
  const on = { hand: new Set(), keys: new Set() }; // the hand goes before the focus, which stays where it is
  const pointed = () => (on.hand.size ? on.hand : on.keys);
  const point = (list, how = "hand") => {
    if (list.length === on[how].size && list.every((name) => on[how].has(name))) return;
    on[how] = new Set(list);
    view.redraw();
  };
  const toggle = (name) => view.set({ unfolded: get("unfolded").includes(name) ? get("unfolded").filter((other) => other !== name) : [...get("unfolded"), name] });

  // ---- seed and run ----------------------------------------------------------------------------------------------------------
  const canRun = view.live && get("_can_run");
  const commit = () => {
    const good = /^\d{1,10}$/.test(seed.value.trim()) && Number(seed.value) < 2 ** 32;
    if (good) seed.removeAttribute("aria-invalid");
    else { seed.setAttribute("aria-invalid", "true"); view.fail(`The seed is “${seed.value}”; it must be a whole number from 0 to 4294967295.`); }
    return good;
  };
  let asked = false;
  const busy = () => asked || get("progress").running !== "";
  const run = async () => {
    if (!canRun || busy() || !commit()) return;
    asked = true;
    view.redraw();
    await view.ask("run", { seed: Number(seed.value) });
    asked = false;
    view.redraw();
  };
  const seed = h("input", { type: "text", class: "da-seed", inputmode: "numeric", autocomplete: "off", "aria-label": "Seed",
    "data-lm-suppress-shortcuts": "true", disabled: !canRun,
    onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); event.stopPropagation(); run(); } } });
  seed.value = String(get("seed"));
  const runButton = view.button("Run", run, { class: "al-button al-primary" });
  const nextButton = view.button("Next seed", () => { seed.value = String((get("seed") + 1) % 2 ** 32); run(); }, { title: "The seed shown, and one more" });
  const state = h("span", { class: "da-state al-note", role: "status" });

  // ---- the frontier --------------------------------------------------------------------------------------------------------------
  const stateOf = (name) => { const { running, waiting } = get("progress"); return name === running ? "running" : waiting.includes(name) ? "waiting" : ""; };
  const plane = frontier.panel(view, {
    measures: MEASURES, shown: () => [...new Set([...columns, get("x"), get("y")])], pointed, point,
    points: () => get("rows").map((row) => ({ name: row.name, values: row, old: row.seed !== get("seed") || stateOf(row.name) !== "" })),
    choose: (name) => {
      toggle(name);
      rows.get(name).body.scrollIntoView({ block: "nearest" });
    },
  });
  const sizes = new ResizeObserver(() => view.redraw());
  sizes.observe(plane.field);

  // ---- the table ------------------------------------------------------------------------------------------------------------------
  // A column is sorted from its best end first, then from the other, then as given.
  const best = (column) => column !== "name" && MEASURES[column].way > 0;
  const sortBy = (column) => view.set(get("sort") !== column ? { sort: column, descending: best(column) }
    : get("descending") === best(column) ? { descending: !best(column) } : { sort: "" });
  const heads = ["name", ...columns].map((column) => {
    const arrow = h("span", { class: "da-arrow", "aria-hidden": "true" });
    const { short, title } = MEASURES[column] ?? { short: "strategy", title: "By name" };
    const button = h("button", { type: "button", class: "da-sort", "data-lm-suppress-shortcuts": "true", title, onclick: () => sortBy(column) }, short, arrow);
    return { column, arrow, cell: h("th", { scope: "col", dataset: { column } }, button) };
  });
  const move = (name, step) => {
    const now = order.indexOf(name), to = order[Math.max(0, Math.min(order.length - 1, now + step))];
    rows.get(to).button.focus();
  };
  const rows = new Map(names.map((name) => [name, arenaRow.make(name, { columns, n: N, toggle, point, move, redraw: view.redraw })]));
  const table = h("table", { class: "da-table" }, h("thead", {}, h("tr", {}, heads.map(({ cell }) => cell))), [...rows.values()].map(({ body }) => body));
  let order = names;
  const sorted = () => {
    const column = get("sort"), sign = get("descending") ? -1 : 1, all = get("rows");
    if (!column) return names;
    const value = (row) => row[column];
    return [...all].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // without a value: last, either way
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    }).map(({ name }) => name);
  };
  const arrange = () => {
    const next = sorted();
    if (busy() || next.every((name, i) => name === order[i])) return; // rows that jump about while they come cannot be read
    const focused = document.activeElement;
    order = next;
    table.append(...order.map((name) => rows.get(name).body));
    if (table.contains(focused)) focused.focus({ preventScroll: true });
  };

  // ---- the whole -----------------------------------------------------------------------------------------------------------------------
  const untold = get("rows").some(({ samples }) => samples.some(({ ids, pieces }) => ids.length && !pieces.length));
  const unfold = view.button("Unfold all", () => view.set({ unfolded: get("unfolded").length === names.length ? [] : names }));
  const underline = view.checkbox({ trait: "underline", label: `underline repeated ${N}-grams`,
    title: "Tokens of every run of four that the text has had before: what the column repetition counts" });
  view.root.append(...[
    h("h3", {}, "Decoder arena"),
    h("div", { class: "da-prompt", role: "region", tabindex: 0, "aria-label": "Prompt", "data-lm-suppress-shortcuts": "true" },
      h("span", { class: "da-what" }, "Prompt "), ...(get("prompt_text") ? arenaRow.lines(get("prompt_text")) : [h("span", { class: "da-empty" }, "none")])),
    expected.length && h("p", { class: "da-expected" }, "Expected answer: ", expected.flatMap((text, i) => [i ? " or " : "", h("b", {}, arenaRow.prose(text))]),
      ". A text that contains it is marked ✓; what it says about it is for you to read."),
    h("div", { class: "al-buttons da-run" }, h("label", { class: "al-label" }, "Seed ", seed), runButton, nextButton, state),
    plane.box,
    h("div", { class: "al-buttons da-tools" }, h("h4", {}, "Texts"), unfold, untold ? null : underline,
      h("span", { class: "al-note" }, untold ? "Without a tokenizer the texts cannot be cut where tokens end: no underlining." : "")),
    table,
  ].filter(Boolean));

  // ---- drawing ---------------------------------------------------------------------------------------------------------------------------
  view.watch(["rows", "progress", "unfolded", "sort", "descending", "x", "y", "underline"]);
  view.watch(["seed"], () => { seed.value = String(get("seed")); });
  function draw() {
    const { running, waiting } = get("progress"), all = get("rows"), unfolded = get("unfolded");
    const most = { seconds: Math.max(...all.map((row) => row.seconds ?? 0)) };
    arrange();
    for (const row of all) {
      rows.get(row.name).update(row, { open: unfolded.includes(row.name), underline: get("underline"), pointed: pointed().has(row.name),
        state: stateOf(row.name), seed: get("seed"), most });
    }
    for (const { column, arrow, cell } of heads) {
      const sorts = get("sort") === column;
      setText(arrow, sorts ? (get("descending") ? " ↓" : " ↑") : "");
      cell.setAttribute("aria-sort", sorts ? (get("descending") ? "descending" : "ascending") : "none");
    }
    plane.draw();
    setText(unfold, unfolded.length === names.length ? "Fold all" : "Unfold all");
    runButton.disabled = nextButton.disabled = !canRun || busy();
    const old = all.filter((row) => row.seed !== get("seed")).length;
    setText(state, !view.live ? OFFLINE : !canRun ? FINISHED
      : running ? `${running} is running, ${names.length - waiting.length} of ${names.length} …`
        : asked ? "waiting for the kernel …"
          : old ? `${old} of ${names.length} rows are from an earlier seed.` : `All rows are from seed ${get("seed")}; what draws nothing is the same with every seed.`);
  }
  const close = view.start();
  return () => { sizes.disconnect(); close(); };
}
export default { render };

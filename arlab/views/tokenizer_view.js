// Tokenizers: one text cut in several ways, and the shifted table of one of them. The kernel cuts; the page draws.
function render({ model, el }) {
  const { h, setText, thousands, visible } = arlab;
  const view = arlab.view(model, el, { label: "Tokenizers", draw });
  view.root.classList.add("tv");
  const get = (name) => model.get(name);
  const symbols = get("symbols"), count = symbols.length;
  const OFFLINE = "This is a saved page: it shows the text it was saved with. To cut another text, open the notebook and run it.";
  const MARKS = /([␣⏎⇥␍]|⟨[^⟩]+⟩)/;
  // A token's text, its spaces and line ends made visible and set apart from real letters by their colour.
  const marked = (text) => visible(text).split(MARKS).map((part, i) => (i % 2 ? h("span", { class: "tv-mark" }, part) : part));
  const plural = (n, what) => `${thousands(n)} ${what}${n === 1 ? "" : "s"}`;
  const ratio = (a, b) => (b ? (a / b).toFixed(2) : "–");

  // ---- the text --------------------------------------------------------------------------------------------------
  const area = h("textarea", { class: "tv-text", rows: 3, spellcheck: "false", autocomplete: "off", "aria-label": "Text to cut into tokens",
    "data-lm-suppress-shortcuts": "true", readonly: !view.live, oninput: () => later() });
  const sizes = h("div", { class: "al-note tv-sizes" });
  let timer = 0, pending = 0; // pending: questions on their way; while one types on, answers do not touch the field
  const later = () => { clearTimeout(timer); timer = setTimeout(cut, 180); };
  const cut = async () => {
    timer = 0;
    pending++;
    await view.ask("text", { text: area.value });
    pending--;
  };
  const shown = () => { if (!timer && !pending && area.value !== get("result").text) area.value = get("result").text; };
  area.value = get("result").text;

  // ---- one block a tokenizer ------------------------------------------------------------------------------------------
  let cursor = { block: 0, n: -1 };
  const blocks = symbols.map(({ name, vocab_size }, block) => {
    const figures = ["tokens", "characters a token", "bytes a token"].map((what) => {
      const value = h("b", { dataset: { figure: what } });
      return { value, box: h("span", { class: "tv-figure" }, value, ` ${what}`) };
    });
    const bar = h("i", { class: "tv-bar" }), remark = h("div", { class: "tv-remark al-note" });
    const tokens = h("div", { class: "tv-tokens", role: "listbox", tabindex: 0, "data-lm-suppress-shortcuts": "true",
      "aria-label": `Tokens of ${name}; left and right choose one`, onkeydown: (event) => step(event, block) });
    const at = (event) => {
      const one = event.target.closest?.("[data-n]");
      if (one) point(block, Number(one.dataset.n));
    };
    tokens.addEventListener("mouseover", at);
    tokens.addEventListener("click", at);
    const box = h("section", { class: "tv-block", "aria-label": name, dataset: { tokenizer: name } },
      h("div", { class: "tv-head" }, h("h4", {}, name), figures.map((figure) => figure.box),
        vocab_size ? h("span", { class: "tv-figure" }, `vocabulary ${thousands(vocab_size)}`) : null),
      h("div", { class: "tv-track" }, bar), tokens, remark);
    return { box, figures: figures.map((figure) => figure.value), bar, tokens, remark, spans: [] };
  });
  const readout = h("div", { class: "tv-readout al-label", "aria-live": "polite" });
  const point = (block, n) => {
    cursor = { block, n };
    view.redraw();
  };
  const step = (event, block) => {
    const last = blocks[block].spans.length - 1, now = cursor.block === block ? cursor.n : -1;
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: last }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (last < 0) return;
    point(block, Math.max(0, Math.min(last, to)));
    blocks[block].spans[cursor.n].scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const unique = `tv-${Math.random().toString(36).slice(2, 8)}`;
  const fill = (block, row) => {
    const { tokens, remark, figures, bar } = blocks[block], { text, bytes, rows } = get("result");
    const n = row.ids.length, refused = Boolean(row.error);
    setText(figures[0], refused ? "–" : thousands(n));
    setText(figures[1], ratio([...text].length, n));
    setText(figures[2], ratio(bytes, n));
    bar.style.width = `${(100 * n) / Math.max(1, ...rows.map((other) => other.ids.length))}%`;
    if (refused) {
      const unknown = new Set(row.unknown);
      blocks[block].spans = [];
      tokens.replaceChildren(...[...text].map((c, place) => (unknown.has(place)
        ? h("span", { class: "tv-unknown al-token", title: `position ${place}` }, ...marked(c)) : c === "\n" ? h("br") : c)));
    } else {
      blocks[block].spans = row.strings.map((string, i) => h("span", { class: "tv-token", role: "option", id: `${unique}-${block}-${i}`,
        dataset: { n: i, tint: i % 4, kind: row.kinds[i] } }, h("span", { class: "al-token" }, ...marked(string)), h("small", {}, String(row.ids[i]))));
      tokens.replaceChildren(...blocks[block].spans.flatMap((span, i) => (row.strings[i].includes("\n") ? [span, h("br")] : [span])));
    }
    remark.dataset.error = refused ? "1" : "";
    setText(remark, refused ? row.error : row.back !== null ? `decode(ids) gives another text: “${visible(row.back)}”` : "decode(ids) gives the same text again.");
  };

  // ---- the shifted table ----------------------------------------------------------------------------------------------------
  const TABLE_ROWS = 200;
  const choices = count > 1 ? view.segmented({ trait: "chosen", label: "Tokens of", options: symbols.map(({ name }) => ({ value: name, label: name })) }) : "";
  const ends = view.checkbox({ trait: "ends", label: "start and end symbol", title: "Where the tokenizer has them" });
  const length = view.slider({ trait: "length", label: "Row length", stops: arlab.steps(0, 64, 1), reset: 0,
    format: (value) => (value === 0 ? "as is" : String(value)), title: "Cut or fill the row to so many inputs",
    parse: (text) => (/^\d+$/.test(text) && Number(text) <= 64 ? Number(text) : undefined) });
  const said = h("p", { class: "tv-said", "aria-live": "polite" });
  const body = h("tbody");
  const table = h("div", { class: "tv-table", role: "region", tabindex: 0, "aria-label": "Inputs and targets", "data-lm-suppress-shortcuts": "true" },
    h("table", {}, h("thead", {}, h("tr", {}, ["t", "the model has read", "input", "id", "target", "id"].map((text) => h("th", {}, text)))), body));
  const panel = h("div", { class: "al-panel" }, h("h4", {}, "Inputs and targets: the same text, one token on"),
    h("div", { class: "tv-options" }, choices, ends), length, said, table);
  const fillTable = (row) => {
    const { strings, bos_id, eos_id, pad_id } = symbols.find(({ name }) => name === row.name);
    const use = get("ends"), known = new Map(row.ids.map((id, i) => [id, row.strings[i]]));
    for (const [id, string] of Object.entries(strings)) known.set(Number(id), string);
    const pad = pad_id ?? 0;
    if (row.error) { say(row.error, []); return; }
    const { inputs, targets, cut: lost, filled } = shiftTable.pairs(row.ids,
      { bos: use ? bos_id : null, eos: use ? eos_id : null, pad, length: get("length") });
    const real = inputs.length - filled;
    if (real < 1) { say("Nothing to predict: a pair needs two tokens, start and end symbol counted.", []); return; }
    const texts = [`${plural(real, "prediction")} from one row`];
    if (use && bos_id === null && eos_id === null) texts.push("this tokenizer has no start and no end symbol");
    if (lost) texts.push(`${plural(lost, "token")} cut off at the end: nothing is learnt from ${lost === 1 ? "it" : "them"}`);
    if (filled) texts.push(`${plural(filled, "position")} filled${pad_id === null ? " (with id 0, for there is no <pad>)" : ""}: target ${shiftTable.IGNORE}, which the loss leaves out`);
    let read = "";
    const rows = inputs.slice(0, TABLE_ROWS).map((id, t) => {
      const fill = t >= real, name = fill && pad_id === null ? "0" : known.get(id);
      read += visible(known.get(id) ?? "");
      const letters = [...read];
      return h("tr", { class: fill ? "tv-fill" : "", dataset: { input: id, target: targets[t] } }, h("td", {}, String(t + 1)),
        h("td", { class: "al-token tv-read" }, fill ? "" : letters.length > 34 ? `…${letters.slice(-34).join("")}` : read),
        h("td", { class: "al-token" }, ...marked(name)), h("td", {}, String(id)),
        h("td", { class: "al-token" }, ...(fill ? ["not counted"] : marked(known.get(targets[t])))), h("td", {}, String(targets[t])));
    });
    if (inputs.length > TABLE_ROWS) texts.push(`the first ${TABLE_ROWS} are shown`);
    say(`${texts.join("; ")}.`, rows);
  };
  const say = (text, rows) => { setText(said, text); body.replaceChildren(...rows); table.hidden = !rows.length; };

  view.root.append(
    h("h3", {}, "From text to tokens"),
    h("p", {}, view.live ? "Type: each tokenizer cuts the text anew. ␣ stands for a space, ⏎ for a line end; neither is in the text." : OFFLINE),
    area, sizes,
    h("div", { class: "al-buttons tv-options" }, view.checkbox({ trait: "show_ids", label: "show ids" }),
      view.checkbox({ trait: "show_table", label: "inputs and targets" })),
    ...blocks.map(({ box }) => box), readout, panel);

  // ---- drawing -------------------------------------------------------------------------------------------------------------------
  let drawnResult = null, drawnTable = "";
  view.watch(["result"], shown);
  view.watch(["show_ids", "show_table", "chosen", "ends", "length"]);
  function draw() {
    const result = get("result"), { rows, text } = result;
    if (result !== drawnResult) {
      cursor = { block: 0, n: -1 };
      rows.forEach((row, block) => fill(block, row));
      setText(sizes, `${plural([...text].length, "character")}, ${plural(result.bytes, "byte")} in UTF-8`);
    }
    view.root.classList.toggle("tv-ids", get("show_ids"));
    const now = rows[cursor.block], id = cursor.n >= 0 ? now.ids[cursor.n] : null;
    blocks.forEach(({ spans, tokens }, block) => {
      spans.forEach((span, i) => {
        const on = block === cursor.block && i === cursor.n, same = !on && block === cursor.block && rows[block].ids[i] === id;
        const mark = on ? "on" : same ? "same" : "";
        if (span.mark === mark) return;
        span.mark = span.dataset.mark = mark;
        span.setAttribute("aria-selected", String(on));
      });
      if (block === cursor.block && cursor.n >= 0) tokens.setAttribute("aria-activedescendant", spans[cursor.n].id);
      else tokens.removeAttribute("aria-activedescendant");
    });
    setText(readout, id === null ? "Point at a token, or choose one with the arrow keys." : about(now));
    panel.hidden = !get("show_table");
    const key = ["chosen", "ends", "length"].map(get).join("\n");
    if (!panel.hidden && (result !== drawnResult || key !== drawnTable || !body.firstChild)) {
      drawnTable = key;
      fillTable(rows.find((row) => row.name === get("chosen")));
    }
    drawnResult = result;
  }
  function about(row) {
    const { n } = cursor, id = row.ids[n], times = row.ids.filter((other) => other === id).length;
    const kinds = { special: ", a special symbol", part: ", part of a character" };
    const size = [row.kinds[n] === "part" ? null : plural([...row.strings[n]].length, "character"),
      row.bytes[n] === null ? null : plural(row.bytes[n], "byte")].filter(Boolean).join(", ");
    return [`${row.name}, token ${n + 1} of ${row.ids.length}: “${visible(row.strings[n])}”, id ${id}${kinds[row.kinds[n]] ?? ""}`,
      size, times > 1 ? `${times} times in this text` : ""].filter(Boolean).join("; ");
  }
  const close = view.start();
  return () => { clearTimeout(timer); close(); };
}
export default { render };

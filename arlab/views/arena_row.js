// One strategy of the arena: its name, its measures with small bars, and its text with what it repeats underlined.
const arenaRow = (() => {
  const { h, setText, thousands } = arlab;
  const minus = (text) => text.replace("-", "−");
  const fixed = (value) => minus(value.toFixed(2));

  // ---- the measures --------------------------------------------------------------------------------------------------
  // way: 1 where more of the number is more of what `more` says. bar(value, largest): its length, from 0 to 1.
  const share = (value) => Math.max(0, Math.min(1, value));
  const MEASURES = {
    logprob: { label: "log p per token", short: "log p / token", way: 1, more: "likelier", format: fixed, bar: (v) => share(Math.exp(v)),
      title: "Mean log-probability of a token under the raw model, in nats. The bar is its exponential, the typical probability of a token" },
    repetition: { label: "repetition", short: "repetition", way: -1, more: "repeats less", format: fixed, bar: share,
      title: "Share of 4-grams that the text has had before" },
    distinct: { label: "distinct bigrams", short: "distinct", way: 1, more: "more varied", format: fixed, bar: share,
      title: "Share of different bigrams among those of all texts of the row together. It falls with the amount of text: compare rows of equally many" },
    diversity: { label: "diversity", short: "diversity", way: 1, more: "more diverse", format: fixed, bar: share,
      title: "Product of 1 − repetition for n = 2, 3 and 4: near 0 for a loop" },
    agreement: { label: "agreement", short: "agreement", way: -1, more: "samples differ more", format: fixed, bar: share,
      title: "Share of one text's bigrams that another text of the row has too" },
    seconds: { label: "seconds", short: "seconds", way: -1, more: "quicker", bar: (v, most) => share(v / (most || 1)),
      format: (v) => (v < 0.1 ? v.toFixed(3) : v < 10 ? v.toFixed(2) : v < 100 ? v.toFixed(1) : thousands(Math.round(v))),
      title: "Wall time of the whole row. The bar is a part of the slowest row's" },
    answer: { label: "has the answer", short: "answer", way: 1, more: "more often", format: (v) => arlab.percent(v), bar: share,
      title: "Share of the row's texts that contain the expected answer" },
  };

  // ---- repeated n-grams ------------------------------------------------------------------------------------------------
  // Which tokens lie in an n-gram that the text has had before; and how many of its n-grams are such.
  const repeats = (ids, n) => {
    const seen = new Set(), marked = ids.map(() => false);
    let again = 0;
    for (let i = 0; i + n <= ids.length; i++) {
      const gram = ids.slice(i, i + n).join(" ");
      if (seen.has(gram)) { again++; marked.fill(true, i, i + n); }
      seen.add(gram);
    }
    return { marked, again, all: Math.max(0, ids.length - n + 1) };
  };

  // ---- text ---------------------------------------------------------------------------------------------------------------
  // Prose keeps its spaces; line ends, tabs and what cannot be seen are spelt out.
  const prose = (text) => text.split(/( +)/).map((part, i) => (i % 2 || !part ? part : arlab.visible(part))).join("");
  const lines = (text) => prose(text).split(/(⏎)/).map((part) => (part === "⏎" ? h("span", { class: "da-break" }, "⏎\n") : part));
  // Runs of equal marks: [{ text, again, answer }]. answer: [start, end] places.
  const stretches = (sample, marked) => {
    const runs = [], { pieces, text, answer } = sample;
    let at = 0;
    const add = (part, again) => {
      let from = at;
      const to = at + part.length;
      while (from < to) {
        const inside = answer.find(([a, b]) => a <= from && from < b), next = answer.find(([a]) => a > from);
        const end = Math.min(to, inside ? inside[1] : next ? next[0] : to), last = runs.at(-1), piece = text.slice(from, end);
        if (last && last.again === again && last.answer === Boolean(inside)) last.text += piece;
        else runs.push({ text: piece, again, answer: Boolean(inside) });
        from = end;
      }
      at = to;
    };
    if (pieces.length) pieces.forEach((piece, i) => add(piece, marked[i]));
    else add(text, false);
    return runs;
  };

  // ---- the row ------------------------------------------------------------------------------------------------------------
  // columns: names of measures. toggle(name), point(names, how), move(name, step), redraw(): what the hand and the keys ask for.
  const make = (name, { columns, n, toggle, point, move, redraw }) => {
    const unique = `da-${Math.random().toString(36).slice(2, 8)}`;
    let sample = 0, row = null, drawn = "";
    const button = h("button", { class: "da-toggle", type: "button", "data-lm-suppress-shortcuts": "true", "aria-controls": unique,
      onfocus: () => point([name], "keys"), onblur: () => point([], "keys"),
      onkeydown: (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (!step && event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation(); // JupyterLab would take Enter for itself
        if (step) move(name, step);
        else toggle(name);
      } }, h("span", { class: "da-fold", "aria-hidden": "true" }), h("span", { class: "da-name" }, prose(name)));
    const chip = h("span", { class: "da-chip" });
    const cells = columns.map((measure) => {
      const value = h("span", { class: "da-value" }), bar = h("i", { class: "da-bar" });
      const cell = h("td", { dataset: { measure } }, value, h("span", { class: "da-track" }, bar));
      return { measure, cell, value, bar };
    });
    const step = (by) => (event) => { event.stopPropagation(); sample = (sample + by + row.samples.length) % row.samples.length; drawn = ""; redraw(); };
    const turn = (text, label, by) => h("button", { class: "da-turn", type: "button", "data-lm-suppress-shortcuts": "true", "aria-label": label, onclick: step(by) }, text);
    const which = h("span", { class: "da-which", "aria-live": "polite" });
    const pager = h("span", { class: "da-pager" }, turn("‹", `${name}: text before`, -1), which, turn("›", `${name}: next text`, 1));
    const text = h("div", { class: "da-text", id: unique }), about = h("div", { class: "da-about" });
    const told = h("td", { colspan: columns.length + 1 }, h("div", { class: "da-line" }, text, pager), about);
    const body = h("tbody", { class: "da-row", dataset: { row: name },
      onclick: (event) => {
        const copying = event.detail > 0 && String(getSelection()) !== ""; // detail: how many clicks; 0 from the keyboard
        if (copying || event.target.closest("button:not(.da-toggle)")) return;
        toggle(name);
      } },
    h("tr", { class: "da-top" }, h("th", { scope: "row" }, h("span", { class: "da-who" }, button, chip)), cells.map(({ cell }) => cell)), h("tr", { class: "da-told" }, told));
    body.addEventListener("pointerenter", () => point([name]));
    body.addEventListener("pointerleave", () => point([]));

    const fillText = (underline) => {
      const one = row.samples[sample], count = row.samples.length;
      const { marked, again, all } = repeats(one.ids, n);
      const runs = stretches(one, underline ? marked : marked.map(() => false));
      text.replaceChildren(...(runs.length ? runs.map(({ text: part, again: twice, answer }) => (twice || answer
        ? h("span", { class: `${twice ? "da-again" : ""}${answer ? " da-answer" : ""}`.trim() }, lines(part)) : h("span", {}, lines(part))))
        : [h("span", { class: "da-empty" }, one.ids.length ? "an empty text: its tokens are end symbols or have no letters" : "no token at all")]));
      pager.hidden = count < 2;
      setText(which, `${sample + 1} of ${count}`);
      const size = `${thousands(one.ids.length)} token${one.ids.length === 1 ? "" : "s"}, ${one.finished ? "ended by itself" : "stopped at the limit"}`;
      const figures = [size, one.logprob === null || count < 2 ? null : `log p per token ${fixed(one.logprob)}`,
        all ? `${again} of its ${all} ${n}-grams had been there before (${arlab.percent(again / all)})` : `too short for a ${n}-gram`];
      setText(about, `${figures.filter(Boolean).join("; ")}.`);
      Object.assign(about.dataset, { again, all, sample });
    };

    const update = (next, { open, underline, pointed, state, seed, most }) => {
      const key = `${sample} ${underline}`;
      if (row !== next || key !== drawn) {
        if (row !== next) sample = Math.min(sample, next.samples.length - 1);
        row = next;
        fillText(underline);
        drawn = `${sample} ${underline}`;
      }
      for (const { measure, cell, value, bar } of cells) {
        const v = row[measure], { format, bar: length } = MEASURES[measure], count = row.samples.length;
        const right = measure === "answer" ? row.samples.filter(({ answer }) => answer.length).length : 0;
        setText(value, v === null ? "–" : measure !== "answer" ? format(v) : count === 1 ? (right ? "✓ yes" : "✗ no") : `${right ? "✓" : "✗"} ${right}/${count}`);
        if (measure === "answer") cell.dataset.right = String(right > 0);
        bar.style.width = `${(100 * (v === null ? 0 : length(v, most[measure]))).toFixed(1)}%`;
      }
      setText(chip, state === "running" ? "running …" : state === "waiting" ? "waiting" : row.seed !== seed ? `seed ${row.seed}` : "");
      chip.hidden = chip.textContent === "";
      body.dataset.open = String(open);
      body.dataset.pointed = String(pointed);
      body.dataset.state = state || (row.seed !== seed ? "old" : "");
      button.setAttribute("aria-expanded", String(open));
    };
    return { body, button, update };
  };

  return { MEASURES, repeats, prose, lines, make };
})();

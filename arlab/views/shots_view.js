// The shots view: a prompt word for word, what the model said after it, and how often it is right. Every answer was
// sent once; a slider looks one up, and no question goes to the kernel.
function render({ model, el }) {
  const { h, setText, visible, percent } = arlab;
  const name = model.get("_name"), title = name ? `Shots: ${name}` : "Shots";
  const view = arlab.view(model, el, { label: title, draw });
  const tasks = new Map(model.get("_tasks").map((task) => [task.name, task]));
  const ks = [...new Set([...tasks.values()].flatMap((task) => task.ks))].sort((a, b) => a - b);

  // ---- looking up ---------------------------------------------------------------------------------------------------
  const key = (k, kind) => `${k} ${k === 0 ? "real" : kind}`; // without examples there is nothing to shuffle
  const counts = (task, k, kind) => {
    const answers = (tasks.get(task).answers[key(k, kind)] ?? []).filter(Boolean);
    return answers.length ? { right: answers.filter((one) => one.correct).length, asked: answers.length } : null;
  };
  const now = () => {
    const task = tasks.get(view.get("task")) ?? tasks.values().next().value, k = view.get("k");
    const kind = view.get("shuffled") ? "shuffled" : "real";
    const at = Math.max(0, task.queries.indexOf(view.get("query")));
    const answers = task.answers[key(k, kind)] ?? [];
    return { task, k, kind, at, answers, one: answers[at] ?? null };
  };
  const choose = (values) => {
    const task = tasks.get(values.task ?? view.get("task"));
    const query = task.queries.includes(view.get("query")) ? view.get("query") : task.queries[0];
    const own = values.task === undefined || task.ks.includes(values.k ?? view.get("k")) ? {} : { k: Math.max(...task.ks) }; // as in the kernel
    view.set({ ...values, ...own, query: values.query ?? query });
  };

  // ---- controls -----------------------------------------------------------------------------------------------------
  const list = h("select", { "data-lm-suppress-shortcuts": "true", "aria-label": "Task", dataset: { trait: "task" },
    onchange: () => choose({ task: list.value }) }, [...tasks.keys()].map((one) => h("option", { value: one }, one)));
  const picker = h("label", { class: "sh-select" }, "Task", list);
  const k = view.slider({ trait: "k", label: "Examples (k)", stops: ks, reset: model.get("k"), title: "How many examples stand in the prompt",
    parse: (text) => (/^\d+$/.test(text) && ks.includes(Number(text)) ? Number(text) : undefined) });
  const shuffled = view.checkbox({ trait: "shuffled", label: "shuffle the examples’ labels",
    title: "The same words as labels, given to the wrong examples: what is left shows what the model took from form and topic alone" });
  const queries = h("div", { class: "sh-queries", role: "radiogroup", "aria-label": "Question; arrow keys choose another" });
  const score = h("span", { class: "al-label sh-score" });
  let chips = [];
  const fill = (task) => {
    chips = task.queries.map((query, i) => {
      const mark = h("span", { class: "sh-tick-mark", "aria-hidden": "true" }), word = h("span", { class: "al-token" }, visible(query));
      const chip = h("button", { type: "button", class: "sh-query", role: "radio", "data-lm-suppress-shortcuts": "true",
        onclick: () => view.set({ query }), onkeydown: (event) => {
          const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: chips.length - 1 }[event.key];
          if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
          event.preventDefault();
          event.stopPropagation();
          const next = (to + chips.length) % chips.length;
          view.set({ query: task.queries[next] });
          chips[next].chip.focus();
        } }, mark, word);
      return { query, chip, mark };
    });
    queries.replaceChildren(...chips.map(({ chip }) => chip));
  };

  // ---- prompt and answer ------------------------------------------------------------------------------------------------
  const lines = h("div", { class: "sh-prompt" });
  const verdict = h("p", { class: "sh-verdict", role: "status" }), chance = h("p", { class: "al-note sh-chance" });
  const hint = h("p", { class: "al-note sh-hint" });
  const tops = h("div", { class: "sh-tops" });
  const longest = Math.max(...[...tasks.values()].flatMap((task) => Object.values(task.answers).flat().filter(Boolean)
    .map((one) => `${one.lead}${one.examples.flat().filter((text) => typeof text === "string").join("")}${one.question}`.split("\n").length)));
  lines.style.setProperty("--sh-lines", Math.min(22, longest));
  const most = Math.max(1, ...[...tasks.values()].flatMap((task) => Object.values(task.answers).flat().filter(Boolean).map((one) => one.top.length)));
  const bars = Array.from({ length: most }, () => {
    const token = h("span", { class: "al-token sh-token" }), number = h("span", { class: "sh-number" });
    const fillBar = h("span", { class: "sh-bar" }), sign = h("span", { class: "sh-sign" });
    const row = h("div", { class: "sh-top" }, sign, token, h("span", { class: "sh-track" }, fillBar), number);
    tops.append(row);
    return { row, token, fillBar, number, sign };
  });

  const plain = (text) => text.replace(/\n$/, ""); // each piece stands on lines of its own
  const tail = (text) => text.replace(/ +$/, (run) => "␣".repeat(run.length)); // a space at the very end is a token's affair
  const showPrompt = ({ one }) => {
    if (!one) { lines.replaceChildren(h("p", { class: "al-note" }, "This combination was not asked.")); return; }
    const piece = (what, label, ...text) => h("div", { class: "sh-piece", dataset: { piece: what } },
      h("span", { class: "sh-gutter" }, label), h("span", { class: "sh-words" }, ...text));
    const lead = plain(one.lead);
    lines.replaceChildren(...[
      lead ? piece("lead", "", lead) : null,
      ...one.examples.map(([shown, label, swapped], i) => {
        const word = plain(label).trimStart(), gap = label.slice(0, plain(label).length - word.length);
        return piece("example", String(i + 1), shown + gap, h("span", { class: "sh-label", dataset: { swapped: String(swapped) },
          title: swapped ? "a label that belongs to another example" : "the example’s own label" }, word));
      }),
      piece("question", "?", tail(one.question), h("span", { class: "sh-said", dataset: { correct: String(one.correct) } }, visible(one.said)))].filter(Boolean));
  };
  const advice = (one, count, kind) => {
    if (count === 0 && kind === "shuffled") return "Without an example there is no label to shuffle.";
    if (one.correct) return "";
    if (one.said.toLowerCase().includes(one.answer.toLowerCase())) return "The right word is in it, but not in the form that counts.";
    return count === 0 ? "No example shows what is wanted: a miss may be one of format." : "";
  };
  const showAnswer = ({ one, k: count, kind }) => {
    verdict.dataset.correct = one ? String(one.correct) : "";
    verdict.replaceChildren(...(one ? one.correct ? ["✓ right: ", h("b", { class: "al-token" }, visible(one.said))]
      : ["✗ it says ", h("b", { class: "al-token" }, visible(one.said)), "; right would be ", h("b", { class: "al-token" }, visible(one.answer))] : [" "]));
    setText(chance, one ? `Probability of the right answer: ${percent(one.p_answer)}. Prompt: ${one.tokens} tokens.` : "");
    setText(hint, one ? advice(one, count, kind) : "");
    bars.forEach(({ row, token, fillBar, number, sign }, i) => {
      const [text, p] = one?.top[i] ?? [];
      row.style.visibility = text === undefined ? "hidden" : "";
      if (text === undefined) return;
      setText(token, visible(text));
      setText(number, percent(p));
      setText(sign, one.begins[i] ? "✓" : "");
      fillBar.style.width = `${100 * p}%`;
      row.dataset.begins = String(one.begins[i]);
    });
  };

  // ---- the whole --------------------------------------------------------------------------------------------------------
  const chart = shotsChart.panel(view, { ks, counts, choose });
  const table = shotsChart.table({ tasks: [...tasks.keys()], ks, counts, choose });
  view.root.append(
    h("h3", {}, title),
    h("p", {}, "A task shown by examples alone: no weight changes, only the prompt grows."),
    h("div", { class: "sh-controls" }, picker, k, shuffled),
    h("div", { class: "sh-asked" }, score, queries),
    h("div", { class: "sh-columns" },
      h("div", { class: "sh-left" }, h("h4", {}, "The prompt, word for word, and what the model said"), lines, verdict, chance, hint,
        h("h4", {}, "The first token after the prompt"), tops,
        h("p", { class: "al-note" }, "✓ marks tokens with which the right answer can begin. ",
          "In the prompt, a wavy line is under labels that belong to another example.")),
      h("div", { class: "sh-right" }, h("h4", { class: "sh-chart-title" }), chart.box,
        tasks.size > 1 ? [h("h4", { class: "sh-all" }, "All tasks"), table.box,
          h("p", { class: "al-note" }, "Above: real labels; below: shuffled ones.")] : null)));
  const heading = view.root.querySelector(".sh-chart-title");
  view.watch(["task", "k", "shuffled", "query"]);

  let filled = null;
  function draw() {
    const state = now(), { task, kind, at, answers } = state;
    if (filled !== task) {
      filled = task;
      fill(task);
      list.value = task.name;
      setText(heading, `Right answers, ${task.name}`);
    }
    chips.forEach(({ chip, mark }, i) => {
      const one = answers[i];
      chip.setAttribute("aria-checked", String(i === at));
      chip.tabIndex = i === at ? 0 : -1;
      chip.dataset.correct = one ? String(one.correct) : "";
      chip.setAttribute("aria-label", `${task.queries[i]}: ${one ? (one.correct ? "right" : "wrong") : "not asked"}`);
      setText(mark, one ? (one.correct ? "✓" : "✗") : "–");
    });
    const count = counts(task.name, state.k, kind);
    setText(score, count ? `${count.right} of ${count.asked} right` : "not asked");
    showPrompt(state);
    showAnswer(state);
    const place = { task: task.name, k: state.k, kind };
    chart.draw(place);
    table.draw(place);
  }

  const close = view.start();
  return () => { chart.close(); close(); };
}
export default { render };

// Around the beam tree: sentences about a step and a node, the list of hypotheses, the best of each beam size, controls.

// Sentences. get(): what the view shows now. draw() writes the status; tip(i), label(i) and story() tell of a node.
const beamTellers = ({ get, nameOf, words, isEnd, prob, log, total, facts, limits }) => {
  const { h, setText } = arlab, law = beamSearch;
  const status = h("p", { class: "bt-status", role: "status" });
  const many = (n, one, more = `${one}s`) => `${n} ${n === 1 ? one : more}`;
  const place = (i) => `number ${get().tree.ranks[i]} of step ${get().tree.steps[i]}`;

  const fate = (i) => {
    const { tree, beams, step, penalty, kept, live, over, alive } = get();
    const score = () => `score ${log(law.score(tree, i, penalty), 4)}`;
    if (i === 0) return "Nothing has been generated yet.";
    if (law.ended(tree, i)) {
      const how = tree.fates[i] === law.ENDED ? `It ended with ${nameOf(i)}` : `It ran into the last step${facts.ends.length ? ", unfinished" : ""}`;
      return `${how}, ${place(i)}: ${score()}, ${kept.includes(i) ? `place ${kept.indexOf(i) + 1} of ${kept.length}` : `no longer among the best ${beams}`}.`;
    }
    if (tree.fates[i] === law.CUT) {
      const why = isEnd(i) ? `an end symbol counts among the first ${beams} alone` : `no more than ${many(beams, "branch lives", "branches live")} on`;
      return `It was ${place(i)} and was cut: ${why}.`;
    }
    if (alive.includes(i)) return `It was ${place(i)} and lives, ${live.indexOf(i) + 1} of ${live.length}.`;
    if (over && live.includes(i)) return `It was ${place(i)} and still lived when the search was over.`;
    const later = [...live, ...kept].filter((end) => trees.lineage(tree.parents, end).includes(i)).length;
    return later ? `It was ${place(i)} and lived on: ${many(later, "branch or hypothesis begins", "branches and hypotheses begin")} so.`
      : `It was ${place(i)} and lived on, but by step ${step} all that began so had been cut.`;
  };
  const token = (i, tree = get().tree) => `${facts.exact ? "log p" : "score"} ${log(tree.scores[i], 4)}`;
  const label = (i, tree) => (i === 0 ? nameOf(0, tree)
    : `${nameOf(i, tree)}, ${token(i, tree)}, ${total} ${log(tree.totals[i], 4)}, number ${tree.ranks[i]} of step ${tree.steps[i]}`);
  const tip = (i) => {
    const { tree } = get();
    if (i === 0) return ["the prompt: what every branch continues"];
    const lines = [h("span", { class: "al-token" }, words(i)), h("br"), token(i)];
    if (facts.exact) lines.push(` (p = ${prob(Math.exp(tree.scores[i]))})`);
    else if (tree.logprobs[i] !== null) lines.push(`; raw log p ${log(tree.logprobs[i], 4)}`);
    lines.push(h("br"), `${total} so far ${log(tree.totals[i], 4)}`, h("br"), fate(i));
    return lines;
  };
  // What became of the path that one follows, when this search does not have it to its end.
  const story = () => {
    const { tree, path, at, step, beams } = get();
    const gone = path !== null && path.length > tree.steps[at] && tree.steps[at] < step;
    return gone ? `With ${many(beams, "beam")} the path chosen is not followed further. ${fate(at)}` : fate(at);
  };

  const draw = () => {
    const { tree, beams, step, over, last, kept, live, penalty } = get();
    const finished = kept.length ? `, ${many(kept.length, "hypothesis", "hypotheses")} in the list` : "";
    const why = over && law.isOver(tree, step, beams, penalty, limits);
    if (step === 0) setText(status, "Before the first step: one live branch, the prompt.");
    else if (!over) setText(status, `After step ${step} of at most ${limits.steps}: ${many(live.length, "live branch", "live branches")}${finished}.`);
    else if (why === "can") {
      const reach = log(law.bound(tree, step, penalty, limits), 4);
      setText(status, `The search is over after step ${last}: a live branch could come to a score of ${reach} at most, and that would not enter the list.`);
    } else if (kept.some((i) => tree.fates[i] === law.LIMIT)) setText(status, `Step ${step} is the last: what still lives competes as it stands.`);
    else setText(status, `The search is over after step ${last}: no branch is left alive.`);
  };
  return { status, draw, tip, label, story };
};

// The chosen path as a sum, the list of hypotheses, and the best score of each beam size.
const beamPanels = (view, { get, grown, tellers, words, prob, log, figure, total, facts, limits, most, go }) => {
  const { h, setText } = arlab, law = beamSearch;
  // One small button a beam size: its best hypothesis at the end of its own search.
  const cells = Array.from({ length: most }, (_, i) => {
    const value = h("b", {});
    return { value, box: h("button", { type: "button", class: "bt-size", "data-lm-suppress-shortcuts": "true", onclick: () => view.set({ beams: i + 1 }),
      title: i === 0 ? "One beam: greedy decoding, up to the first end symbol" : null },
      h("span", {}, i === 0 && !facts.ends.length ? "1 greedy" : String(i + 1)), value) };
  });
  const heading = h("span", { class: "al-label" });
  const sizes = h("div", { class: "bt-sizes", role: "group", "aria-label": "The best hypothesis of each beam size" }, heading, cells.map(({ box }) => box));
  let shown = null;
  const drawSizes = () => {
    const { beams, penalty } = get(), asP = facts.exact && view.get("numbers") === "p", key = `${penalty} ${asP}`;
    cells.forEach(({ box }, i) => box.setAttribute("aria-pressed", String(i + 1 === beams)));
    if (shown?.key === key && shown.grown === grown()) return;
    shown = { key, grown: grown() };
    setText(heading, asP ? "p of the best hypothesis, by beams" : "Best score, by beams");
    const found = grown().map((tree, i) => {
      const best = law.kept(tree, law.lastStep(tree, i + 1, penalty, limits), i + 1, penalty)[0];
      return best === undefined ? null : { score: law.score(tree, best, penalty), total: tree.totals[best] };
    });
    const top = Math.max(...found.map((one) => (one ? one.score : -Infinity)));
    found.forEach((one, i) => {
      setText(cells[i].value, one ? (asP ? prob(Math.exp(one.total)) : log(one.score, 3)) : "none");
      cells[i].value.dataset.value = one ? String(one.score) : "";
      cells[i].box.dataset.best = one && one.score >= top - 1e-6 ? "1" : "";
    });
  };

  const follow = view.button("Follow the best", () => view.set({ path: null }), { class: "al-button bt-follow",
    title: "Choose the best live branch, and the best hypothesis once the search is over, whatever they are" });
  const lines = limits.steps > 4 ? Math.min(5, 1 + Math.ceil(limits.steps / 9)) : 1; // room for all its terms
  const sum = h("div", { class: "bt-line bt-sum al-token", style: { height: `${10 + 18 * lines}px` }, "aria-label": "The sum of the path" });
  const power = (length) => [length, h("sup", {}, String(Number(get().penalty.toPrecision(4))))];
  const scored = h("div", { class: "bt-line al-token", "aria-label": "Its score" });
  const story = h("p", { class: "bt-story" });
  const chosen = h("div", { class: "al-panel" }, h("div", { class: "bt-heading" }, h("h4", {}, "The path chosen"), follow), sum, scored, story);
  const drawChosen = () => {
    const { tree, at, penalty, path } = get(), line = trees.lineage(tree.parents, at).slice(1);
    const terms = line.map((i, t) => (t ? log(tree.scores[i], 4).replace(/^−/, "− ").replace(/^(?!−)/, "+ ") : log(tree.scores[i], 4)));
    const name = `${facts.exact ? "log p" : "score"}(${at ? words(at) : "nothing yet"})`;
    setText(sum, at ? `${name} = ${terms.join(" ")}${line.length > 1 ? ` = ${log(tree.totals[at], 4)}` : ""}` : `${name} = 0`);
    if (law.ended(tree, at)) scored.replaceChildren("score = ", log(tree.totals[at], 4), " / ", ...power(`${line.length}`), ` = ${log(law.score(tree, at, penalty), 4)}`);
    else setText(scored, "no score: only a finished hypothesis has one");
    sum.dataset.value = String(tree.totals[at]);
    setText(story, tellers.story());
    follow.setAttribute("aria-pressed", String(path === null));
  };

  // Finished hypotheses first, best first; below them what still lives.
  const withP = facts.exact;
  const rows = Array.from({ length: 2 * most }, (_, place) => {
    const values = Array.from({ length: withP ? 6 : 5 }, () => h("td", {}));
    values[1].classList.add("al-token");
    return { values, row: h("tr", { onclick: () => go(listed[place]) }, values) };
  });
  let listed = [];
  const list = h("div", { class: "bt-list", role: "region", tabindex: 0, "data-lm-suppress-shortcuts": "true",
    "aria-label": "Hypotheses, best first; arrow up and down choose one",
    style: { height: `${25 * (most + 2)}px` },
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || !listed.length) return;
      event.preventDefault();
      event.stopPropagation();
      const from = listed.indexOf(get().at);
      go(listed[Math.max(0, Math.min(listed.length - 1, from < 0 ? 0 : from + step))]);
    } },
    h("table", {}, h("thead", {}, h("tr", {}, ["", "hypothesis", "tokens", total, ...(withP ? ["p"] : []), "score"].map((text) => h("th", {}, text)))),
      h("tbody", {}, rows.map(({ row }) => row))));
  const formula = h("span", { class: "al-note" });
  const listing = h("div", { class: "al-panel" }, h("div", { class: "bt-heading" }, h("h4", {}, "Hypotheses, best first"), formula), list);
  const drawList = () => {
    const { tree, kept, alive, at, penalty } = get();
    listed = [...kept, ...alive];
    if (formula.dataset.penalty !== String(penalty)) formula.replaceChildren(`score = ${total} / `, ...power("tokens"));
    formula.dataset.penalty = String(penalty);
    rows.forEach(({ row, values }, place) => {
      const i = listed[place];
      row.hidden = i === undefined;
      if (row.hidden) return;
      const done = place < kept.length, text = words(i) + (tree.fates[i] === law.LIMIT && facts.ends.length ? " …" : "");
      const last = withP ? [prob(Math.exp(tree.totals[i]))] : [];
      [done ? String(place + 1) : "lives", text, String(tree.steps[i]), log(tree.totals[i], 4), ...last, done ? log(law.score(tree, i, penalty), 4) : "–"]
        .forEach((value, c) => setText(values[c], value));
      values[0].title = !done ? "a live branch, not finished yet" : tree.fates[i] === law.LIMIT ? "it ran into the last step" : "finished with an end symbol";
      values[1].title = text;
      values.at(-1).dataset.value = done ? String(law.score(tree, i, penalty)) : "";
      row.dataset.state = done ? "done" : "live";
      row.setAttribute("aria-current", String(i === at));
    });
  };
  return { sizes, chosen, listing, draw: () => { drawSizes(); drawChosen(); drawList(); } };
};

// Prompt, sliders, and the buttons that grow the tree. stop() ends what plays.
const beamControls = (view, { get, count, most, facts }) => {
  const { h, setText, steps } = arlab, { live: hasKernel } = view;
  const whole = (low, high) => (text) => { const n = Number(text); return Number.isInteger(n) && n >= low && n <= high ? n : undefined; };
  const [beams, penalty] = [view.get("beams"), view.get("length_penalty")];
  const sliders = h("div", { class: "al-sliders bt-sliders" },
    view.slider({ trait: "beams", label: "Beams", stops: steps(1, most, 1), reset: beams, parse: whole(1, most), title: "How many branches live on after each step" }),
    view.slider({ trait: "step", label: "Steps", stops: steps(0, count, 1), reset: count, parse: whole(0, count), title: "How many steps of the search are drawn" }),
    view.slider({ trait: "length_penalty", label: "Length penalty", stops: steps(0, 2, 0.1), reset: penalty, format: (a) => String(Number(a.toPrecision(4))),
      parse: (text) => { const a = Number(text.replace(",", ".").replace("−", "-")); return text !== "" && a >= -2 && a <= 5 ? a : undefined; },
      title: "A finished hypothesis scores its sum divided by its length to this power: 0 favours short ones, 1 takes the mean" }));

  let timer = 0;
  const to = (step) => view.set({ step });
  const stop = () => { clearInterval(timer); timer = 0; setText(play, "Play"); play.setAttribute("aria-pressed", "false"); };
  const byHand = (fn) => () => { stop(); fn(); };
  const start = view.button("Start", byHand(() => to(0)), { title: "Before the first step" });
  const back = view.button("← Step back", byHand(() => to(get().step - 1)));
  const next = view.button("Step →", byHand(() => to(get().step + 1)), { class: "al-button al-primary", title: "One token more in every live branch" });
  const play = view.button("Play", () => {
    if (timer) { stop(); return; }
    if (get().over) to(0);
    setText(play, "Pause");
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => { if (get().over) stop(); else to(get().step + 1); }, PACE);
  }, { title: "A step a second, from the start when the search is over" });
  const buttons = h("div", { class: "al-buttons bt-buttons" }, start, back, next, play,
    view.segmented({ trait: "arrangement", label: "", options: [
      { value: "tree", label: "tree", title: "Every branch beside its siblings" },
      { value: "ranking", label: "ranking", title: "The candidates of each step in a column, best first; the dashed line is the cut" }] }),
    facts.exact ? view.segmented({ trait: "numbers", label: "", options: [
      { value: "log", label: "log p", title: "Log-probabilities in nats; sums" }, { value: "p", label: "p", title: "Probabilities; products" }] }) : null,
    view.checkbox({ trait: "show_cut", label: "candidates cut", title: "Draw the candidates that were cut at once" }));

  let busy = false;
  const work = async (question) => { busy = true; asking.sync(); await question(); busy = false; asking.sync(); };
  const asking = promptBox(view, { isBusy: () => busy, work, offline: NO_KERNEL, rows: view.get("prompt").includes("\n") ? 3 : 1, title: "Search again from this prompt" });
  const prompt = h("div", { class: "bt-prompt" }, asking.box, hasKernel ? null : h("p", { class: "al-note" }, NO_KERNEL));

  const draw = () => {
    const { step, over } = get();
    start.disabled = back.disabled = step === 0;
    next.disabled = over;
  };
  return { prompt, sliders, buttons, draw, stop };
};

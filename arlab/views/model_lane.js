// One model of the view: its tokens shaded by probability, and where it looks at the step. Gives { box, show(step) }.
const modelLane = (view, lane, sources, { pick }) => {
  const { h, setText, visible } = arlab;
  const short = (p) => (p >= 0.995 ? "1.0" : p === 0 ? "0" : p < 0.005 ? "<.01" : p.toFixed(2).replace(/^0/, ""));
  const nats = (x) => (x <= -1e9 ? "−∞" : heat.number(x));

  const chips = lane.tokens.map((token, i) => {
    const wrong = lane.wrong[i];
    return h("button", { type: "button", tabindex: -1, class: `fm-chip${wrong ? " fm-wrong" : ""}`, dataset: { i }, "data-lm-suppress-shortcuts": "true",
      onclick: () => pick(i), "aria-label": `step ${i}: ${visible(token)}, probability ${lane.p[i].toFixed(3)}${wrong ? ", differs from the answer" : ""}` },
    h("span", { class: "al-token" }, visible(token)), h("small", {}, short(lane.p[i])));
  });
  const bars = lane.strip && sources.map((text) => {
    const share = h("small"), bar = h("i");
    return { share, bar, cell: h("span", { class: "fm-cell" }, h("span", { class: "fm-bar" }, share, bar), h("span", { class: "al-token" }, text)) };
  });
  const detail = h("div", { class: "fm-detail" });
  const verdict = lane.right === null ? null : h("span", { class: lane.right ? "fm-right" : "fm-false" }, lane.right ? "✓ right" : "✗ wrong");
  const figure = (name, value, what) => h("div", {}, what, " ", h("b", { dataset: { figure: name } }, nats(value)));
  const strip = lane.strip
    ? h("div", { class: "fm-source", role: "img" }, bars.map(({ cell }) => cell))
    : h("div", { class: "fm-fixed" }, "fixed context: the same vector at every step, nothing to look back at");
  const box = h("section", { class: "fm-lane", "aria-label": lane.name },
    h("div", { class: "fm-head" }, h("h4", {}, lane.name), verdict,
      figure("logprob", lane.logprob, "log p of its output"),
      lane.answer_logprob === null ? null : figure("answer", lane.answer_logprob, "log p of the answer"),
      lane.finished ? null : h("div", { class: "fm-cut" }, "cut off: no end symbol")),
    h("div", { class: "fm-body" }, h("div", { class: "fm-tokens" }, chips), detail, strip));

  const shade = (theme) => chips.forEach((chip, i) => {
    const colour = theme.sequential[Math.round(255 * (0.06 + 0.62 * lane.p[i]))];
    chip.style.background = colour;
    chip.style.color = heat.inkOn(colour);
  });
  let shaded = null;
  const show = (step) => {
    if (shaded !== view.theme) shade((shaded = view.theme));
    chips.forEach((chip, i) => chip.setAttribute("aria-pressed", String(i === step)));
    const over = step >= lane.tokens.length;
    detail.replaceChildren(`step ${step}: `, ...(over ? ["it had ended"] // bdi: letters from right to left would turn the numbers around
      : lane.best[step].flatMap(([token, p], n) => [n ? ", " : "", h("bdi", {}, `“${visible(token)}”`), ` ${short(p)}`])));
    if (!lane.strip) return;
    const weights = over ? null : lane.strip[step];
    bars.forEach(({ cell, share, bar }, j) => {
      const w = weights ? weights[j] : 0;
      setText(share, w < 0.095 ? "" : w.toFixed(2).replace(/^0/, ""));
      bar.style.height = `${22 * w}px`;
      cell.classList.toggle("fm-unseen", w < 0.005);
    });
    const most = weights ? weights.indexOf(Math.max(...weights)) : -1;
    strip.dataset.heaviest = String(most);
    strip.setAttribute("aria-label", most < 0 ? "No attention at this step" : `Cross-attention: most, ${weights[most].toFixed(3)}, on source ${most}, ${sources[most]}`);
  };
  // The step in words.
  const told = (step) => `${lane.name}: ${step < chips.length ? `${visible(lane.tokens[step])}, ${lane.p[step].toFixed(2)}${lane.wrong[step] ? ", differs from the answer" : ""}` : "it had ended"}`;
  return { box, show, told };
};

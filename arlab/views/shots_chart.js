// Accuracy against the number of examples, real and shuffled labels: an SVG drawing and the same numbers as a table.
const shotsChart = (() => {
  const { h, svg, setText } = arlab;
  const KINDS = ["real", "shuffled"];
  const M = { left: 56, right: 22, top: 38, bottom: 44 }, HEIGHT = 248;
  const share = ({ right, asked }) => right / asked;
  const round = (x) => `${Math.round(100 * x)}\u00a0%`;

  // ks: every number of examples, ascending. counts(task, k, kind): { right, asked } or null. choose(values) sets traits.
  const panel = (view, { ks, counts, choose }) => {
    const picture = svg("svg", { class: "sh-plot", role: "img" });
    const field = h("div", { class: "sh-field" }, picture);
    const legend = h("p", { class: "al-legend sh-legend" },
      KINDS.map((kind) => h("span", {}, svg("svg", { width: 30, height: 12, "aria-hidden": "true" },
        svg("path", { class: "sh-line", "data-kind": kind, d: "M1 6H29" }), mark(kind, 15, 6, 4)), ` ${kind} labels`)));
    const worth = h("p", { class: "al-note sh-worth" });

    const x = (i, width) => M.left + (ks.length === 1 ? 0.5 : i / (ks.length - 1)) * (width - M.left - M.right);
    const y = (p) => M.top + (1 - p) * (HEIGHT - M.top - M.bottom);
    let drawn = "";
    const draw = ({ task, k, kind }) => {
      const width = Math.max(220, Math.round(field.clientWidth));
      const key = JSON.stringify([task, k, kind, width]);
      if (key === drawn) return;
      drawn = key;
      picture.setAttribute("width", width);
      picture.setAttribute("height", HEIGHT);
      const parts = [];
      const text = (what, at, up, props = {}) => parts.push(svg("text", { class: "sh-tick", x: at, y: up, "text-anchor": "middle", ...props }, what));
      for (const p of [0, 0.25, 0.5, 0.75, 1]) {
        parts.push(svg("path", { class: "sh-grid", d: `M${M.left - 6} ${y(p)}H${width - M.right + 8}` }));
        if (p * 2 === Math.round(p * 2)) text(round(p), M.left - 11, y(p) + 4, { "text-anchor": "end" });
      }
      text("right answers", 2, 12, { "text-anchor": "start", class: "sh-name" });
      text("examples in the prompt (k)", (M.left + width - M.right) / 2, HEIGHT - 6, { class: "sh-name" });
      ks.forEach((one, i) => text(one, x(i, width), HEIGHT - 25, { class: one === k ? "sh-tick sh-now" : "sh-tick" }));
      parts.push(svg("path", { class: "sh-here", d: `M${x(ks.indexOf(k), width)} ${M.top - 4}V${HEIGHT - M.bottom}` }));
      const named = [];
      for (const one of KINDS) {
        const points = ks.map((n, i) => ({ n, i, count: counts(task, n, one) })).filter(({ count }) => count);
        if (!points.length) continue;
        const d = points.map(({ i, count }, j) => `${j ? "L" : "M"}${x(i, width)} ${y(share(count))}`).join("");
        parts.push(svg("path", { class: "sh-line", "data-kind": one, d }));
        for (const { n, i, count } of points) {
          if (one === "shuffled" && n === 0) continue; // the line starts in the other one's mark: nothing to shuffle
          const on = n === k && (one === kind || n === 0), at = [x(i, width), y(share(count))];
          const group = svg("g", { class: "sh-point", "data-k": n, "data-kind": one, "data-on": String(on),
            onclick: () => choose({ k: n, shuffled: one === "shuffled" }) },
            mark(one, ...at, on ? 6.5 : 4.5), svg("circle", { class: "sh-hand", cx: at[0], cy: at[1], r: 12 }),
            svg("title", {}, `${n} example${n === 1 ? "" : "s"}${n ? `, ${one} labels` : ""}: ${count.right} of ${count.asked} right`));
          parts.push(group);
          if (on) named.push({ at, words: round(share(count)) });
        }
      }
      for (const { at, words } of named) {
        const place = at[0] < M.left + 20 ? "start" : at[0] > width - M.right - 20 ? "end" : "middle";
        const shift = { start: -8, middle: 0, end: 8 }[place];
        text(words, at[0] + shift, at[1] - 12, { class: "sh-value", "text-anchor": place });
      }
      picture.setAttribute("aria-label", `Right answers against the number of examples. ${KINDS.map((one) => `${one} labels: ${ks.map((n) => [n, counts(task, n, one)])
        .filter(([, count]) => count).map(([n, count]) => `${n}: ${round(share(count))}`).join(", ")}`).join(". ")}`);
      picture.replaceChildren(...parts);
      const all = ks.flatMap((n) => KINDS.map((one) => counts(task, n, one)?.asked ?? 0)).filter(Boolean), asked = Math.max(...all), least = Math.min(...all);
      setText(worth, asked === 1 ? "One question only." : least < asked ? `${least} to ${asked} questions each.`
        : `${asked} questions each, so a single answer is worth ${round(1 / asked).replace("\u00a0%", "")} points.`);
    };
    const sizes = new ResizeObserver(() => view.redraw());
    sizes.observe(field);
    return { box: h("div", { class: "sh-chart" }, field, legend, worth), draw, close: () => sizes.disconnect() };
  };

  // A disc for real labels, a hollow square for shuffled ones: told apart without their colours.
  const mark = (kind, x, y, r) => (kind === "real" ? svg("circle", { class: "sh-mark", "data-kind": kind, cx: x, cy: y, r })
    : svg("rect", { class: "sh-mark", "data-kind": kind, x: x - r, y: y - r, width: 2 * r, height: 2 * r }));

  // All tasks at once: a row each, real above shuffled in every cell.
  const table = ({ tasks, ks, counts, choose }) => {
    const cell = (task, k) => {
      const lines = KINDS.map((kind) => ({ kind, count: k === 0 && kind === "shuffled" ? null : counts(task, k, kind) })).map(({ kind, count }) =>
        h("span", { class: "sh-share", dataset: { kind } }, count ? round(share(count)) : k === 0 && kind === "shuffled" ? "" : "–"));
      const button = h("button", { type: "button", class: "sh-cell", "data-lm-suppress-shortcuts": "true", title: `${task}, k = ${k}`,
        onclick: () => choose({ task, k }) }, lines);
      return { task, k, button, box: h("td", {}, button) };
    };
    const rows = tasks.map((task) => ({ task, cells: ks.map((k) => cell(task, k)) }));
    const cells = rows.flatMap((row) => row.cells);
    const box = h("table", { class: "sh-table", "aria-label": "Right answers of all tasks: real labels above, shuffled labels below" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "k"), ks.map((k) => h("th", { scope: "col" }, String(k))))),
      h("tbody", {}, rows.map(({ task, cells: row }) => h("tr", { dataset: { task } }, h("th", { scope: "row" }, task), row.map((one) => one.box)))));
    const draw = ({ task, k, kind }) => {
      for (const one of cells) {
        const on = one.task === task && one.k === k;
        one.button.setAttribute("aria-pressed", String(on));
        one.button.dataset.shown = on ? kind : "";
      }
    };
    return { box, draw };
  };

  return { panel, table, round, share };
})();

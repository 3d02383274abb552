// One lane of the order view: a sum on paper, its answer as far as it is written, and the digit written last.
const orderLane = (() => {
  const { h, setText, visible, percent } = arlab;
  const { placeName, digit, carryInto, needs, after, ordinal } = orderSum;
  const short = (p, whole) => (p >= 0.9995 ? "100\u00a0%" : whole ? `${Math.round(100 * p)}\u00a0%` : percent(p).replace(" ", "\u00a0"));
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const ARROWS = { "left to right": "→", "right to left": "←", "in parallel": "⇊" };

  // digits: of the operands. look(place): a digit was chosen. make gives { box, show({ a, b, lane, step, focus }) };
  // focus: the place looked at, null where each lane chooses for itself.
  const make = ({ name, way, digits, look }) => {
    const places = Array.from({ length: digits + 1 }, (_, i) => digits - i); // as they stand on paper
    const verdict = h("p", { class: "or-verdict", role: "status" }), stream = h("p", { class: "or-stream al-token" });
    const row = (what, sign, cells) => [h("span", { class: "or-sign" }, sign), ...cells.map((cell) => { cell.dataset.row = what; return cell; })];
    const span = (kind) => places.map((place) => h("span", { class: kind, dataset: { place } }));
    const carries = span("or-carry"), above = span("or-operand"), below = span("or-operand"), turns = span("or-turn");
    const answers = places.map((place) => {
      const symbol = h("span", { class: "or-symbol" }), mark = h("span", { class: "or-mark", "aria-hidden": "true" });
      const bar = h("span", { class: "or-bar" }), p = h("span", { class: "or-p" });
      const cell = h("button", { type: "button", class: "or-digit", "data-lm-suppress-shortcuts": "true", dataset: { place } },
        symbol, mark, h("span", { class: "or-track" }, bar), p);
      cell.addEventListener("click", () => look(place));
      return { place, cell, symbol, mark, bar, p };
    });
    const paper = h("div", { class: places.length > 6 ? "or-paper or-narrow" : "or-paper", style: { gridTemplateColumns: `16px repeat(${places.length}, minmax(0, 52px))` } },
      row("carry", "", carries), row("a", "", above), row("b", "+", below), h("span", { class: "or-rule" }),
      row("answer", "", answers.map(({ cell }) => cell)), row("turn", "", turns));
    const about = h("p", { class: "or-about" });
    const bars = Array.from({ length: 10 }, (_, i) => {
      const fill = h("span", { class: "or-column-fill" });
      const name = h("span", { class: "or-column-name" }, String(i)), track = h("span", { class: "or-column-track" }, fill);
      return { fill, box: h("span", { class: "or-column", dataset: { digit: i } }, track, name) };
    });
    const which = h("h4", { class: "or-which" }), distribution = h("div", { class: "or-columns" }, bars.map(({ box }) => box));
    const none = h("p", { class: "al-note or-none" });
    const box = h("section", { class: "or-lane", dataset: { lane: name }, "aria-label": name },
      h("div", { class: "or-head" }, h("h4", {}, name), h("span", { class: "al-note" }, `${ARROWS[way]} ${way}`)),
      stream, paper, verdict, none, about, which, distribution);

    const show = ({ a, b, lane, step, focus }) => {
      const recorded = Boolean(lane.steps), total = recorded ? lane.steps.length : 0, passes = Math.min(step, total);
      const standing = after(lane, passes), sum = a + b;
      const right = (place) => standing.has(place) && standing.get(place).symbol === String(digit(sum, place));
      const chosen = choose({ standing, right, focus, passes, total });
      // what it could be told by when it was chosen: the digits that stood before
      const before = after(lane, chosen?.step ?? 0), stood = (place) => before.get(place)?.symbol === String(digit(sum, place));
      const needed = chosen ? needs(a, b, chosen.place, stood) : [];
      const next = needed.at(-1), shown = needed.length === 2 && next > 0 && stood(next) && digit(a, next) + digit(b, next) === 9;

      places.forEach((place, i) => {
        const top = place < digits, into = place > 0 && carryInto(a, b, place);
        setText(carries[i], into ? "1" : "");
        carries[i].dataset.known = String(right(place - 1));
        carries[i].title = into ? right(place - 1) ? `a carry into the ${placeName(place)}: the digit to the right of it is written, and shows it`
          : `a carry into the ${placeName(place)}: not to be seen in the answer yet` : "";
        for (const [cells, n] of [[above, a], [below, b]]) {
          setText(cells[i], top ? String(digit(n, place)) : "");
          cells[i].dataset.needed = String(top && needed.includes(place));
        }
        const write = standing.get(place), good = right(place), { cell, symbol, mark, bar, p } = answers[i];
        setText(symbol, write ? visible(write.symbol) : "");
        setText(mark, write ? (good ? "✓" : "✗") : "");
        setText(p, write ? short(write.p, places.length > 5) : "");
        bar.style.width = write ? `${100 * write.p}%` : "0";
        cell.dataset.state = write ? (good ? "right" : "wrong") : "open";
        cell.dataset.chosen = String(chosen?.place === place);
        cell.disabled = !write;
        cell.setAttribute("aria-pressed", String(chosen?.place === place));
        const judged = good ? "right" : `wrong, right is ${digit(sum, place)}`;
        cell.setAttribute("aria-label", `${placeName(place)}: ${write ? `${write.symbol}, ${judged}, ${percent(write.p)}` : "not written yet"}`);
        setText(turns[i], write ? ordinal(write.step + 1) : "");
      });
      say({ sum, lane, recorded, total, passes, standing, right, chosen, needed, shown });
    };
    // The digit looked at: the one asked for, where it is written; else the one written last, or, when all are, of all.
    // Of several, the first that is wrong, and where none is, the one that the model was least sure of.
    const choose = ({ standing, right, focus, passes, total }) => {
      if (focus !== null && standing.has(focus)) return standing.get(focus);
      const all = [...standing.values()].sort((x, y) => x.step - y.step || y.place - x.place);
      const some = passes === total ? all : all.filter(({ step }) => step === passes - 1);
      return some.find(({ place }) => !right(place)) ?? some.reduce((least, one) => (least && least.p <= one.p ? least : one), null);
    };

    const say = ({ sum, lane, recorded, total, passes, standing, right, chosen, needed, shown }) => {
      setText(none, recorded ? "" : "Recorded for another sum.");
      none.hidden = recorded;
      paper.hidden = stream.hidden = !recorded;
      const order = recorded ? way === "right to left" ? [...places].reverse() : places : [];
      stream.replaceChildren(...(recorded ? [h("span", { class: "or-prompt" }, lane.prompt), ...order.map((place) => {
        const write = standing.get(place);
        return h("span", { class: "or-token", dataset: { state: write ? "written" : "open" } }, write ? visible(write.symbol) : "_");
      })] : []));
      const all = passes === total && recorded, wrong = places.filter((place) => standing.has(place) && !right(place)).length;
      verdict.dataset.correct = all ? String(lane.correct) : "";
      const sure = percent([...standing.values()].reduce((product, { p }) => product * p, 1));
      const answer = `${lane.correct ? "✓" : "✗"} ${lane.said ?? "no number"}${lane.correct ? "" : `, right is ${sum}`} (probability ${sure})`;
      const soFar = `${standing.size} of ${places.length} digits${!standing.size ? "" : wrong ? `, ${wrong} wrong` : ", all right so far"}`;
      setText(verdict, !recorded ? "" : all ? answer : soFar);
      verdict.title = all ? "The product of the probabilities of the digits written" : "";
      const others = chosen ? lane.steps[chosen.step].length - 1 : 0;
      setText(about, chosen ? explain(chosen, needed, others, shown) : recorded ? "Nothing is written yet." : "");
      setText(which, chosen ? `${capital(placeName(chosen.place))}: probability of each digit` : "");
      const truth = chosen ? digit(sum, chosen.place) : -1;
      distribution.style.visibility = chosen ? "" : "hidden";
      bars.forEach(({ fill, box: column }, i) => {
        const p = chosen?.digits[i] ?? 0;
        fill.style.height = `${100 * p}%`;
        column.dataset.kind = i === truth ? "right" : chosen && chosen.symbol === String(i) ? "wrong" : "other";
        column.title = `${i}: ${percent(p)}`;
      });
    };

    // What the digit depended on, in words.
    const explain = (chosen, needed, others, shown) => {
      const own = capital(placeName(chosen.place)), far = needed.length - 1;
      const apart = others > 0 ? ` Written in one pass with ${others === 1 ? "another digit" : `${others} others`}, unseen by it.` : "";
      if (far === 0) return `${own}: they need no other place.${apart}`;
      const to = placeName(needed[far]);
      if (far === 1 && shown) return `${own}: a carry would come from further right, but the ${to}, written before, show it.${apart}`;
      if (far === 1) return `${own}: for the carry, the ${to} are needed too.${apart}`;
      return `${own}: ${far} more places are needed, down to the ${to}: the carry may come from there, and no digit written before tells.${apart}`;
    };
    return { box, show };
  };
  return { make };
})();

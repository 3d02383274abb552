// The text of a lane, a span for each token; and the tokens of one call with what the target said of them.
const speculationText = (view, words) => {
  const { h, setText, visible } = arlab;
  const { stateOf, clock, many } = speculation;
  const MEANING = {
    accepted: "drafted and accepted", rejected: "drafted and rejected", unused: "drafted behind a rejected one: never tested",
    corrected: "the target's own token in place of the rejected one", bonus: "the target's own token after an accepted draft",
    end: "drafted and accepted: the end symbol", token: "from the target, nothing was drafted",
  };
  const word = (id) => words()[id] ?? `#${id} `;
  // In running text spaces stay spaces, and lines end where they end; not in a token that was thrown away.
  const running = (text) => visible(text).replace(/␣/g, " ").replace(/⏎/g, "⏎\n");
  const shown = ({ id, kind }) => (kind === "rejected" || kind === "unused" ? running(word(id)).replace(/\n/g, "") : running(word(id)));

  // A lane: set(lane, prompt) lays out all of its tokens at once, those to come invisible, so that nothing moves later.
  // A copy of the end state lies underneath and gives the height: a pending token is larger than the same one thrown away.
  const column = (name) => {
    const head = h("h4", {}), count = h("span", { class: "sp-count" });
    const real = h("div", { class: "sp-real" }), ghost = h("div", { class: "sp-ghost", "aria-hidden": "true" });
    const text = h("div", { class: "sp-text al-token", role: "region", tabindex: 0, "data-lm-suppress-shortcuts": "true", dataset: { lane: name } }, ghost, real);
    const box = h("div", { class: "sp-column" }, h("div", { class: "sp-head" }, head, count), text);
    let lane = null, spans = [], states = [];
    const set = (next, title, prompt) => {
      lane = next;
      setText(head, title);
      text.setAttribute("aria-label", `The text ${title.toLowerCase()}`);
      spans = lane.parts.map((part, i) => h("span", { class: "sp-part", dataset: { state: "hidden", kind: part.kind, part: i } }, shown(part)));
      states = lane.parts.map(() => "hidden");
      real.replaceChildren(h("span", { class: "sp-prompt" }, prompt), ...spans);
      ghost.replaceChildren(h("span", {}, prompt), ...lane.parts.map((part) => h("span", { class: "sp-part", dataset: { state: part.kind, kind: part.kind } }, shown(part))));
    };
    const show = (t, follow) => {
      let last = null;
      lane.parts.forEach((part, i) => {
        const state = stateOf(part, t);
        if (state !== "hidden") last = spans[i];
        if (state !== states[i]) spans[i].dataset.state = states[i] = state;
      });
      if (!follow || text.scrollHeight <= text.clientHeight) return;
      const bottom = last ? last.offsetTop + last.offsetHeight : 0; // a long text scrolls along
      if (bottom > text.scrollTop + text.clientHeight || bottom < text.scrollTop) text.scrollTop = bottom - text.clientHeight + 16;
    };
    view.listen(text, "mousemove", (event) => {
      const i = event.target.closest?.("[data-part]")?.dataset.part, part = lane.parts[i];
      if (!part || states[i] === "hidden") { view.untip(); return; }
      const settled = states[i] !== "pending", ratio = lane.calls[part.call].step?.ratios[part.place];
      view.tip(event, h("span", { class: "al-token" }, visible(word(part.id))), ` ${settled ? MEANING[part.kind] : "drafted, not yet judged"}`,
        settled && ratio !== undefined ? ` (its chance of acceptance was ${ratio.toFixed(3)})` : "",
        h("br"), `call ${part.call + 1}, at ${clock(part.settled)}`);
    });
    view.listen(text, "mouseleave", () => view.untip());
    return { box, count, set, show };
  };

  // One call in detail.
  const MARK = { accepted: "✓", rejected: "✗", unused: "–", corrected: "C", bonus: "B", end: "✓", token: "T" };
  const SAID = { accepted: "accepted", rejected: "rejected", unused: "not tested", corrected: "corrected", bonus: "bonus", token: "target's own" };
  const chips = () => {
    const title = h("div", { class: "sp-call" }), row = h("div", { class: "sp-chips", tabindex: 0, role: "region",
      "data-lm-suppress-shortcuts": "true", "aria-label": "The tokens of this call" });
    const chip = (kind, id, note) => h("span", { class: "sp-chip", dataset: { kind } },
      h("span", { class: "sp-chip-token al-token" }, visible(word(id))), h("span", { class: "sp-chip-note" }, h("b", {}, MARK[kind]), ` ${note}`));
    let last = null;
    const show = (lane, number) => { // number: of calls that are over
      const call = lane.calls[number - 1], key = call ?? lane;
      if (key === last) return;
      last = key;
      if (!call) {
        setText(title, `Before the first of ${many(lane.calls.length, "target call")}.`);
        row.replaceChildren();
        return;
      }
      const { step } = call, own = step.tokens.slice(step.accepted);
      const drafted = step.drafted.length ? `${step.drafted.length} drafted, ${step.accepted} accepted` : "nothing drafted";
      setText(title, `Call ${number} of ${lane.calls.length}: ${drafted}, ${many(call.gain, "token")} gained; `
        + `drafting ${clock(step.draft_seconds)}, target ${clock(step.verify_seconds)}`);
      row.replaceChildren(
        ...call.drafts.map((kind, j) => chip(kind, step.drafted[j], kind === "unused" ? SAID.unused : `${SAID[kind]}, chance ${step.ratios[j].toFixed(2)}`)),
        ...own.map((id) => chip(step.kind === "plain" ? "token" : step.kind, id, SAID[step.kind === "plain" ? "token" : step.kind])));
    };
    return { box: h("div", { class: "sp-detail" }, title, row), show };
  };

  return { column, chips, running, word };
};

// Speculation on a clock: what each lane shows at a moment. Pure functions; times in seconds, the end is Infinity.
const speculation = (() => {
  // A lane: `parts`, the tokens in the order of the text, thrown-away drafts included; `calls`, one a call of the target.
  // A part is there as a guess from `drafted` on, and settled from `settled` on; kind says what became of it.
  const plainLane = ({ tokens, seconds }) => {
    let t = 0;
    const calls = seconds.map((spent) => ({ start: t, drafted: t, end: (t += spent), gain: 1, kind: "token", drafts: [] }));
    const parts = tokens.map((id, i) => ({ id, kind: "token", call: i, drafted: calls[i].end, settled: calls[i].end }));
    return { parts, calls, end: t };
  };

  // What became of the drafted tokens: accepted from the front; the first rejected; those behind it, never tested.
  const fates = ({ drafted, accepted, kind }) =>
    drafted.map((_, j) => (j < accepted ? "accepted" : j === accepted && kind === "corrected" ? "rejected" : "unused"));

  const speculativeLane = ({ steps }) => {
    let t = 0;
    const parts = [], calls = [];
    steps.forEach((step, call) => {
      const start = t, drafted = start + step.draft_seconds, end = drafted + step.verify_seconds, drafts = fates(step);
      t = end;
      drafts.forEach((kind, j) => parts.push({ id: step.drafted[j], kind, call, place: j, settled: end,
        drafted: start + (step.draft_seconds * (j + 1)) / drafts.length }));
      for (const id of step.tokens.slice(step.accepted)) {
        parts.push({ id, kind: step.kind === "plain" ? "token" : step.kind, call, drafted: end, settled: end });
      }
      calls.push({ start, drafted, end, gain: step.tokens.length, kind: step.kind, drafts, step });
    });
    return { parts, calls, end: t };
  };

  // "hidden", "pending" (drafted, not yet judged) or the part's kind.
  const stateOf = (part, t) => (t >= part.settled ? part.kind : t >= part.drafted && part.drafted < part.settled ? "pending" : "hidden");
  // How many calls are over at t: they end one after the other.
  const callsAt = (lane, t) => {
    let low = 0, high = lane.calls.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lane.calls[middle].end <= t) low = middle + 1; else high = middle;
    }
    return low;
  };
  const tokensAt = (lane, calls) => lane.calls.slice(0, calls).reduce((sum, call) => sum + call.gain, 0);

  // ---- words for numbers (with spaces that do not break) ----------------------------------------------------------------------------------------
  const clock = (s) => (s < 0.0995 ? `${(1000 * s).toFixed(s < 0.00995 ? 2 : 1)}\u00a0ms` : `${s.toFixed(s < 9.995 ? 2 : 1)}\u00a0s`);
  const share = (p) => (p === null || p === undefined ? "–" : `${(100 * p).toFixed(1)}\u00a0%`);
  const times = (x) => `${x.toFixed(2)}×`;
  const pace = (v) => {
    const parts = Math.round(1 / v);
    return v === 1 ? "real time" : v < 1 && Math.abs(v * parts - 1) < 1e-6 ? `1/${parts}` : `${Number(v.toPrecision(3))}×`;
  };
  const readPace = (text) => { // "1/8", "0.125", "2×", "real time"
    if (text.trim() === "real time") return 1;
    const found = /^(\d*\.?\d+)\s*(?:\/\s*(\d*\.?\d+))?\s*[×x]?$/.exec(text.trim());
    const value = found ? Number(found[1]) / Number(found[2] ?? 1) : NaN;
    return value >= 1 / 1024 && value <= 64 ? value : undefined;
  };
  const many = (n, one) => `${arlab.thousands(n)} ${one}${n === 1 ? "" : "s"}`;

  return { plainLane, speculativeLane, stateOf, callsAt, tokensAt, clock, share, times, pace, readPace, many };
})();

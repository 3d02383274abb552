// Numbers of the training curves: rows from the kernel, the moving average, ticks, speed. No drawing, no elements.
const curves = (() => {
  const COLUMNS = ["run", "step", "tokens", "seconds", "loss", "validated", "validation", "lr", "grad"];
  const KEPT = ["step", "tokens", "seconds", "loss", "validation", "lr", "grad"];
  const AXES = { steps: "step", tokens: "tokens", seconds: "seconds" };

  // The exponential moving average over about `span` steps, as arlab.views.training_curves.smooth computes it.
  const smooth = (steps, values, span) => {
    const keep = 1 - 1 / span, out = new Array(values.length);
    let total = 0, weight = 0, before = -Infinity;
    for (let i = 0; i < values.length; i++) {
      out[i] = NaN;
      if (!Number.isFinite(values[i])) continue;
      const passed = steps[i] - before, fade = passed === 1 ? keep : keep ** Math.max(0, passed);
      total = fade * total + values[i];
      weight = fade * weight + 1;
      before = steps[i];
      out[i] = total / weight;
    }
    return out;
  };

  // One run: a column of numbers for each kind; `validated` holds the places that have a validation loss.
  const newRun = () => ({ ...Object.fromEntries(KEPT.map((name) => [name, []])), validated: [], sealed: 0, sealedValidated: 0, span: 0, memo: {} });
  const cut = (run) => {
    for (const name of KEPT) run[name].length = run.sealed;
    run.validated.length = run.sealedValidated;
    [run.span, run.memo] = [0, {}];
  };
  const seal = (run) => { run.sealed = run.step.length; run.sealedValidated = run.validated.length; };
  const average = (run, span) => {
    if (run.span !== span) [run.average, run.span] = [smooth(run.step, run.loss, span), span];
    return run.average;
  };

  // Least (above 0 where `positive`) and largest finite number of a column: [low, high], [Infinity, -Infinity] for none.
  const extent = (run, name, positive) => (run.memo[`${name}/${positive}`] ??= (() => {
    const values = run[name];
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      const v = values[i];
      if (v - v !== 0 || (positive && v <= 0)) continue; // NaN and infinities are skipped
      if (v < low) low = v;
      if (v > high) high = v;
    }
    return [low, high];
  })());

  // The rows that the model holds, as runs by number. Full chunks are read once, the tail at each call.
  const store = (get) => {
    let epoch = -1, chunks = 0, runs = new Map();
    const push = (data) => {
      if (!data?.byteLength) return;
      const rows = new Float64Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
      for (let i = 0; i < rows.length; i += COLUMNS.length) {
        if (!runs.has(rows[i])) runs.set(rows[i], newRun());
        const run = runs.get(rows[i]);
        if (rows[i + 5]) run.validated.push(run.step.length);
        run.step.push(rows[i + 1]);
        run.tokens.push(rows[i + 2]);
        run.seconds.push(rows[i + 3]);
        run.loss.push(rows[i + 4]);
        run.validation.push(rows[i + 6]);
        run.lr.push(rows[i + 7]);
        run.grad.push(rows[i + 8]);
      }
    };
    const read = () => {
      const stream = get("_stream") ?? { epoch: 0, chunks: 0 };
      if (stream.epoch !== epoch) [epoch, chunks, runs] = [stream.epoch, 0, new Map()];
      for (const run of runs.values()) cut(run);
      while (chunks < stream.chunks && get(`_chunk${chunks}`)) push(get(`_chunk${chunks++}`));
      for (const run of runs.values()) seal(run);
      push(get("_tail"));
      return runs;
    };
    return { read };
  };

  // Steps and tokens a second over the later half of the run, so that a slow start is forgotten; null before there are two.
  const pace = (run) => {
    const last = run.step.length - 1, from = last >> 1, spent = run.seconds[last] - run.seconds[from];
    if (!(last > 0 && spent > 0)) return null;
    return { steps: (run.step[last] - run.step[from]) / spent, tokens: (run.tokens[last] - run.tokens[from]) / spent };
  };
  const clock = (seconds) => {
    const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  };

  // Stretches of losses that are not finite: [first, last] places. What they are is named by `oddities`.
  const stretches = (run) => (run.memo.stretches ??= findStretches(run));
  const findStretches = (run) => {
    const found = [];
    for (let i = 0; i < run.loss.length; i++) {
      if (Number.isFinite(run.loss[i])) continue;
      if (found.length && found.at(-1)[1] === i - 1) found.at(-1)[1] = i;
      else found.push([i, i]);
    }
    return found;
  };
  const spell = (value) => (Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞");
  const oddities = (run) => {
    const found = stretches(run);
    if (!found.length) return "";
    const [first, last] = found[0], at = arlab.thousands(run.step[first]);
    const bad = run.loss.filter((value) => !Number.isFinite(value)), kinds = new Set(bad.map(spell));
    const kind = `loss is ${kinds.size === 1 ? spell(bad[0]) : "not finite"}`;
    if (bad.length === 1) return `${kind} at step ${at}`;
    return found.length === 1 && last === run.step.length - 1 ? `${kind} from step ${at} on` : `${kind} ${arlab.thousands(bad.length)} times, first at step ${at}`;
  };

  // The place of the last record at or before x; -1 before the first. Places with no x (NaN) are at the end, if any.
  const placeOf = (xs, x) => {
    let low = 0, high = xs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  };

  // ---- axes ----------------------------------------------------------------------------------------------------
  const niceStep = (rough) => {
    const power = 10 ** Math.floor(Math.log10(rough)), size = rough / power;
    return (size > 5 ? 10 : size > 2 ? 5 : size > 1 ? 2 : 1) * power;
  };
  // Ticks of a linear axis, as whole multiples of a round step; the axis is widened to them where `widen` is set.
  const linearTicks = (low, high, count, widen) => {
    const step = niceStep((high - low) / count), round = (n) => Number((n * step).toPrecision(12));
    const from = widen ? Math.floor(low / step + 1e-9) : Math.ceil(low / step - 1e-9);
    const to = widen ? Math.ceil(high / step - 1e-9) : Math.floor(high / step + 1e-9);
    const ticks = Array.from({ length: to - from + 1 }, (_, i) => round(from + i));
    return { low: widen ? ticks[0] : low, high: widen ? ticks.at(-1) : high, ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  };
  // Ticks of a logarithmic axis: powers of ten, with others between where there is room; within a decade, those of a linear one.
  const logTicks = (low, high, count) => {
    const decades = Math.log10(high / low);
    if (decades < 1) return linearTicks(low, high, count, false);
    const parts = [[1, 2, 5], [1, 3]].find((some) => some.length * decades <= count + 1) ?? [1];
    const stride = Math.max(1, Math.ceil(decades / count)), ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
      if (p % stride === 0) ticks.push(...parts.map((part) => Number((part * 10 ** p).toPrecision(12))));
    }
    return { low, high, ticks: ticks.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) };
  };
  // A tick as text: 0.25, 1,500, 20k, 1.5M; `digits` after the point, where all ticks are to have as many.
  const tickText = (value, digits) => {
    const size = Math.abs(value);
    if (size >= 1e9) return `${Number((value / 1e9).toPrecision(4))}B`;
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
    if (size >= 1000) return arlab.thousands(value);
    if (digits !== undefined && size < 1000) return value.toFixed(digits).replace("-", "−");
    return size !== 0 && size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(6))).replace("-", "−");
  };

  return { AXES, smooth, store, average, extent, pace, clock, stretches, spell, oddities, placeOf, linearTicks, logTicks, tickText };
})();

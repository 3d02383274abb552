// The counts of arlab/nn/costs.py, under the same names; and how bytes and FLOPs are written.
const costs = (() => {
  const headDim = (c) => c.d_head ?? c.d_model / c.heads;
  const kvHeads = (c) => c.kv_heads || c.heads;
  const qkvWidth = (c) => (c.heads + 2 * kvHeads(c)) * headDim(c);
  const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);

  // Trainable numbers by part.
  const parameters = (c) => {
    const d = c.d_model, inner = c.heads * headDim(c), qkv = qkvWidth(c), up = (c.ffn === "swiglu" ? 2 : 1) * c.d_ff;
    const norms = 2 * c.layers + (c.norm_first ? 1 : 0);
    const width = { layer: d * (1 + (c.bias ? 1 : 0)), rms: d, batch: 2 * d, none: 0 }[c.norm];
    return {
      embedding: c.vocab_size * d,
      positions: c.positions === "learned" ? c.context_length * d : 0,
      attention: c.layers * (d * qkv + (c.qkv_has_bias ? qkv : 0) + inner * d + (c.bias ? d : 0)),
      ffn: c.layers * (d * up + c.d_ff * d + (c.bias ? up + d : 0)),
      norms: norms * width,
      head: c.tied ? 0 : c.vocab_size * d,
    };
  };

  // FLOPs by part of a pass over `time` new tokens of one row, `past` tokens lying in the cache.
  const forwardFlops = (c, time, past = 0, lastOnly = false) => {
    const d = c.d_model, inner = c.heads * headDim(c), square = 2 * c.layers * time * (past + time) * inner;
    return {
      qkv: 2 * c.layers * time * d * qkvWidth(c),
      scores: square,
      mix: square,
      out: 2 * c.layers * time * inner * d,
      ffn: 2 * c.layers * time * (c.ffn === "swiglu" ? 3 : 2) * d * c.d_ff,
      logits: 2 * (lastOnly ? 1 : time) * d * c.vocab_size,
    };
  };

  const attentionWeightBytes = (c, rows, time, itemsize) => c.layers * rows * c.heads * time * time * itemsize;
  const fusedAttentionBytes = (c, rows, time) => c.layers * rows * c.heads * time * 4;
  const kvCacheBytes = (c, rows, time, itemsize) => 2 * c.layers * rows * kvHeads(c) * time * headDim(c) * itemsize;

  // The lines that are drawn, each a function of T; and where lines cross. state: { config, rows, itemsize, memory }
  const GIB = 2 ** 30;
  const lines = ({ config, rows, itemsize }) => {
    const weights = sum(parameters(config)) * itemsize;
    return {
      weights: () => weights,
      "attention maps": (time) => attentionWeightBytes(config, rows, time, itemsize),
      "fused attention": (time) => fusedAttentionBytes(config, rows, time),
      "KV cache": (time) => kvCacheBytes(config, rows, time, itemsize),
      "without cache": (time) => sum(forwardFlops(config, time, 0, true)),
      "with cache": (time) => sum(forwardFlops(config, 1, time - 1)),
      training: (time) => (3 * sum(forwardFlops(config, time))) / time,
    };
  };
  const figures = (state) => {
    const { config, rows, itemsize, memory, time } = state, at = {};
    for (const [name, line] of Object.entries(lines(state))) at[name] = line(time);
    const maps = attentionWeightBytes(config, 1, 1, itemsize), cache = kvCacheBytes(config, 1, 1, itemsize);
    const step = forwardFlops(config, 1, 0), perToken = step.scores + step.mix, free = memory * GIB - at.weights;
    return { ...at,
      "maps pass the weights at": Math.sqrt(at.weights / (rows * maps)),
      "cache passes the weights at": at.weights / (rows * cache),
      "attention passes the matrices at": (sum(step) - perToken) / perToken,
      "rows with maps": Math.max(0, Math.floor(free / (maps * time * time))),
      "rows with cache": Math.max(0, Math.floor(free / (cache * time))),
    };
  };

  // 1536 -> "1.5 KiB"; three figures, and never "1000 GiB" for what is nearly a TiB.
  const scaled = (value, step, units) => {
    let n = 0;
    while (n < units.length - 1 && value / step ** n >= (step === 1024 ? 1000 : 999.5)) n++;
    const x = value / step ** n;
    const text = n === 0 && Number.isInteger(x) ? String(x) : x >= 99.95 ? x.toFixed(0) : x >= 9.995 ? x.toFixed(1) : x.toFixed(2);
    return `${text.includes(".") ? text.replace(/\.?0+$/, "") : text} ${units[n]}`;
  };
  const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
  const flops = (value) => scaled(value, 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"]);
  const count = (value) => scaled(value, 1000, ["", "thousand", "million", "billion", "trillion"]).trim();
  const seconds = (value) => (value < 1 ? scaled(value * 1e9, 1000, ["ns", "µs", "ms"]) : `${Number(value.toPrecision(3))} s`);

  // Divisors, for sizes that must fit each other. even: the quotient must be even too (rotary positions turn pairs).
  const divisors = (n, even) => Array.from({ length: Math.min(n, 256) }, (_, i) => i + 1).filter((h) => n % h === 0 && (!even || (n / h) % 2 === 0));
  const nearest = (list, value) => list.reduce((best, one) => (Math.abs(one - value) < Math.abs(best - value) ? one : best));
  // From `now` towards `wanted`: the first that fits at or beyond it, so that a key press always moves.
  const towards = (list, wanted, now) => (wanted > now ? list.find((one) => one >= wanted) ?? list.at(-1)
    : list.findLast((one) => one <= wanted) ?? list[0]);

  return { parameters, forwardFlops, attentionWeightBytes, fusedAttentionBytes, kvCacheBytes, lines, figures, sum,
    bytes, flops, count, seconds, divisors, nearest, towards };
})();

// Contrastive scores over a whole vocabulary, exactly as arlab.decoding.contrastive computes them.
// Tokens come in the order of the strong model (largest logit first, ties by lowest id), so the plausible set is always
// the first `n` of them. The guard compares float32 logits; scores are float32 differences of log-probabilities.
const Contrast = (() => {
  const LOWEST = -1e4; // nats: stands for a weak log-probability of -inf, as in arlab.decoding.contrastive

  return class {
    // Float32Arrays in the strong model's order; ids: Uint32Array, the token at each rank
    constructor({ logits, strong, weak, ids }) {
      Object.assign(this, { logits, strong, weak, ids, size: logits.length });
      this.finite = this.size; // tokens that the strong model thinks possible at all
      while (this.finite > 0 && logits[this.finite - 1] === -Infinity) this.finite--;
      this.score = new Float32Array(this.size).fill(-Infinity); // without the guard
      this.mass = new Float64Array(this.size); // cumulative p_strong
      let total = 0;
      for (let i = 0; i < this.size; i++) {
        if (i < this.finite) this.score[i] = strong[i] - Math.max(weak[i], LOWEST);
        this.mass[i] = total += Math.exp(strong[i]);
      }
      this.free = this.best(this.finite, 3); // what would win without the guard
      this.n = this.finite; // plausible tokens
    }

    // alpha: in (0, 1], or null for no guard
    guard(alpha) {
      this.n = this.finite;
      if (alpha === null) return this;
      const { logits } = this, limit = Math.fround(logits[0] + Math.fround(Math.log(alpha)));
      let low = 1, high = this.finite; // the first rank below the limit, by halving; the argmax always stays
      while (low < high) {
        const middle = (low + high) >> 1;
        if (logits[middle] >= limit) low = middle + 1; else high = middle;
      }
      this.n = low;
      return this;
    }

    // The ranks of the `count` highest scores among the first n, best first, the lowest id first among equals.
    best(n, count) {
      const { score, ids } = this, found = [];
      const above = (i, j) => score[i] > score[j] || (score[i] === score[j] && ids[i] < ids[j]);
      for (let i = 0; i < n; i++) {
        if (found.length === count && !above(i, found[count - 1])) continue;
        if (found.length === count) found.pop();
        let at = found.length;
        while (at > 0 && above(i, found[at - 1])) at--;
        found.splice(at, 0, i);
      }
      return found;
    }

    // How many tokens outside the plausible set score higher than rank i.
    beaten(i) {
      let count = 0;
      for (let j = this.n; j < this.finite; j++) if (this.score[j] > this.score[i]) count++;
      return count;
    }

    get plausibleMass() { return this.mass[this.n - 1] / this.mass[this.size - 1]; }
  };
})();

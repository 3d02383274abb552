// One next-token distribution and the filters on it, exactly as arlab.decoding.filters computes them.
// Logits come sorted (largest first, ties by lowest id). No filter here changes that order, so what survives any
// chain of them is always the first `n` of the order: a cut is one number. Probabilities are exponentials in float32,
// masses are summed in float64. Buffers are made once; a drag allocates nothing.
const { Distribution, uniform } = (() => {
  const LN2 = Math.LN2;

  class Distribution {
    // logits: Float32Array, sorted; ids: Uint32Array, the token at each rank
    constructor(logits, ids) {
      const size = logits.length;
      this.size = size;
      this.logits = logits;
      this.ids = ids;
      this.finite = size; // tokens that are not at -inf to begin with
      while (this.finite > 0 && logits[this.finite - 1] === -Infinity) this.finite--;
      this.z = new Float32Array(size); // logits as they stand
      this.e = new Float32Array(size); // exp(z - max), of survivors
      this.mass = new Float64Array(size); // cumulative e in order, of survivors
      this.order = new Uint32Array(size); // rank now -> rank in `logits`; differs only inside new ties
      this.moved = false; // whether it differs anywhere
      this.n = 0; // survivors
      this.total = 0; // their mass: the sum of e
      this.fresh = false; // whether e, mass and total belong to the present z and n
    }

    reset() {
      this.z.set(this.logits);
      for (let i = 0; i < this.size; i++) this.order[i] = i;
      this.moved = false;
      this.n = this.finite;
      this.fresh = false;
      return this;
    }

    temperature(t) {
      if (t === 1) return this;
      const { z, n } = this;
      if (t === 0) { // the limit: the largest logit alone, the lowest id among equals
        this.n = Math.min(n, 1);
      } else if (t >= 1e-3) {
        const divisor = Math.fround(t);
        for (let i = 0; i < n; i++) z[i] = z[i] / divisor; // stored in float32, so rounded to it
        this.settleTies();
      } else { // a tiny t would overflow to +inf: move the peak to 0 first; what becomes -inf is removed
        const top = z[0];
        for (let i = 0; i < n; i++) z[i] = (z[i] - top) / t;
        while (this.n > 0 && z[this.n - 1] === -Infinity) this.n--;
        this.settleTies();
      }
      this.fresh = false;
      return this;
    }

    // Dividing may make neighbours equal; equal logits stand in order of their ids.
    settleTies() {
      const { z, order, ids, n } = this;
      for (let i = 1; i < n; i++) {
        if (z[i] !== z[i - 1] || ids[order[i]] > ids[order[i - 1]]) continue;
        let first = i - 1, last = i + 1;
        while (first > 0 && z[first - 1] === z[i]) first--;
        while (last < n && z[last] === z[i]) last++;
        order.subarray(first, last).sort((a, b) => ids[a] - ids[b]);
        this.moved = true;
        i = last;
      }
    }

    // e, cumulative mass and total of the survivors
    weigh() {
      if (this.fresh) return this;
      const { z, e, mass, n } = this;
      const top = n ? z[0] : 0;
      let total = 0;
      for (let i = 0; i < n; i++) {
        e[i] = Math.exp(Math.fround(z[i] - top));
        total += e[i];
        mass[i] = total;
      }
      this.total = total;
      this.fresh = true;
      return this;
    }

    cutTo(n) {
      if (n >= this.n) return this;
      this.n = n;
      if (this.fresh) this.total = n ? this.mass[n - 1] : 0; // e and mass of the first n stay as they are
      return this;
    }

    topK(k) { return k > 0 ? this.cutTo(k) : this; }

    // Keep a token while the mass before it is less than p.
    topP(p) {
      if (p >= 1) return this;
      this.weigh();
      const { e, mass, n } = this, limit = p * this.total;
      let low = 1, high = n; // the first rank whose preceding mass reaches the limit, by halving
      while (low < high) {
        const middle = (low + high) >> 1;
        if (mass[middle] - e[middle] < limit) low = middle + 1; else high = middle;
      }
      return this.cutTo(low);
    }

    // Keep a token at least p times as probable as the first.
    minP(p) {
      if (!(p > 0)) return this;
      this.weigh();
      const { e, n } = this;
      let low = 1, high = n;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (e[middle] >= p) low = middle + 1; else high = middle;
      }
      return this.cutTo(low);
    }

    // The probability of rank i among the survivors.
    p(i) { return i < this.n ? this.e[i] / this.total : 0; }

    // The rank now of the token that came at rank i of the raw order; below n if it survived.
    rankNow(i) {
      if (!this.moved || this.order[i] === i) return i;
      const value = this.z[i];
      let j = i;
      while (j > 0 && this.z[j - 1] === value) j--;
      while (this.order[j] !== i) j++;
      return j;
    }
    idAt(rank) { return this.ids[this.order[rank]]; }

    // Entropy of the survivors, in bits: log S - (sum of e * (z - max)) / S, in float64.
    entropy() {
      this.weigh();
      const { z, e, n } = this, top = n ? z[0] : 0;
      let sum = 0;
      for (let i = 0; i < n; i++) if (e[i] > 0) sum += e[i] * (z[i] - top);
      return Math.max(0, (Math.log(this.total) - sum / this.total) / LN2);
    }

    // The rank on which a uniform number u in [0, 1) lands: the first whose cumulative probability exceeds u.
    land(u) {
      this.weigh();
      const target = u * this.total, { mass, n } = this;
      let low = 0, high = n - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (mass[middle] > target) high = middle; else low = middle + 1;
      }
      return low;
    }
  }

  // The i-th uniform number of a seed, in [0, 1) with 53 bits: two rounds of a 32-bit mixing function on a counter.
  const scramble = (x) => {
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };
  const uniform = (seed, i) => {
    const key = scramble((seed ^ 0x9e3779b9) >>> 0);
    const high = scramble((key + Math.imul(2 * i + 1, 0x9e3779b9)) >>> 0) >>> 5; // 27 bits
    const low = scramble((key ^ Math.imul(2 * i + 2, 0x85ebca6b)) >>> 0) >>> 6; // 26 bits
    return (high * 67108864 + low) / 9007199254740992;
  };

  return { Distribution, uniform };
})();

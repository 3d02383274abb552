// Vectors for positions, as arlab/nn/positions.py computes them: tables of length x d numbers, row by row.
const positions = (() => {
  // Radians a position for each pair: base^(-2i/d), from fast to slow.
  const frequencies = (d, base) => Float64Array.from({ length: d / 2 }, (_, i) => base ** ((-2 * i) / d));

  // Feature 2i is the sine and 2i + 1 the cosine of position times frequency i.
  const sinusoidal = (length, d, base) => {
    const w = frequencies(d, base), out = new Float64Array(length * d);
    for (let m = 0; m < length; m++) for (let i = 0; i < d / 2; i++) {
      out[m * d + 2 * i] = Math.sin(m * w[i]);
      out[m * d + 2 * i + 1] = Math.cos(m * w[i]);
    }
    return out;
  };

  // The vector x at every position: the pair (x[i], x[i + d/2]) turned by position times frequency i.
  const turned = (x, length, base) => {
    const d = x.length, half = d / 2, w = frequencies(d, base), out = new Float64Array(length * d);
    for (let m = 0; m < length; m++) for (let i = 0; i < half; i++) {
      const c = Math.cos(m * w[i]), s = Math.sin(m * w[i]);
      out[m * d + i] = x[i] * c - x[i + half] * s;
      out[m * d + i + half] = x[i + half] * c + x[i] * s;
    }
    return out;
  };

  const dot = (a, m, b, n, d) => {
    let sum = 0;
    for (let c = 0; c < d; c++) sum += a[m * d + c] * b[n * d + c];
    return sum;
  };

  // How many binary digits count to `length`, and digit b of m: it flips every 2^b positions.
  const digits = (length) => Math.max(1, Math.ceil(Math.log2(length)));
  const digit = (m, b) => (m >> b) & 1;
  // The digit whose period 2^(b+1) is nearest to a wavelength, on a log scale.
  const nearestDigit = (wavelength, count) => Math.max(0, Math.min(count - 1, Math.round(Math.log2(wavelength)) - 1));

  // How far two rows of products are from depending on the distance alone: the largest difference between row a of
  // position m and row b of position n, compared at equal distances. Only the first `known` positions have a vector.
  const spread = (a, m, b, n, known) => {
    let most = 0;
    for (let far = -Math.min(m, n); far < known - Math.max(m, n); far++) most = Math.max(most, Math.abs(a[m + far] - b[n + far]));
    return most;
  };

  return { frequencies, sinusoidal, turned, dot, digits, digit, nearestDigit, spread };
})();

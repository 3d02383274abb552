// The numbers of the contrastive view as text, and what they mean in words.
const contrastWords = (() => {
  const { percent, thousands } = arlab;
  const power = (decade) => (decade === 0 ? "1" : `10⁻${String(decade).replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])}`);
  const share = (p) => percent(p).replace(" ", "\u00a0");
  const prob = (logp, digits = 0) => { // a probability, as a percentage or as 3e−7
    const p = Math.exp(logp);
    return p >= 1e-4 || p === 0 ? share(p) : p.toExponential(digits).replace("-", "−");
  };
  const signed = (x) => {
    if (x === -Infinity) return "−∞";
    const text = Math.abs(x) < 1000 ? Math.abs(x).toFixed(2) : thousands(Math.round(Math.abs(x)));
    return `${x < 0 ? "−" : "+"}${text}`;
  };
  const round = (x) => (x >= 1e6 ? x.toExponential(0).replace("+", "") : x >= 100 ? thousands(Math.round(x)) : String(Number(x.toPrecision(2))));
  const written = (alpha) => {
    const six = Number(alpha.toPrecision(6));
    return alpha >= 0.001 ? String(six) : six.toExponential();
  };
  const modelName = (name, plain) => (name === plain ? `the ${plain} model` : name);
  const capital = (text) => (text.startsWith("the ") ? `T${text.slice(1)}` : text);

  // Sentences, each an array of strings and elements. S, W: names of the models; alpha: null without the guard;
  // chosen: a rank; limit: the log of the least plausible probability; beaten: implausible tokens that score higher.
  const story = ({ contrast, chosen, limit, beaten, S, W, alpha, token }) => {
    const { n, strong, weak, free: [first] } = contrast, guarded = alpha !== null, score = contrast.score[chosen];
    const p = (rank) => prob(strong[rank], 1), value = (rank) => signed(contrast.score[rank]);
    const lines = [];
    const say = (...parts) => lines.push(parts);

    if (guarded) {
      say(`Plausible is what ${S} gives at least α · max p = ${written(alpha)} · ${p(0)} = ${prob(limit, 1)}: `,
        n === 1 ? "one token" : `${thousands(n)} tokens`, `, with ${share(contrast.plausibleMass)} of its probability.`);
    } else say(`The guard is off: all ${thousands(n)} tokens that ${S} thinks possible at all compete.`);

    const agree = n > 1 && Math.abs(score) < 1e-3 && Math.abs(contrast.score[0]) < 1e-3;
    if (agree) {
      say("Both models say the same here (does the text fit into the weak one's context?). Scores are no more than rounding, and the choice of ", token(chosen), " means nothing.");
    } else if (weak[chosen] === -Infinity) {
      say(token(chosen), ` is chosen: ${W} rules it out altogether, ${S} gives it ${p(chosen)}.`);
    } else {
      const times = `${round(Math.exp(Math.abs(score)))} times as ${score < 0 ? "im" : ""}probable`;
      say(token(chosen), ` is chosen: it is ${times} under ${S} (${p(chosen)}) as under ${W} (${prob(weak[chosen], 1)}). The log of that ratio is the score, ${signed(score)}.`);
    }

    if (chosen === 0) say(`${capital(S)} alone would take the same token.`);
    else say(`${capital(S)} alone would take `, token(0), ` (${p(0)}, score ${value(0)}).`);

    if (guarded && first === chosen) say("Without the guard the same token would win.");
    else if (guarded) {
      say("Without the guard ", token(first), ` would win with ${value(first)}, though ${S} gives it only ${p(first)}. `,
        beaten === 1 ? "It is the one implausible token that scores" : `${thousands(beaten)} implausible tokens score`, " higher than the chosen one.");
    } else if (strong[chosen] < strong[0] + Math.log(1e-3)) {
      say(`${capital(S)} finds its own favourite ${round(Math.exp(strong[0] - strong[chosen]))} times as probable. Where both models see next to nothing, the ratio of two tiny numbers decides; the guard is there to stop that.`);
    }
    return lines;
  };
  return { power, prob, share, signed, written, modelName, capital, story };
})();

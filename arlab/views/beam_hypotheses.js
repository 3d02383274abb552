// What a beam search holds after each of its steps: arlab/views/beam_tree.py's rules once more, under the same names.
// A tree is a search with one beam size: parents, tokens, scores, logprobs, totals, steps, ranks, fates; node 0 is the prompt.
const beamSearch = (() => {
  const LIVE = 0, CUT = 1, ENDED = 2, LIMIT = 3;
  const ended = (tree, i) => tree.fates[i] === ENDED || tree.fates[i] === LIMIT;
  const score = (tree, i, penalty) => tree.totals[i] / tree.steps[i] ** penalty;

  // The nodes of the live branches after a step, best first.
  const live = (tree, step) => tree.fates.map((_, i) => i).filter((i) => tree.fates[i] === LIVE && tree.steps[i] === step);
  // The nodes of the best hypotheses after a step, at most `beams`; of equals, the one found first.
  const kept = (tree, step, beams, penalty) => tree.fates.map((_, i) => i).filter((i) => ended(tree, i) && tree.steps[i] <= step)
    .sort((a, b) => score(tree, b, penalty) - score(tree, a, penalty) || a - b).slice(0, beams);

  // The best score that a live branch can still come to: a token adds `highest` at most (null: there is no limit).
  const bound = (tree, step, penalty, { steps, highest }) => {
    if (highest === null) return Infinity;
    const reached = tree.totals[live(tree, step)[0]] + Math.max(highest, 0) * (steps - step);
    return Math.max(reached / (step + 1) ** penalty, reached / steps ** penalty);
  };
  // Why the search is over after this step: "none" is left alive, or none "can" come among the best; "" when it goes on.
  const isOver = (tree, step, beams, penalty, limits) => {
    if (!live(tree, step).length) return "none";
    const best = kept(tree, step, beams, penalty);
    return best.length === beams && score(tree, best.at(-1), penalty) >= bound(tree, step, penalty, limits) ? "can" : "";
  };
  const lastStep = (tree, beams, penalty, limits) => {
    for (let step = 1; step < limits.steps; step++) if (isOver(tree, step, beams, penalty, limits)) return step;
    return limits.steps;
  };

  // Which nodes lead somewhere after a step: to a live branch, or to a hypothesis that is kept.
  const strong = (tree, tips) => {
    const on = new Set([0]);
    for (const tip of tips) for (let i = tip; i > 0 && !on.has(i); i = tree.parents[i]) on.add(i);
    return on;
  };
  // The node at the end of a path of token ids, or as far along it as the search looked, no further than `step`.
  const along = (tree, path, step) => {
    let at = 0;
    for (const token of path.slice(0, step)) {
      const next = tree.parents.findIndex((parent, i) => parent === at && tree.tokens[i] === token);
      if (next < 0) break;
      at = next;
    }
    return at;
  };
  return { LIVE, CUT, ENDED, LIMIT, ended, score, live, kept, bound, isOver, lastStep, strong, along };
})();

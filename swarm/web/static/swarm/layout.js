/** Where things lie on a map of blocks: lanes, marks of the axis, and the way of a token. */

const LOW = 0.8; // Of a lane: below the names.

/** Peers that hold blocks, each with the lane in which it overlaps nobody: `[{peer, lane}]`. */
export function lanes(peers) {
  const ends = [];
  const held = peers.filter((peer) => peer.start < peer.end);
  held.sort((a, b) => a.start - b.start || b.end - a.end || (a.peer < b.peer ? -1 : 1));
  const placed = held.map((peer) => {
    let lane = ends.findIndex((end) => end <= peer.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = peer.end;
    return { peer, lane };
  });
  return { placed, count: Math.max(1, ends.length) };
}

/** Blocks that the axis names: round ones, about as many as `most`, and the end. */
export function ticks(numBlocks, most = 8) {
  const steps = [1, 2, 4, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
  const step = steps.find((each) => numBlocks / each <= most) ?? 20000;
  const marks = [];
  for (let mark = 0; mark < numBlocks - step / 2; mark += step) marks.push(mark);
  return [...marks, numBlocks];
}

/** Per cent of the map's width. */
export function share(block, numBlocks) {
  return `${(100 * block) / numBlocks}%`;
}

/** The points `[x, y]` of a token's way, in blocks and lanes; null where a hop is not on the map. */
export function way(hops, placed) {
  const points = [];
  for (const hop of hops) {
    const found = placed.find(({ peer }) => peer.peer === hop.peer);
    if (!found) return null;
    points.push([hop.start, found.lane + LOW], [hop.end, found.lane + LOW]);
  }
  return points.length ? points : null;
}

// The panel that shows what the server does now, drawn from its own metrics.

import {ask} from './server.js';
import {between, quantile, snapshot} from './metrics.js';

const period = 2_000;
const recent = 10_000; // what the figures stand for
const kept = 300_000;  // what the lines show at most
const least = 60_000;  // and from the start

const panel = document.getElementById('live');
const state = document.getElementById('live-state');
const stateText = state.textContent;
const svgSpace = 'http://www.w3.org/2000/svg';
const width = 240;
const height = 44;

let looks = [];  // snapshots of the last `recent` and one before
let points = []; // {time, rate, p50, ...} of the last `kept`
let timer;
let delay = period;

function svg(name, attributes) {
  const element = document.createElementNS(svgSpace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Quantiles of buckets are no more exact than that.
const number = new Intl.NumberFormat('en', {maximumSignificantDigits: 2});
const rate = (value) => `${value < 9.95 ? Math.round(value * 10) / 10 : Math.round(value)} /s`;
const time = (seconds) => {
  if (Number.isNaN(seconds)) return '–';
  return seconds < 1 ? `${number.format(seconds * 1000)} ms` : `${number.format(seconds)} s`;
};

// Each: its title, its lines, the figures of the moment, of which those of several lines tell by
// their colour which is whose, and how the height of the drawing is written.
const tiles = [
  {id: 'rate', title: 'Requests', lines: ['rate'], figures: (now) => [rate(now.rate)], scale: rate},
  {
    id: 'latency', title: 'Latency', lines: ['p50', 'p99'], scale: time,
    figures: (now) => [`p50 ${time(now.p50)}`, `p99 ${time(now.p99)}`],
  },
  {
    id: 'batch', title: 'Batch size', lines: [],
    figures: (now) => [Number.isNaN(now.batch) ? '–' : `${now.batch.toFixed(1)} on average`],
  },
  {
    id: 'queue', title: 'Queue', lines: ['depth'], scale: number.format,
    figures: (now) => [`${number.format(now.depth)} of ${now.capacity.toLocaleString('en')}`],
  },
  {
    id: 'errors', title: 'Trouble', lines: ['failed', 'refused'], scale: rate,
    figures: (now) => [`errors ${rate(now.failed)}`, `refusals ${rate(now.refused)}`],
  },
];

for (const tile of tiles) {
  const group = document.createElement('div');
  group.className = 'tile';
  group.id = `live-${tile.id}`;
  const title = document.createElement('dt');
  title.textContent = tile.title;
  tile.value = document.createElement('dd');
  const drawing = document.createElement('dd');
  drawing.className = 'drawing';
  tile.drawing = svg('svg', {
    viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
  });
  drawing.append(tile.drawing);
  tile.below = document.createElement('dd');
  tile.below.className = 'small scale';
  group.append(title, tile.value, drawing, tile.below);
  document.getElementById('tiles').append(group);
}

function drawLines(tile, end) {
  const span = Math.min(kept, Math.max(least, end - points[0].time));
  const most = Math.max(0, ...points.flatMap(
    (point) => tile.lines.map((key) => point[key]).filter((value) => !Number.isNaN(value))));
  const children = [svg('line', {x1: 0, x2: width, y1: height - 1, y2: height - 1, class: 'axis'})];
  for (const key of most > 0 ? tile.lines : []) {
    let path = '';
    let open = false;
    let before = 0;
    for (const point of points) {
      const value = point[key];
      // Nothing to tell, or nobody looked: a gap.
      if (Number.isNaN(value)) {
        open = false;
        continue;
      }
      if (point.time - before > 3 * period) open = false;
      const x = width * (1 - (end - point.time) / span);
      const y = height - 2 - (most > 0 ? (height - 6) * value / most : 0);
      path += `${open ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
      if (!open) path += `h0.1`;
      open = true;
      before = point.time;
    }
    children.push(svg('path', {d: path, class: `line ${key}`}));
  }
  tile.drawing.replaceChildren(...children);
  tile.below.textContent = most > 0 ? `at most ${tile.scale(most)}` : '';
}

// How many of the batches since the page was opened had which size.
function drawBatches(tile) {
  const counts = new Map();
  for (const point of points) {
    for (const {bound, count} of point.batches) counts.set(bound, (counts.get(bound) ?? 0) + count);
  }
  const sizes = [...counts].filter(([bound, count]) => bound !== Infinity || count > 0);
  const most = Math.max(1, ...sizes.map(([, count]) => count));
  const step = width / Math.max(1, sizes.length);
  tile.drawing.replaceChildren(...sizes.map(([, count], i) => {
    const tall = count > 0 ? Math.max(2, (height - 2) * count / most) : 1;
    return svg('rect', {
      x: i * step + 1, y: height - tall, width: Math.max(1, step - 4), height: tall,
      class: count > 0 ? 'bar' : 'bar none',
    });
  }));
  tile.below.replaceChildren(...sizes.map(([bound], i) => {
    const label = document.createElement('span');
    const low = i > 0 ? sizes[i - 1][0] + 1 : bound;
    label.textContent = bound === Infinity ? 'more' : low < bound ? `${low}–${bound}` : `${bound}`;
    return label;
  }));
}

function pointOf(before, last, now) {
  const seconds = (now.time - before.time) / 1000;
  const latency = between(before.latency, now.latency);
  const batchCount = now.batchCount - before.batchCount;
  return {
    time: now.time,
    rate: (now.requests - before.requests) / seconds,
    failed: (now.failed - before.failed) / seconds,
    refused: (now.refused - before.refused) / seconds,
    p50: quantile(latency, 0.5),
    p99: quantile(latency, 0.99),
    batch: batchCount > 0 ? (now.batchSum - before.batchSum) / batchCount : NaN,
    batches: between(last.batches, now.batches),
    depth: now.depth,
    capacity: now.capacity,
  };
}

function show(now) {
  const last = looks.at(-1);
  // A server that began anew counts from zero again.
  if (last && now.requests < last.requests) looks = [];
  looks.push(now);
  while (looks.length > 2 && looks[1].time <= now.time - recent) looks.shift();
  panel.hidden = false;
  if (looks.length < 2) return;
  points = points.filter((point) => point.time > now.time - kept);
  points.push(pointOf(looks[0], looks.at(-2), now));
  for (const tile of tiles) {
    tile.value.replaceChildren(...tile.figures(points.at(-1)).map((text, i) => {
      const figure = document.createElement('span');
      figure.textContent = text;
      if (tile.lines.length > 1) figure.className = `key ${tile.lines[i]}`;
      return figure;
    }));
    if (tile.lines.length > 0) drawLines(tile, now.time);
    else drawBatches(tile);
  }
}

async function look() {
  try {
    const response = await ask('metrics', {signal: AbortSignal.timeout(10_000)});
    show(snapshot(await response.text(), performance.now()));
    state.textContent = stateText;
    delay = period;
  } catch (error) {
    // Refused for good, or until there is a token.
    if (error.status === undefined && error.name !== 'TimeoutError') throw error;
    if (error.status && error.status !== 503) {
      panel.hidden = true;
      return;
    }
    state.textContent = 'The server does not answer; trying again.';
    delay = Math.min(delay * 2, 30_000);
  }
  schedule(delay);
}

function schedule(wait) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, wait);
}

// Begins, and goes on when there is a token.
export function watch() {
  schedule(0);
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
  } else {
    // What was long ago says nothing of now.
    if (looks.length > 0 && performance.now() - looks.at(-1).time > recent) looks = [];
    watch();
  }
});

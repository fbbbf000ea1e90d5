// Prometheus' text format, and what two looks at it tell.

const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const pair = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// [{name, labels, value}]; lines that are none are left out.
export function parse(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    const found = line[0] === '#' ? null : sample.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? '').matchAll(pair)) labels[key] = value;
    samples.push({name: found[1], labels, value: Number(found[3].replace('Inf', 'Infinity'))});
  }
  return samples;
}

function total(samples, name, wanted = () => true) {
  let sum = 0;
  for (const each of samples) if (each.name === name && wanted(each.labels)) sum += each.value;
  return sum;
}

// Counts up to each bound, of all models. Their bounds may differ (batch sizes), so that a model
// counts under every bound of the others what it has up to there.
function buckets(samples, name) {
  const models = new Map();
  const bounds = new Set();
  for (const {name: each, labels, value} of samples) {
    if (each !== `${name}_bucket`) continue;
    const bound = Number(labels.le.replace('+Inf', 'Infinity'));
    bounds.add(bound);
    if (!models.has(labels.model)) models.set(labels.model, []);
    models.get(labels.model).push([bound, value]);
  }
  const sorted = [...bounds].sort((a, b) => a - b);
  const counts = new Map(sorted.map((bound) => [bound, 0]));
  for (const own of models.values()) {
    own.sort((a, b) => a[0] - b[0]);
    for (const bound of sorted) {
      const reached = own.filter(([most]) => most <= bound).at(-1);
      if (reached) counts.set(bound, counts.get(bound) + reached[1]);
    }
  }
  return counts;
}

// What of one look the page needs later. `time` in milliseconds.
export function snapshot(text, time) {
  const samples = parse(text);
  const ok = (labels) => labels.code === 'OK';
  return {
    time,
    requests: total(samples, 'dla_requests_total'),
    failed: total(samples, 'dla_requests_total', (labels) => !ok(labels)),
    refused: total(samples, 'dla_refused_total'),
    latency: buckets(samples, 'dla_request_seconds'),
    batches: buckets(samples, 'dla_batch_size'),
    batchCount: total(samples, 'dla_batch_size_count'),
    batchSum: total(samples, 'dla_batch_size_sum'),
    depth: total(samples, 'dla_queue_depth'),
    capacity: total(samples, 'dla_queue_capacity'),
  };
}

// Counts in each bucket between two looks: [{bound, count}], in rising order.
export function between(from, to) {
  let below = 0;
  const counts = [];
  for (const [bound, value] of to) {
    const cumulative = value - (from.get(bound) ?? 0);
    counts.push({bound, count: Math.max(0, cumulative - below)});
    below = cumulative;
  }
  return counts;
}

// As Prometheus' histogram_quantile: linear within a bucket, at most the last finite bound. NaN if
// nothing was counted.
export function quantile(counts, q) {
  const all = counts.reduce((sum, each) => sum + each.count, 0);
  if (all === 0) return NaN;
  let below = 0;
  let lower = 0;
  for (const {bound, count} of counts) {
    if (count > 0 && below + count >= q * all) {
      if (bound === Infinity) return lower;
      return lower + (bound - lower) * Math.max(0, q * all - below) / count;
    }
    below += count;
    if (bound !== Infinity) lower = bound;
  }
  return lower;
}

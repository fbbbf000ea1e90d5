// A card for each photo: what it shows, or why that cannot be told.

import {classify} from './server.js';

// Browsers open six connections to a server; one stays free for the live panel.
const mostInFlight = 5;
const mostCards = 300;

const list = document.getElementById('cards');
const template = document.getElementById('card');
const empty = document.getElementById('empty');
const clear = document.getElementById('clear');
const tally = document.getElementById('tally');
const said = document.getElementById('said');

let cards = [];
let waiting = [];
let inFlight = 0;
let onUnauthorized = () => {};

const percent = (p) => `${(p * 100).toFixed(1)} %`;
const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ['kB', 'MB', 'GB'];
  let value = bytes / 1000;
  while (value >= 999.5 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

class Card {
  constructor(file, model) {
    this.file = file;
    this.model = model;
    this.abort = new AbortController();
    this.url = URL.createObjectURL(file);
    this.element = template.content.firstElementChild.cloneNode(true);
    this.part = (name) => this.element.querySelector(name);
    const image = this.part('img');
    image.alt = file.name;
    image.addEventListener('error', () => image.closest('.photo').classList.add('none'));
    image.src = this.url;
    this.part('.top').textContent = file.name;
    this.part('.again').addEventListener('click', () => {
      enqueue(this);
      this.part('h3').tabIndex = -1;
      this.part('h3').focus(); // the button is gone
    });
  }

  setState(name, text) {
    this.state = name;
    this.element.dataset.state = name;
    this.element.setAttribute('aria-busy', String(name === 'busy'));
    this.part('.state').textContent = text;
    this.part('.state').hidden = !text;
    this.part('.again').hidden = name !== 'failed';
  }

  async run() {
    this.setState('busy', 'Sent');
    const start = performance.now();
    try {
      const answer = await classify(this.model, this.file, this.abort.signal, (wait) => {
        this.setState('busy', `The server is busy; again in ${milliseconds(wait)}`);
      });
      this.show(answer, performance.now() - start);
    } catch (error) {
      if (this.abort.signal.aborted) return;
      this.fail(error);
      if (error.status === undefined) throw error;
    }
  }

  show(answer, elapsed) {
    const [top] = answer.classes;
    const label = (each) => each.label || `class ${each.index}`;
    this.part('.top').textContent = label(top);
    this.part('.file').textContent = `${this.file.name}, ${size(this.file.size)}`;
    this.part('.classes').replaceChildren(...answer.classes.map((each) => {
      const row = document.createElement('li');
      const name = document.createElement('span');
      name.className = 'label';
      name.textContent = label(each);
      const track = document.createElement('span');
      track.className = 'track';
      const fill = document.createElement('i');
      fill.style.width = `${each.probability * 100}%`;
      track.append(fill);
      const value = document.createElement('span');
      value.className = 'value';
      value.textContent = percent(each.probability);
      row.append(name, track, value);
      return row;
    }));
    this.showTime(answer.timing, [
      `batch of ${answer.timing.batch_size}`,
      `${milliseconds(elapsed)} in all`,
      `${answer.model} v${answer.model_version}`,
    ]);
    this.setState('done', '');
    say(`${this.file.name}: ${label(top)}, ${percent(top.probability)}`);
  }

  showTime(timing, facts) {
    const stages = ['decode', 'queue', 'inference'];
    const texts = [];
    for (const stage of stages) {
      const spent = timing[`${stage}_ms`];
      this.part(`.split .${stage}`).style.flexGrow = spent;
      texts.push([stage, milliseconds(spent)]);
    }
    const words = texts.map(([stage, text]) => {
      const entry = document.createElement('span');
      entry.className = `key ${stage}`;
      entry.textContent = `${stage} ${text}`;
      return entry;
    });
    for (const fact of facts) {
      const entry = document.createElement('span');
      entry.textContent = fact;
      words.push(entry);
    }
    this.part('.legend').replaceChildren(...words);
    this.part('.split').setAttribute('aria-label', `Time: ${texts.map((each) => each.join(' ')).join(', ')}`);
    this.part('.time').hidden = false;
  }

  fail(error) {
    if (error.status === 401) {
      this.setState('token', 'Waits for a token');
      onUnauthorized();
      return;
    }
    let text = error.message;
    if (error.status === 0) {
      text = this.file.size > 4e6
        ? `The connection ended while ${size(this.file.size)} were sent: the server is gone, or does not take so much.`
        : 'The server cannot be reached, or the file cannot be read.';
    }
    this.setState('failed', text);
    say(`${this.file.name}: ${text}`);
  }

  remove() {
    this.abort.abort();
    URL.revokeObjectURL(this.url);
    this.element.remove();
  }
}

// Screen readers hear of results together, not one over the other.
let unsaid = [];
let sayTimer;
function say(text) {
  unsaid.push(text);
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => {
    const more = unsaid.length - 3;
    said.textContent = unsaid.slice(0, 3).join('; ') + (more > 0 ? `; and ${more} more` : '');
    unsaid = [];
  }, 300);
}

function count() {
  const done = cards.filter((card) => card.state === 'done').length;
  const failed = cards.filter((card) => card.state === 'failed').length;
  empty.hidden = clear.hidden = cards.length > 0;
  clear.hidden = !empty.hidden;
  tally.textContent = cards.length === 0 ? '' :
    `${done} of ${cards.length}` + (failed > 0 ? `, ${failed} failed` : '');
}

async function next() {
  if (inFlight >= mostInFlight || waiting.length === 0) return;
  const card = waiting.shift();
  ++inFlight;
  await card.run();
  --inFlight;
  count();
  next();
}

function enqueue(card) {
  card.setState('busy', 'Waits for its turn');
  waiting.push(card);
  count();
  next();
}

// Classifies them with `model`, the newest on top. How many were too many for the page.
export function addPhotos(files, model) {
  const taken = [...files].slice(0, mostCards);
  const fresh = taken.map((file) => new Card(file, model));
  list.prepend(...fresh.map((card) => card.element));
  cards = [...fresh, ...cards];
  for (const old of cards.splice(mostCards)) {
    waiting = waiting.filter((card) => card !== old);
    old.remove();
  }
  for (const card of fresh) enqueue(card);
  return files.length - taken.length;
}

// Sends again what was refused for want of a token. `model` is for those that came before any was known.
export function goOn(model) {
  for (const card of cards) {
    if (card.state !== 'token') continue;
    card.model ||= model;
    enqueue(card);
  }
}

export function setUpPhotos(askForToken) {
  onUnauthorized = askForToken;
  clear.addEventListener('click', () => {
    waiting = [];
    for (const card of cards) card.remove();
    cards = [];
    count();
    document.getElementById('choose').focus();
  });
}

// Puts the page together: where photos come from, models, token, theme.

import {setUpCamera} from './camera.js';
import {watch} from './live.js';
import {addPhotos, goOn, setUpPhotos} from './photos.js';
import {ask, setToken, urlOf} from './server.js';

const find = (id) => document.getElementById(id);
const picker = find('model');
let models = [];

function notice(text) {
  find('notice').textContent = text;
  find('notice').hidden = !text;
}

function take(files) {
  notice('');
  if (files.length === 0) return;
  const left = addPhotos(files, picker.value);
  if (left > 0) notice(`The page shows 300 photos at a time; ${left} were left out.`);
}

// Models.

function describe() {
  const model = models.find((each) => each.name === picker.value);
  if (!model) return;
  const millions = (model.parameters / 1e6).toFixed(1);
  find('model-facts').textContent = `JPEG, PNG or WebP. ${model.architecture}, ${millions} million parameters, knows ` +
      `${model.num_classes.toLocaleString('en')} classes, reads ${model.input_width} × ${model.input_height} pixels, ` +
      `${model.precision} on ${model.device}.`;
  const path = urlOf(`v1/models/${encodeURIComponent(model.name)}:classify?top_k=5`);
  const header = find('token-form').dataset.used ? ' -H "Authorization: Bearer $TOKEN"' : '';
  find('curl').textContent = `curl --data-binary @photo.jpg${header} '${path.href}'`;
}

async function loadModels() {
  const before = picker.value;
  ({models} = await (await ask('v1/models')).json());
  // One entry for each name: requests that name no version get the default one.
  const names = [...new Set(models.map((model) => model.name))];
  picker.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(before)) picker.value = before;
  picker.disabled = false;
  describe();
  const {version} = await (await ask('v2')).json();
  find('version').textContent = `dla-serve ${version}`;
}

picker.addEventListener('change', describe);

// Everything that needs the server, now or once there is a token.
async function begin() {
  try {
    await loadModels();
  } catch (error) {
    if (error.status === 401) return askForToken();
    if (error.status === undefined) throw error;
    if (error.status !== 0 && error.status !== 503) return notice(error.message);
    notice(error.status ? 'The server is not ready yet; trying again.' : 'The server cannot be reached; trying again.');
    setTimeout(begin, 2_000);
    return;
  }
  notice('');
  goOn(picker.value);
  watch();
}

// Token.

function askForToken() {
  const form = find('token-form');
  if (!form.hidden) return;
  find('token-note').textContent = form.dataset.used
    ? 'The server does not know this token. It is kept in the memory of this tab only.'
    : 'It is kept in the memory of this tab only.';
  form.hidden = false;
  find('token').focus();
}

find('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  setToken(find('token').value);
  find('token').value = '';
  find('token-form').dataset.used = 'yes';
  find('token-form').hidden = true;
  find('choose').focus();
  begin();
});

// Where photos come from.

find('choose').addEventListener('click', () => find('files').click());
find('files').addEventListener('change', (event) => {
  take([...event.target.files]);
  event.target.value = ''; // so that the same may be chosen again
});

document.addEventListener('paste', (event) => {
  const files = [...event.clipboardData?.files ?? []];
  if (files.length > 0) {
    event.preventDefault();
    take(files);
  } else if (event.target.tagName !== 'INPUT') {
    notice('There is no photo in the clipboard.');
  }
});

let dragging = 0; // enters minus leaves, of all elements of the page
const holdsFiles = (event) => event.dataTransfer?.types.includes('Files');
function mark(by) {
  dragging = by === 0 ? 0 : Math.max(0, dragging + by);
  find('drop').classList.toggle('over', dragging > 0);
}
document.addEventListener('dragenter', (event) => holdsFiles(event) && mark(1));
document.addEventListener('dragleave', (event) => holdsFiles(event) && mark(-1));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  mark(0);
  const items = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory).length;
  const files = items.filter((item) => !item.webkitGetAsEntry?.()?.isDirectory)
      .map((item) => item.getAsFile()).filter(Boolean);
  take(files);
  if (folders > 0) notice('Folders are not taken; drop the photos in them.');
  else if (files.length === 0) notice('That was no file. Save the photo first, or copy and paste it.');
});

// Theme.

const dark = matchMedia('(prefers-color-scheme: dark)');
const root = document.documentElement;
const isDark = () => (root.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';
function showTheme() {
  find('theme').textContent = isDark() ? 'Light' : 'Dark';
  find('theme').setAttribute('aria-label', `Switch to the ${isDark() ? 'light' : 'dark'} theme`);
}
try {
  const theme = localStorage.getItem('theme');
  if (theme === 'dark' || theme === 'light') root.dataset.theme = theme;
} catch { /* no storage: the system's theme */ }
find('theme').addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  try {
    localStorage.setItem('theme', root.dataset.theme);
  } catch { /* for this visit only */ }
  showTheme();
});
dark.addEventListener('change', showTheme);
showTheme();

setUpPhotos(askForToken);
setUpCamera((photo) => take([photo]));
begin();

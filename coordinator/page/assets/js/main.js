// Puts the page together.

import {callJson, onKeyNeeded} from './api.js';
import {Banner, notice} from './banner.js';
import {Chat} from './chat.js';
import {clusterView} from './cluster_view.js';
import {Composer} from './composer.js';
import {byId} from './dom.js';
import {exportJson, exportMarkdown} from './export.js';
import {number, plural} from './format.js';
import {Health} from './health.js';
import {historyView} from './history_view.js';
import {askForKey} from './key_dialog.js';
import {listenToKeys} from './keys.js';
import {Panel} from './panel.js';
import {shortLayout} from './ranks_view.js';
import {applyTheme, settingsView} from './settings_view.js';
import * as store from './store.js';
import {Transcript} from './transcript.js';

const onError = (message) => notice(byId('notices'), message);
let model = '';

const transcript = new Transcript(byId('transcript'), byId('scroller'), {
  onEdit: (index) => {
    const {text, pictures} = chat.cut(index);
    composer.fill(text, pictures);
  },
  onRetry: (index) => chat.retry(index),
});
const chat = new Chat({transcript, model: () => model, onError});
const composer = new Composer(byId('composer'), {
  onSend: (message) => chat.ask(message),
  onStop: () => chat.stop(),
  onError,
});
const panel = new Panel(byId('panel'), {
  history: ['Conversations', () => historyView(chat)],
  settings: ['Settings', settingsView],
  cluster: ['Cluster', clusterView],
});
const health = new Health(byId('status'), new Banner(byId('banner')));

function startNew() {
  chat.open(null);
  composer.text.focus();
}

// Said to screen readers only: the answer itself would be read token by token.
function announce(text) {
  byId('announcer').textContent = text;
}

chat.addEventListener('change', () => {
  const empty = chat.conversation.messages.length === 0;
  byId('welcome').hidden = !empty;
  byId('export').hidden = empty;
});
chat.addEventListener('busy', () => {
  composer.setBusy(true);
  announce('The answer is coming.');
});
chat.addEventListener('idle', ({detail: {message}}) => {
  composer.setBusy(false);
  announce(message.error ?? `Answer: ${message.text}`);
  health.look();
});

async function introduce() {
  const info = await callJson('v1/server_info');
  model = info.model.name;
  composer.allowPictures(info.model.vision);
  byId('model').textContent = model;
  document.title = `${model} · Fulger`;
  byId('facts').textContent = `${shortLayout(info)}, ${plural(info.ranks.length, 'rank')}, `
    + `${number(info.limits.max_context)} tokens of context`;
}

function tryToIntroduce() {
  return introduce().catch((error) => {
    if (error.status !== 0) onError(error.message);  // out of reach: the banner says so
  });
}

applyTheme();
onKeyNeeded(askForKey);
byId('new').addEventListener('click', startNew);
byId('export-json').addEventListener('click', () => exportJson(chat.conversation, model));
byId('export-markdown').addEventListener('click', () => exportMarkdown(chat.conversation, model));
health.addEventListener('back', tryToIntroduce);
listenToKeys({
  new: startNew,
  history: () => panel.toggle('history'),
  settings: () => panel.toggle('settings'),
  cluster: () => panel.toggle('cluster'),
  escape: () => (chat.busy ? chat.stop() : panel.close()),
  focus: () => composer.text.focus(),
});

chat.open(await store.loadCurrent().catch((error) => {
  onError(`Conversations cannot be kept in this browser: ${error.message}`);
  return null;
}));
await Promise.all([tryToIntroduce(), health.look()]);
composer.text.focus();
document.documentElement.dataset.loaded = '';

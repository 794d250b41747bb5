// The conversations that the browser keeps.

import {titleOf} from './conversation.js';
import {el} from './dom.js';
import {plural} from './format.js';
import * as store from './store.js';

function entry(conversation, chat, refresh) {
  const current = conversation.id === chat.conversation.id;
  const when = new Date(conversation.updated).toLocaleString([], {dateStyle: 'medium', timeStyle: 'short'});
  return el('li', {class: current ? 'current' : null},
    el('button', {type: 'button', class: 'bare open', 'aria-current': current ? 'true' : null,
      onclick: () => { chat.open(conversation); refresh(); }},
    el('b', {}, titleOf(conversation)), el('span', {}, `${when}, ${plural(conversation.messages.length, 'message')}`)),
    el('button', {type: 'button', class: 'quiet', 'aria-label': `Delete ${titleOf(conversation)}`, onclick: async () => {
      await store.remove(conversation.id);
      if (current) chat.open(null);
      refresh();
    }}, 'Delete'));
}

export function historyView(chat) {
  const list = el('ul', {class: 'history'});
  const refresh = async () => {
    const kept = await store.list().catch(() => []);
    list.replaceChildren(...kept.filter((c) => c.messages.length > 0).map((c) => entry(c, chat, refresh)));
    if (list.children.length === 0) list.append(el('li', {class: 'note'}, 'Nothing is kept yet.'));
  };
  refresh();
  return list;
}

// Messages above the conversation: the state of the server, and errors that a visitor puts away.

import {el} from './dom.js';

export class Banner {
  constructor(node) {
    this.node = node;
  }

  show(title, text) {
    const shown = `${title}. ${text}`;
    if (this.node.dataset.shown === shown) return;
    this.node.dataset.shown = shown;
    this.node.replaceChildren(el('b', {}, title), ' ', el('span', {}, text));
    this.node.hidden = false;
  }

  hide() {
    delete this.node.dataset.shown;
    this.node.hidden = true;
    this.node.replaceChildren();
  }
}

export function notice(list, message) {
  const item = el('li', {}, el('span', {}, message),
    el('button', {type: 'button', class: 'quiet', onclick: () => item.remove()}, 'Put away'));
  list.append(item);
}

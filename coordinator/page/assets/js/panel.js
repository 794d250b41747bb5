// The side panel: one of several views, opened by the buttons of the bar. Each view is made when it is opened and
// dropped when it is left, so that nothing works unseen.

import {byId} from './dom.js';

export class Panel {
  // views: {id of the button: [title, () => node]}.
  constructor(node, views) {
    this.node = node;
    this.views = views;
    this.open = null;
    this.title = node.querySelector('h2');
    this.body = node.querySelector('.body');
    node.querySelector('.close').addEventListener('click', () => this.close());
    for (const id of Object.keys(views)) byId(id).addEventListener('click', () => this.toggle(id));
  }

  toggle(id) {
    if (this.open === id) this.close();
    else this.show(id);
  }

  show(id) {
    const [title, make] = this.views[id];
    this.open = id;
    this.title.textContent = title;
    this.body.replaceChildren(make());
    this.node.hidden = false;
    this.mark();
    this.title.focus();
  }

  close() {
    const id = this.open;
    if (id === null) return;
    this.open = null;
    this.node.hidden = true;
    this.body.replaceChildren();
    this.mark();
    byId(id).focus();
  }

  mark() {
    document.body.classList.toggle('with-panel', this.open !== null);
    for (const id of Object.keys(this.views)) byId(id).setAttribute('aria-expanded', String(id === this.open));
  }
}

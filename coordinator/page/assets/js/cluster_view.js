// The cluster: live load above, ranks below. Asks the server once a second while it is looked at.

import {call, callJson} from './api.js';
import {el} from './dom.js';
import {LoadView} from './load_view.js';
import {ranksView} from './ranks_view.js';

const EVERY = 1000;  // ms

export function clusterView() {
  const load = new LoadView();
  const ranks = el('div', {}, el('p', {class: 'note'}, 'Asking the server…'));
  const node = el('div', {class: 'cluster'}, load.node, ranks);
  let shown = '';
  const look = async () => {
    if (document.visibilityState !== 'visible') return;
    const [info, metrics] = await Promise.all([
      callJson('v1/server_info'), call('metrics').then((response) => response.text())]);
    load.update(metrics);
    const text = JSON.stringify(info);
    if (text !== shown) ranks.replaceChildren(ranksView(info));  // else a selection in it would be lost
    shown = text;
  };
  const loop = async () => {
    if (!node.isConnected) return;
    await look().catch((error) => {
      shown = '';
      ranks.replaceChildren(el('p', {class: 'error'}, error.message));
    });
    setTimeout(loop, EVERY);
  };
  setTimeout(loop);
  return node;
}

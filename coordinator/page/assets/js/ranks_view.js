// The replicas as the server describes them (/v1/server_info): stages from the vision ranks to the last layers, and
// what each rank holds.

import {el, svg} from './dom.js';
import {bytes, number, plural, seconds, span} from './format.js';

const CACHES = ['kv', 'slots', 'arena'];

function layoutText({tp, pp, ep, vision_ranks: vision}) {
  return `tp ${tp} × pp ${pp}, ep ${ep}${vision ? `, ${vision} vision` : ''}`;
}

function facts(info) {
  const row = (label, value) => el('div', {}, el('dt', {}, label), el('dd', {}, value));
  return el('dl', {class: 'facts'},
    row('model', `${info.model.name}, ${info.model.type}`),
    row('layout', layoutText(info.layout)),
    row('runs on', `${info.device}, ${info.transport}`),
    row('numbers', `weights ${info.dtypes.weights}, experts ${info.dtypes.experts}, projections ${info.dtypes.projections}, activations ${info.dtypes.activations}, cache ${info.dtypes.cache}`),
    row('context', `${number(info.limits.max_context)} tokens, ${number(info.limits.max_sequences)} at once`),
    row('fingerprint', el('code', {}, info.model.fingerprint.slice(0, 12))),
    row('version', info.version));
}

// One tick a layer; softmax layers stand taller among the lightning ones.
function layerStrip(kinds, [begin, end]) {
  const ticks = [];
  for (let layer = begin; layer < end; layer += 1) {
    const tall = kinds?.[layer] === 'softmax';
    ticks.push(svg('rect', {class: tall ? 'softmax' : 'lightning', x: (layer - begin) * 5, y: tall ? 0 : 4, width: 3, height: tall ? 14 : 10},
      svg('title', {}, `layer ${layer}${kinds ? `, ${kinds[layer]} attention` : ''}`)));
  }
  return svg('svg', {class: 'layers', viewBox: `0 0 ${Math.max(1, (end - begin) * 5)} 14`, width: (end - begin) * 5, height: 14,
    role: 'img', 'aria-label': `layers ${span([begin, end])}`}, ticks);
}

function memory(rank) {
  const caches = CACHES.reduce((sum, name) => sum + (rank.bytes[name] ?? 0), 0);
  const weights = Object.values(rank.bytes).reduce((sum, n) => sum + n, 0) - caches;
  return `${bytes(weights)} of weights, ${bytes(caches)} of caches`;
}

// Means over the rank's life.
function times({count, seconds: total, wait_seconds: waited}) {
  if (count === 0) return null;
  return `${seconds(total / count)} a step, ${Math.round(100 * waited / Math.max(total, 1e-9))} % of it waiting for others`;
}

function stateOf(rank) {
  if (!rank.joined) return ['lost', 'not here'];
  if (rank.phase === 'ready') return ['good', 'ready'];
  const done = rank.progress > 0 ? `, ${Math.round(rank.progress * 100)} %` : '';
  return ['waits', `${rank.phase}${done}`];
}

function rankView(rank) {
  const [state, words] = stateOf(rank);
  const holds = rank.role === 'vision' ? 'vision tower' : `heads ${span(rank.query_heads)}, KV ${span(rank.kv_heads)}, `
    + `experts ${span(rank.experts)}, vocabulary ${span(rank.vocabulary)}${rank.holds_vision ? ', vision tower' : ''}`;
  return el('li', {class: `rank ${state}`},
    el('p', {class: 'head'}, el('span', {class: 'dot', 'aria-hidden': 'true'}), el('b', {}, `rank ${rank.rank}`),
      el('span', {class: 'state'}, words), rank.joined && el('span', {class: 'where'}, `${rank.host}, pid ${rank.pid}`)),
    el('p', {}, holds),
    rank.joined && el('p', {}, memory(rank)),
    rank.joined && times(rank.steps) && el('p', {}, times(rank.steps)),
    rank.joined && rank.activity && el('p', {class: 'activity'}, rank.activity));
}

function stageView(title, strip, ranks) {
  return el('section', {class: 'stage'}, el('header', {}, el('h3', {}, title), strip),
    el('ul', {}, ranks.map(rankView)));
}

function stages(info, ranks) {
  const vision = ranks.filter((rank) => rank.role === 'vision');
  const views = vision.length > 0 ? [stageView('Vision', null, vision)] : [];
  for (let stage = 0; stage < info.layout.pp; stage += 1) {
    const own = ranks.filter((rank) => rank.role === 'language' && rank.stage === stage);
    views.push(stageView(`Stage ${stage}, layers ${span(own[0].layers)}`,
      layerStrip(info.model.layers, own[0].layers), own));
  }
  return el('div', {class: 'stages'}, views);
}

function replicaView(info, index) {
  const {phase, running, waiting, restarts, last_failure: failure} = info.replicas[index];
  const rebuilt = restarts > 0 ? `, rebuilt ${plural(restarts, 'time')}` : '';
  return el('section', {class: 'replica', 'aria-label': `Replica ${index}`},
    el('p', {class: 'note'}, el('b', {}, `Replica ${index}`),
      `: ${phase}, ${number(running)} running, ${number(waiting)} waiting${rebuilt}.`,
      failure && el('span', {class: 'error'}, ` Last failure: ${failure}`)),
    stages(info, info.ranks.filter((rank) => rank.replica === index)));
}

export function shortLayout(info) {
  const {length} = info.replicas;
  return `${length > 1 ? `${length} replicas of ` : ''}${layoutText(info.layout)} on ${info.device}`;
}

export function ranksView(info) {
  return el('div', {}, info.replicas.map((_, index) => replicaView(info, index)), facts(info));
}

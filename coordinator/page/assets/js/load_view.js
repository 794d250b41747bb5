// What the server does right now: figures, bars, and a line of the last two minutes.

import {el, svg} from './dom.js';
import {number, rate, seconds} from './format.js';
import {Rates, parseMetrics} from './metrics.js';

const KEPT = 120;  // looks, one a second

function figure(label) {
  const value = el('dd', {}, '–');
  const node = el('div', {}, el('dt', {}, label), value);
  return {node, set: (text) => { value.textContent = text; }};
}

function bar(label) {
  const meter = el('meter', {min: 0, max: 1, value: 0, 'aria-label': label});
  const value = el('span', {class: 'value'}, '–');
  return {
    node: el('div', {class: 'bar-row'}, el('span', {}, label), meter, value),
    set: (used, total) => {
      meter.max = Math.max(total, 1);
      meter.value = used;
      value.textContent = `${number(used)} of ${number(total)}`;
    },
  };
}

function sparkline(label) {
  const path = svg('path', {});
  const area = svg('path', {class: 'area'});
  const top = el('span', {class: 'value'}, '');
  const values = [];
  return {
    node: el('div', {class: 'spark'}, el('span', {}, label), top,
      svg('svg', {viewBox: `0 0 ${KEPT} 32`, preserveAspectRatio: 'none', 'aria-hidden': 'true'}, area, path)),
    push: (value) => {
      values.push(value);
      if (values.length > KEPT) values.shift();
      const most = Math.max(...values);
      const peak = Math.max(most, 1);
      const points = values.map((v, i) => `${KEPT - values.length + i},${(31 - 29 * v / peak).toFixed(1)}`);
      path.setAttribute('d', `M${points.join('L')}`);
      area.setAttribute('d', `M${KEPT - values.length},32L${points.join('L')}L${KEPT - 1},32Z`);
      top.textContent = most > value ? `${rate(value)}, peak ${rate(most)}` : rate(value);
    },
  };
}

export class LoadView {
  constructor() {
    this.rates = new Rates();
    this.running = figure('running');
    this.waiting = figure('waiting');
    this.age = figure('last step');
    this.steps = figure('steps/s');
    this.generated = sparkline('generated tokens/s');
    this.prompt = sparkline('prompt tokens/s');
    this.blocks = bar('KV blocks');
    this.slots = bar('state slots');
    this.node = el('section', {class: 'load', 'aria-label': 'Load'},
      el('dl', {class: 'figures large'}, this.running.node, this.waiting.node, this.steps.node, this.age.node),
      this.generated.node, this.prompt.node, this.blocks.node, this.slots.node);
  }

  // The text of /metrics.
  update(text) {
    const values = parseMetrics(text);
    const perSecond = this.rates.next(values, performance.now());
    const age = values.fulger_last_step_age_seconds;
    this.running.set(number(values.fulger_requests_running));
    this.waiting.set(number(values.fulger_requests_waiting));
    this.steps.set(rate(perSecond('fulger_steps_total')));
    this.age.set(age >= 0 ? `${seconds(age)} ago` : 'none yet');
    this.generated.push(perSecond('fulger_generation_tokens_total'));
    this.prompt.push(perSecond('fulger_prompt_tokens_total'));
    this.blocks.set(values.fulger_kv_blocks_used, values.fulger_kv_blocks);
    this.slots.set(values.fulger_state_slots_used, values.fulger_state_slots);
  }
}

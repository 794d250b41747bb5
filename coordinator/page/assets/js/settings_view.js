// The form of the settings. A change holds from the next question on.

import {el} from './dom.js';
import {FIELDS, loadSettings, saveSettings} from './settings.js';

const THEME = 'fulger.theme';  // in localStorage: light | dark; absent: as the system

export function applyTheme() {
  const theme = localStorage.getItem(THEME);
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function themeField() {
  const select = el('select', {id: 'set-theme', onchange: () => {
    if (select.value) localStorage.setItem(THEME, select.value);
    else localStorage.removeItem(THEME);
    applyTheme();
  }}, el('option', {value: ''}, 'As the system'), el('option', {value: 'light'}, 'Light'), el('option', {value: 'dark'}, 'Dark'));
  select.value = localStorage.getItem(THEME) ?? '';
  return el('div', {class: 'field'}, el('label', {for: 'set-theme'}, 'Colours'), select);
}

function textField(settings, name, label, hint, rows) {
  const area = el('textarea', {id: `set-${name}`, rows, 'aria-describedby': `hint-${name}`,
    oninput: () => { settings[name] = area.value; saveSettings(settings); }});
  area.value = settings[name];
  return el('div', {class: 'field wide'}, el('label', {for: area.id}, label), area,
    el('p', {class: 'hint', id: `hint-${name}`}, hint));
}

function numberField(settings, field) {
  const input = el('input', {id: `set-${field.name}`, type: 'number', min: field.min, max: field.max, step: field.step,
    inputmode: field.whole ? 'numeric' : 'decimal', placeholder: 'default', 'aria-describedby': `hint-${field.name}`,
    oninput: () => {
      // What cannot be sent is marked and not kept.
      settings[field.name] = input.validity.valid ? input.value : '';
      saveSettings(settings);
    }});
  input.value = settings[field.name] ?? '';
  return el('div', {class: 'field'}, el('label', {for: input.id}, field.label), input,
    el('p', {class: 'hint', id: `hint-${field.name}`}, field.hint));
}

export function settingsView() {
  const settings = loadSettings();
  const form = el('form', {class: 'settings', onsubmit: (event) => event.preventDefault()},
    textField(settings, 'system', 'System prompt', 'Said before every conversation.', 5),
    el('fieldset', {}, el('legend', {}, 'Sampling'), FIELDS.map((field) => numberField(settings, field)),
      textField(settings, 'stop', 'Stop at', 'One text per line; the answer ends before it.', 2)),
    themeField());
  form.append(el('button', {type: 'button', class: 'quiet', onclick: () => {
    saveSettings({});
    form.replaceWith(settingsView());
  }}, 'Back to the defaults'));
  return form;
}

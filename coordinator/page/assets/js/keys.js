// Keys of the whole page. "Alt" with a letter, because single letters belong to whoever types.

const LETTERS = {n: 'new', h: 'history', s: 'settings', c: 'cluster'};

// actions: {new, history, settings, cluster, escape, focus}.
export function listenToKeys(actions) {
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName);
    if (event.key === 'Escape') actions.escape();
    else if (event.key === '/' && !typing) {
      event.preventDefault();
      actions.focus();
    } else if (event.altKey && !event.ctrlKey && !event.metaKey) {
      // The key's place on the keyboard: Alt changes the character on some systems.
      const name = LETTERS[event.code.replace(/^Key/, '').toLowerCase()];
      if (!name) return;
      event.preventDefault();
      actions[name]();
    }
  });
}

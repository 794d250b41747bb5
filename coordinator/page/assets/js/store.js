// Conversations in the browser's own database: pictures are too large for localStorage. Nothing leaves the machine.

const NAME = 'fulger';
const CONVERSATIONS = 'conversations';
const CURRENT = 'fulger.current';  // in localStorage: the id to open next time

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened = null;

function open() {
  opened ??= (async () => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(CONVERSATIONS, {keyPath: 'id'}).createIndex('updated', 'updated');
    };
    return result(request);
  })();
  return opened;
}

async function store(mode) {
  return (await open()).transaction(CONVERSATIONS, mode).objectStore(CONVERSATIONS);
}

// All of these reject where the browser keeps nothing (private windows, no space left).
export async function save(conversation) {
  conversation.updated = Date.now();
  await result((await store('readwrite')).put(conversation));
}

export async function load(id) {
  return result((await store('readonly')).get(id));
}

export async function remove(id) {
  return result((await store('readwrite')).delete(id));
}

// The newest first.
export async function list() {
  const all = await result((await store('readonly')).index('updated').getAll());
  return all.reverse();
}

export async function loadCurrent() {
  const id = localStorage.getItem(CURRENT);
  return id ? load(id) : undefined;
}

export function setCurrent(id) {
  localStorage.setItem(CURRENT, id);
}

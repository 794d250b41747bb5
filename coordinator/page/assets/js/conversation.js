// A conversation as it is kept and sent:
// {id, created, updated, messages: [{role: 'user', text, pictures} | {role: 'assistant', text, finish, stats, error}]}
// finish of an answer that is still coming (or was cut by a reload): null.

export function newConversation() {
  const now = Date.now();
  return {id: crypto.randomUUID?.() ?? `${now}-${Math.random()}`, created: now, updated: now, messages: []};
}

export function titleOf(conversation) {
  const first = conversation.messages.find((message) => message.role === 'user');
  const text = first?.text.trim().split('\n')[0] || (first?.pictures.length ? 'A picture' : 'Empty');
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function apiContent(message) {
  if (!message.pictures?.length) return message.text;
  const pictures = message.pictures.map((picture) => ({type: 'image_url', image_url: {url: picture.url}}));
  return message.text ? [...pictures, {type: 'text', text: message.text}] : pictures;
}

// Answers without text are left out: there is nothing in them to go on from.
export function apiMessages(conversation, system) {
  const said = conversation.messages.filter((message) => message.role === 'user' || message.text);
  return [
    ...(system.trim() ? [{role: 'system', content: system}] : []),
    ...said.map((message) => ({role: message.role, content: apiContent(message)})),
  ];
}

export function asMarkdown(conversation, model) {
  const parts = [`# ${titleOf(conversation)}`, `${model}, ${new Date(conversation.created).toISOString()}`];
  for (const message of conversation.messages) {
    parts.push(message.role === 'user' ? '## You' : '## Answer');
    for (const picture of message.pictures ?? []) {
      parts.push(`*Picture: ${picture.name}, ${picture.width} × ${picture.height}*`);
    }
    parts.push(message.text);
    if (message.error) parts.push(`*${message.error}*`);
  }
  return `${parts.join('\n\n')}\n`;
}

// Everything, pictures too, and what was sent with it.
export function asJson(conversation, model, settings) {
  return `${JSON.stringify({model, settings, ...conversation}, null, 1)}\n`;
}

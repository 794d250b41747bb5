// One answer of the model: sends the conversation, takes the tokens, measures.

import {ApiError, call} from './api.js';
import {events} from './events.js';

function measure(times, usage) {
  const details = usage?.prompt_tokens_details ?? {};
  const count = usage?.completion_tokens ?? 0;
  const streaming = (times.last - times.first) / 1000;
  return {
    firstToken: times.first ? (times.first - times.begin) / 1000 : null,
    // The first token's time is the prompt's; the others show the rate.
    rate: count > 1 && streaming > 0 ? (count - 1) / streaming : null,
    tokens: count,
    prompt: usage?.prompt_tokens ?? null,
    pictures: details.image_tokens ?? 0,
    cached: details.cached_tokens ?? 0,
  };
}

// onText(text so far, stats so far) runs for each token. Resolves to {text, finish, stats}; finish is OpenAI's
// finish_reason, or "stopped" when `signal` fired, or "error" with `error`. Never throws.
export async function generate(request, {signal, onText}) {
  const times = {begin: performance.now(), first: 0, last: 0};
  let text = '';
  let finish = null;
  let usage = null;
  try {
    const body = JSON.stringify({
      ...request, stream: true, stream_options: {include_usage: true, continuous_usage_stats: true}});
    const response = await call('v1/chat/completions', {method: 'POST', body, signal});
    for await (const data of events(response)) {
      if (data === '[DONE]') return {text, finish, stats: measure(times, usage)};
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(response.status, event.error.message);
      usage = event.usage ?? usage;
      for (const choice of event.choices) {
        times.last = performance.now();
        times.first ||= times.last;
        text += choice.delta?.content ?? '';
        finish = choice.finish_reason ?? finish;
      }
      onText(text, measure(times, usage));
    }
    throw new ApiError(0, 'The connection ended before the answer did.');
  } catch (error) {
    const stats = measure(times, usage);
    if (error.name === 'AbortError') return {text, finish: 'stopped', stats};
    const known = error instanceof ApiError;
    return {text, finish: 'error', stats, error: known ? error.message : 'The connection was lost.'};
  }
}

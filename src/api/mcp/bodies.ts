// Wire bodies as agents get them: the same field names, without what is empty, because every byte of an answer is read by
// a model. What to do next stands in the object itself: hosts pass on either the text or the object, never surely both.

import { isFinal } from '../../contract/final.ts';
import type { GenerationBody } from '../../contract/generations.ts';
import type { ModelBody } from '../../contract/models.ts';

/** Enough to recognise a prompt in a list. */
const PROMPT_SHOWN = 120;

const isEmpty = (value: unknown): boolean =>
  value === null || value === undefined || (typeof value === 'object' && Object.keys(value).length === 0);

/** Leaves out nulls and empty lists and objects. */
const filled = (body: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(body).filter(([, value]) => !isEmpty(value)));

/** A generation with everything known of it, and how to go on while it is not final. */
export function generationBody(g: GenerationBody): Record<string, unknown> {
  const swept = g.status === 'succeeded' && g.url === null;
  return {
    ...filled({ ...g, outputs: g.outputs.map(filled) }),
    ...(swept ? { url: null } : {}),
    ...(isFinal(g) ? {} : { next: 'get_generation' }),
  };
}

/** What a submit answers: without the prompts, which the agent has just written, and the course of its attempts. */
export function submittedBody(
  { prompt: _prompt, negative_prompt: _negative, attempts: _attempts, ...g }: GenerationBody,
  more: { readonly replayed: boolean; readonly credits_reserved: number; readonly credits_available: number },
): Record<string, unknown> {
  const { replayed, ...credits } = more;
  return { ...generationBody(g as GenerationBody), ...credits, ...(replayed ? { replayed } : {}) };
}

/** One line of a list. */
export function generationRow(g: GenerationBody): Record<string, unknown> {
  const { id, status, model, created_at, prompt, url, progress, credits_charged, error, batch_id, metadata } = g;
  return filled({
    id,
    status,
    model,
    created_at,
    prompt: prompt.length > PROMPT_SHOWN ? `${prompt.slice(0, PROMPT_SHOWN - 1)}…` : prompt,
    url,
    progress,
    credits_charged,
    error: error && { code: error.code, retryable: error.retryable },
    batch_id,
    metadata,
  });
}

/** One model in one line: what decides whether to use it. */
export function modelRow(m: ModelBody): Record<string, unknown> {
  const { max_pixels, multiple_of, max_n, max_steps } = m.limits;
  const { width, height } = m.defaults;
  return filled({
    id: m.id,
    kind: m.kind,
    price: priceOf(m.price),
    usable: m.usable,
    why_not: m.why_not,
    best_for: m.best_for,
    capabilities: m.capabilities,
    estimate_seconds: m.estimate_seconds,
    size: width === null || height === null ? null : `${width}x${height}`,
    limits: filled({ max_pixels, multiple_of, max_n, max_steps }),
    aliases: m.aliases,
  });
}

/** As the catalog writes it: a number is per output; else the parts that are summed. */
function priceOf(price: ModelBody['price']): number | Record<string, number> {
  const parts = Object.entries(price).filter(([, credits]) => credits > 0);
  return parts.every(([part]) => part === 'per_output') ? price.per_output : Object.fromEntries(parts);
}

/** Does a word of the filter stand in what an agent would look for? All words must. */
export function modelMatches(m: ModelBody, filter: string): boolean {
  const text = [m.id, m.name, m.kind, m.best_for, ...m.capabilities, ...m.aliases].join(' ').toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

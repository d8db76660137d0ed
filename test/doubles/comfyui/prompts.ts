// POST /prompt: from a body that may be anything to a queued prompt, with every refusal in its own shape.

import { randomUUID } from 'node:crypto';
import type { Box } from './box.ts';
import type { Files } from './files.ts';
import { NotOrderable } from './queue.ts';
import type { Profile } from './settings.ts';
import { type Graph, validate } from './validate.ts';

/** `crash`: the handler itself raised; aiohttp turns that into a plain 500. */
export type Answer =
  | { readonly status: 200; readonly id: string; readonly body: unknown }
  | { readonly status: 400; readonly body: unknown }
  | { readonly status: 500; readonly id: string | null };

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const SECRET = ['auth_token_comfy_org', 'api_key_comfy_org'];

export function submit(raw: Buffer, box: Box, files: Files, profile: Profile, now: number): Answer {
  const body = parseObject(raw);
  if (!body) return { status: 500, id: null };
  const counter = box.nextNumber();
  const number = 'number' in body ? Number(body.number) : body.front === true ? -counter : counter;
  if (Number.isNaN(number)) return { status: 500, id: null };
  if (!('prompt' in body)) return refuse('no_prompt', 'No prompt provided', 'No prompt provided');
  if (profile === 'B' && !validId(body.prompt_id)) {
    return refuse('invalid_prompt_id', 'prompt_id must be a lowercase hyphenated UUID', String(body.prompt_id));
  }
  if (body.prompt === null || typeof body.prompt !== 'object') return { status: 500, id: null };
  const graph = body.prompt as Graph;
  const targets = Array.isArray(body.partial_execution_targets) ? body.partial_execution_targets.map(String) : null;
  const verdict = validate(graph, targets, {
    table: box.table(),
    newer: profile === 'B',
    hasInput: (name) => files.find(name) !== null,
  });
  if (!verdict.ok) return { status: 400, body: { error: verdict.error, node_errors: verdict.nodeErrors } };
  const extra = extraOf(body, profile, now);
  if (extra === null && profile === 'B') return { status: 500, id: null };
  const id = chooseId(body, profile);
  const prompt = { number, id, graph, extra: extra ?? {}, outputs: verdict.outputs };
  try {
    box.enqueue(prompt, extra === null);
  } catch (error) {
    if (error instanceof NotOrderable) return { status: 500, id };
    throw error;
  }
  const echoed = { prompt_id: id, number, node_errors: verdict.nodeErrors };
  return { status: 200, id, body: echoed };
}

const refuse = (type: string, message: string, details: string): Answer => ({
  status: 400,
  body: { error: { type, message, details, extra_info: {} }, node_errors: {} },
});

export function parseObject(raw: Buffer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(raw.toString());
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

const validId = (id: unknown): boolean => id === undefined || id === null || (typeof id === 'string' && UUID.test(id));

function chooseId(body: Readonly<Record<string, unknown>>, profile: Profile): string {
  if (profile === 'old' || !('prompt_id' in body)) return randomUUID();
  if (body.prompt_id === null) return profile === 'B' ? randomUUID() : 'None';
  return String(body.prompt_id);
}

/** null where the client sent null. */
function extraOf(
  body: Readonly<Record<string, unknown>>,
  profile: Profile,
  now: number,
): Record<string, unknown> | null {
  if (body.extra_data === null) return null;
  const extra = { ...(body.extra_data as Record<string, unknown> | undefined) };
  if (typeof body.client_id === 'string') extra.client_id = body.client_id;
  if (profile === 'B') extra.create_time = now;
  return extra;
}

export function withoutSecrets(extra: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(extra).filter(([key]) => !SECRET.includes(key)));
}

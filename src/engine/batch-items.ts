// From what a caller lists to items ready to be stored: each parsed as a request of its own, drafted as a submit would
// be, and held. What does not parse refuses all; what the engine refuses becomes an item that fails at once. Thousands
// come at a time, so every step goes by slices with a turn of the event loop between them.

import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import type { Projection } from '../contract/batches.ts';
import { fromZod } from '../contract/errors.ts';
import { GenerationRequest } from '../contract/generations.ts';
import type { Batch } from '../domain/batch.ts';
import type { Caller } from '../domain/caller.ts';
import { type Detail, type Failure, failure, GatewayError } from '../domain/failure.ts';
import type { Model } from '../domain/model.ts';
import { type Millicredits, toCredits } from '../domain/units.ts';
import type { NewItem } from '../store/store.ts';
import { complaintAbout, publicAddress } from '../system/system.ts';
import { HELD, refusedDraft } from './batch-refused.ts';
import type { Rooms } from './rooms.ts';
import { draftOf, inherit, modelFor } from './submit.ts';

/** Items worked on in one turn of the event loop. */
const SLICE = 32;
/** Complaints told at a time. */
const MAX_COMPLAINTS = 50;

/** Calls `work` for each, in order, without holding up the event loop. */
export async function eachInTurn<T>(all: readonly T[], work: (one: T, index: number) => unknown): Promise<void> {
  for (const [index, one] of all.entries()) {
    if (index > 0 && index % SLICE === 0) await turn();
    await work(one, index);
  }
}

/** Throws GatewayError('invalid_request') naming every bad place as `items.N.…`. */
export async function parseItems(
  { settings }: Pick<Rooms, 'settings'>,
  items: readonly unknown[],
): Promise<readonly GenerationRequest[]> {
  const requests: GenerationRequest[] = [];
  const complaints: Detail[] = [];
  const keys = new Map<string, number>();
  await eachInTurn(items, (item, index) => {
    if (complaints.length >= MAX_COMPLAINTS) return;
    const parsed = GenerationRequest.safeParse(item);
    if (!parsed.success) return void complaints.push(...(fromZod(parsed.error, `items.${index}`).details ?? []));
    requests.push(parsed.data);
    complaints.push(...misplaced(parsed.data, index), ...repeated(keys, parsed.data, index));
    complaints.push(...atOdds(parsed.data, index), ...unreachable(parsed.data, index, settings.allowPrivate));
  });
  refuseAll(complaints);
  return requests;
}

function refuseAll(complaints: readonly Detail[]): void {
  const [first] = complaints;
  if (first === undefined) return;
  const details = complaints.slice(0, MAX_COMPLAINTS);
  throw new GatewayError('invalid_request', `${first.path}: ${first.message}`, { details });
}

/** A size said in more than one way: whatever the model, it cannot be meant. */
function atOdds({ size, aspect_ratio, width, height }: GenerationRequest, index: number): Detail[] {
  const ways = { size, aspect_ratio, ...(width === undefined ? { height } : { width }) };
  const asked = Object.entries(ways).flatMap(([way, value]) => (value === undefined ? [] : [way]));
  if (asked.length < 2) return [];
  const message = 'expected only one of size, aspect_ratio, or width and height';
  return asked.map((way) => ({ path: `items.${index}.${way}`, message }));
}

function unreachable({ webhook_url: url }: GenerationRequest, index: number, allowed: readonly string[]): Detail[] {
  const message = url === undefined ? null : complaintAbout(url, publicAddress(allowed));
  return message === null ? [] : [{ path: `items.${index}.webhook_url`, message }];
}

/** What a single request may say and an item may not. */
function misplaced({ batch_id, wait }: GenerationRequest, index: number): Detail[] {
  const at = (field: string, message: string) => ({ path: `items.${index}.${field}`, message });
  return [
    ...(batch_id === undefined ? [] : [at('batch_id', 'an item belongs to the batch it is sent with; leave it out')]),
    ...(wait === undefined ? [] : [at('wait', 'a batch answers at once; leave it out and watch the batch')]),
  ];
}

function repeated(keys: Map<string, number>, { idempotency_key: key }: GenerationRequest, index: number): Detail[] {
  if (key === undefined) return [];
  const before = keys.get(key);
  if (before === undefined) keys.set(key, index);
  if (before === undefined) return [];
  return [
    { path: `items.${before}.idempotency_key`, message: `the same as that of items.${index}` },
    { path: `items.${index}.idempotency_key`, message: `the same as that of items.${before}` },
  ];
}

/** What of a request does not define its picture. */
const PASSING = new Set<string>([
  'seed',
  'metadata',
  'priority',
  'start_within_seconds',
  'run_within_seconds',
  'webhook_url',
  'max_credits',
  'idempotency_key',
] satisfies (keyof GenerationRequest)[]);

/** The identity of what a batch asks for, for its idempotency key. */
export async function batchHash(requests: readonly GenerationRequest[], fallback: Batch['fallback']): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(fallback));
  await eachInTurn(requests, (request) => {
    const lasting = Object.entries(request).filter(([field]) => !PASSING.has(field));
    hash.update(`\n${JSON.stringify(Object.fromEntries(lasting))}`);
  });
  return hash.digest('hex');
}

/** The identity of what that came to, so that two ways of saying the same are the same. */
export async function resolvedHash(items: readonly NewItem[], fallback: Batch['fallback']): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(fallback));
  await eachInTurn(items, ({ draft }) => hash.update(`\n${draft.requestHash}`));
  return hash.digest('hex');
}

/** Items in order, their places counted from 0. Throws GatewayError('invalid_request') as `parseItems` does. */
export async function draftItems(
  rooms: Rooms,
  caller: Caller,
  batch: Pick<Batch, 'id' | 'fallback'>,
  requests: readonly GenerationRequest[],
): Promise<readonly NewItem[]> {
  const draft = drafter(rooms, caller, batch);
  const items: NewItem[] = [];
  await eachInTurn(requests, async (request, index) => items.push(await draft(request, index)));
  refuseAll(items.flatMap(({ failure: why }, index) => promptless(why, index)));
  return items;
}

/** Only its model says whether an item needs a prompt; one that lacks it is no request. */
const promptless = (why: Failure | null, index: number): Detail[] =>
  (why?.details ?? []).flatMap(({ path, message }) =>
    path === 'prompt' ? [{ path: `items.${index}.prompt`, message }] : [],
  );

/** Drafts item after item; a model is looked for once, however many name it. */
export function drafter(
  rooms: Rooms,
  caller: Caller,
  batch: Pick<Batch, 'id' | 'fallback'>,
): (request: GenerationRequest, index: number) => Promise<NewItem> {
  const models = new Map<string, Model | GatewayError>();
  const modelOf = (request: GenerationRequest): Model => {
    const key = `${request.fallback}\n${request.model}`;
    const found = models.get(key) ?? orRefusal(() => modelFor(rooms, caller, request));
    models.set(key, found);
    if (found instanceof GatewayError) throw found;
    return found;
  };
  return async (asked, index) => {
    const request: GenerationRequest = {
      priority: 'batch',
      ...(batch.fallback === null ? {} : { fallback: batch.fallback }),
      ...asked,
    };
    const place = { batchId: batch.id, item: index, reserved: 0, state: HELD };
    try {
      const whole = await inherit(rooms, caller, request);
      return { draft: { ...(await draftOf(rooms, caller, whole, modelOf(whole))), ...place }, failure: null };
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      return { draft: { ...refusedDraft(rooms, caller, request), ...place }, failure: error.failure };
    }
  };
}

function orRefusal(find: () => Model): Model | GatewayError {
  try {
    return find();
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw error;
  }
}

/** What these items would cost now. The writes decide again. */
export async function projectionOf(
  { store }: Rooms,
  caller: Caller,
  items: readonly NewItem[],
  maxCredits: Millicredits | null,
): Promise<Projection> {
  const workspaceId = caller.workspace.id;
  const keys = items.flatMap(({ draft }) => draft.idempotencyKey ?? []);
  const claims = keys.length === 0 ? new Map() : await store.batches.claimed(workspaceId, keys);
  const { balance, reserved } = await store.ledger.credits(workspaceId);
  const byModel = new Map<string, { items: number; credits: Millicredits }>();
  const refused: { index: number; code: Failure['code']; message: string }[] = [];
  let attached = 0;
  await eachInTurn(items, ({ draft, failure: why }, index) => {
    const claim = draft.idempotencyKey === null ? undefined : claims.get(draft.idempotencyKey);
    const refusal = why ?? (claim !== undefined && claim.requestHash !== draft.requestHash ? CONFLICT : null);
    if (refusal !== null) return void refused.push({ index, code: refusal.code, message: refusal.message });
    if (claim !== undefined) return void attached++;
    const { items: n, credits } = byModel.get(draft.model) ?? { items: 0, credits: 0 };
    byModel.set(draft.model, { items: n + 1, credits: credits + draft.quote.reserve });
  });
  const projected = [...byModel.values()].reduce((sum, { credits }) => sum + credits, 0);
  const available = Math.max(0, balance - reserved);
  return { items: items.length, projected, available, maxCredits, byModel, attached, refused };
}

const CONFLICT = failure('idempotency_conflict', 'This idempotency key belongs to another request.');

/** Throws GatewayError('insufficient_credits') naming both numbers, unless the cap keeps it within what there is. */
export function mustAfford({ projected, available, maxCredits }: Projection): void {
  if (projected <= available || (maxCredits !== null && maxCredits <= available)) return;
  const [need, have] = [toCredits(projected), toCredits(available)];
  throw new GatewayError(
    'insufficient_credits',
    `This would cost ${need} credits and ${have} are available; add credits, or set max_credits to at most ${have}.`,
  );
}

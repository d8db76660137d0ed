// From a request to a queued generation, durable before the answer. Everything that can be refused is refused here,
// before anything is queued or reserved.

import { requestHash, resolveParams } from '../catalog/catalog.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import type { Caller } from '../domain/caller.ts';
import { type Detail, GatewayError } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import type { Model } from '../domain/model.ts';
import type { NodeView } from '../domain/node.ts';
import { DRAWN_SEED_LIMIT, type Params } from '../domain/params.ts';
import { barred, hasLora } from '../domain/placement.ts';
import { quote } from '../domain/price.ts';
import { type Millis, toCredits, toMillicredits } from '../domain/units.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Credits } from '../store/store.ts';
import { isOver, modelNamed, overText, servable, whyNever } from './availability.ts';
import { equivalents, servedBy } from './fallback.ts';
import { refuseUrl, resolveInput } from './inputs.ts';
import type { Rooms } from './rooms.ts';

export interface Submitted {
  readonly generation: Generation;
  /** An idempotency key answered with the job it had made. */
  readonly replayed: boolean;
  readonly credits: Credits;
}

const MIN_RUN_MS = 600_000;

export async function submit(rooms: Rooms, caller: Caller, asked: GenerationRequest): Promise<Submitted> {
  const { store } = rooms;
  const draft = await draftOf(rooms, caller, await inherit(rooms, caller, asked));
  const [result] = await store.generations.insert([draft]);
  if (result === undefined) throw new Error('insert answered nothing');
  if (result.outcome === 'refused') throw new GatewayError(result.failure);
  return {
    generation: result.generation,
    replayed: result.outcome === 'replayed',
    credits: await store.ledger.credits(caller.workspace.id),
  };
}

/**
 * Works a request out: model, parameters, price, deadlines. Throws GatewayError; writes nothing but input pictures.
 * `model`: that of `modelFor`, where it is known already.
 */
export async function draftOf(
  rooms: Rooms,
  caller: Caller,
  request: GenerationRequest,
  model: Model = modelFor(rooms, caller, request),
): Promise<Generation> {
  const { catalog, system, settings } = rooms;
  const name = request.model ?? settings.defaultModel;
  if (request.webhook_url !== undefined) refuseUrl('webhook_url', request.webhook_url, settings.allowPrivate);
  const now = system.clock.now();
  const seed = request.seed ?? system.random.integer(DRAWN_SEED_LIMIT);
  const initImage = await resolveInput(rooms, caller, 'init_image', request.init_image);
  const mask = await resolveInput(rooms, caller, 'mask', request.mask);
  const resolved = resolveParams(catalog.current, model, request, seed, { initImage, mask });
  const { warnings } = resolved;
  const { params, softened } = allowed(rooms, caller, resolved.params, request);
  const unchecked = checkLoras(rooms, model, params);
  const estimateMs = model.estimateMs * params.n;
  const price = quote(model.price, params, estimateMs / 1000);
  const maxCredits = request.max_credits === undefined ? null : toMillicredits(request.max_credits);
  if (maxCredits !== null && price.reserve > maxCredits) {
    throw new GatewayError(
      'budget_exceeded',
      `This costs up to ${toCredits(price.reserve)} credits, more than max_credits ${toCredits(maxCredits)}.`,
    );
  }
  const draft: Generation = {
    id: `gen_${system.random.ulid(now)}`,
    workspaceId: caller.workspace.id,
    keyId: caller.key.id,
    createdAt: now,
    priority: request.priority ?? 'interactive',
    batchId: request.batch_id ?? null,
    item: null,
    metadata: request.metadata ?? {},
    webhookUrl: request.webhook_url ?? null,
    softenedPrompt: request.softened_prompt ?? null,
    fallback: mayFallBack(rooms, caller, model, request) ? 'model' : 'none',
    startBy: request.start_within_seconds === undefined ? null : now + Math.ceil(request.start_within_seconds * 1000),
    runWithinMs: runLimit(request, estimateMs),
    maxCredits,
    requestedModel: name === model.id ? null : name,
    idempotencyKey: request.idempotency_key ?? null,
    requestHash: requestHash(model.id, params, request.softened_prompt ?? null),
    previousId: null,
    kind: model.kind,
    seq: 1,
    model: model.id,
    params,
    quote: price,
    warnings: [...warnings, ...unchecked, ...(softened ? [SOFTENED] : [])],
    attempts: [],
    avoid: [],
    softened,
    reserved: price.reserve,
    charged: 0,
    state: { status: 'queued', attempt: 1, notBefore: 0 },
  };
  refuseUnservable(rooms, model, draft);
  return draft;
}

/** Refused where neither the model nor what may stand in for it could ever be asked with these pictures and LoRAs. */
function refuseUnservable({ catalog, fleet }: Rooms, model: Model, draft: Generation): void {
  const { pictures, loras } = laneOf(draft);
  const others = draft.fallback === 'model' ? equivalents(catalog, model) : [];
  const able = [model, ...others.filter((m) => servedBy(draft, m) !== null && servable(fleet, m))];
  const reasons = able.map((m) => whyNever(catalog, fleet, m, { pictures, loras }));
  if (reasons.includes(null)) return;
  const path = loras.length > 0 ? 'loras' : (pictures.at(-1) ?? 'init_image');
  const message = `${model.id} cannot be made like this here: ${reasons[0]}.`;
  throw new GatewayError('unsupported_input', message, { details: [{ path, message }] });
}

/**
 * The studio's own list is asked before anything is spent. A prompt on it is refused, unless the caller said how to soften
 * it: then that stands from the beginning. What would stand in later is asked too, and so is every text among the inputs given,
 * which nothing softens: nothing on the list leaves the house. A negative prompt is not asked: it names what must not appear.
 */
function allowed(
  { settings }: Rooms,
  { workspace }: Caller,
  params: Params,
  { softened_prompt: softer, inputs = {} }: GenerationRequest,
) {
  const list = settings.blocklistOf(workspace.id);
  const hits = (path: string, text: string): readonly Detail[] => {
    const hit = list.hit(text);
    return hit === null ? [] : [{ path, message: `${path}: "${hit.found}" is not allowed here` }];
  };
  const hard = hits('prompt', params.prompt);
  const soft = softer === undefined ? [] : hits('softened_prompt', softer);
  const beside = Object.entries(inputs).flatMap(([name, value]) =>
    typeof value === 'string' ? hits(`inputs.${name}`, value) : [],
  );
  const hopeless = softer === undefined || soft.length > 0 || beside.length > 0;
  const details = hopeless ? [...hard, ...soft, ...beside] : [];
  if (details.length > 0) throw new GatewayError('policy_block', details[0]?.message, { details });
  if (hard.length === 0 || softer === undefined) return { params, softened: false };
  return { params: { ...params, prompt: softer }, softened: true };
}

const SOFTENED = "The prompt is on the studio's own list of what is not allowed; softened_prompt stands in for it.";

/** The model that will serve: the one named, or the first equivalent where nothing configured could ever run that one. */
export function modelFor(
  { catalog, fleet, settings }: Rooms,
  caller: Caller,
  { model = settings.defaultModel, fallback }: Pick<GenerationRequest, 'model' | 'fallback'>,
): Model {
  const named = modelNamed(catalog, model);
  permit(caller, named);
  if (servable(fleet, named)) return named;
  const other = fallback === 'none' ? undefined : equivalents(catalog, named).find((m) => servable(fleet, m));
  if (other === undefined) throw unserved(fleet, named);
  permit(caller, other);
  return other;
}

function unserved(fleet: Fleet, model: Model): GatewayError {
  const see = `see GET /v1/models/${model.id}`;
  if (isOver(fleet, model)) {
    return new GatewayError('model_gone', `${overText(model)}, and nothing may stand in for it; ${see}.`);
  }
  return new GatewayError('no_capable_node', `No configured node or account can serve ${model.id}; ${see}.`);
}

/** Where it is wanted, and no equivalent is one that this key may not use. */
function mayFallBack({ catalog }: Rooms, { key }: Caller, model: Model, { fallback }: GenerationRequest): boolean {
  const others = equivalents(catalog, model);
  const allowed = key.models === null || others.every((m) => key.models?.includes(m.id));
  return fallback !== 'none' && others.length > 0 && allowed;
}

const runLimit = (request: GenerationRequest, estimateMs: Millis): Millis =>
  request.run_within_seconds === undefined
    ? Math.max(MIN_RUN_MS, 20 * estimateMs)
    : Math.ceil(request.run_within_seconds * 1000);

function permit({ key }: Caller, model: Model): void {
  if (key.models !== null && !key.models.includes(model.id)) {
    throw new GatewayError(
      'forbidden',
      `This key may not use ${model.id}; it may use ${key.models.join(', ') || 'no model'}.`,
    );
  }
}

/** A LoRA that no online node has is refused; with nobody online to ask it is accepted with a warning. */
function checkLoras({ fleet }: Rooms, model: Model, params: Params): readonly string[] {
  if (params.loras.length === 0) return [];
  const names = params.loras.map(({ name }) => name);
  const takes = (n: NodeView) => model.routes.some((route) => barred(n, { route, pictures: [] }, names) === null);
  const online = fleet.views().filter((n) => n.status === 'online' && n.report !== null && takes(n));
  if (online.length === 0)
    return ['No node is online to check the LoRAs against; the generation waits for one that has them.'];
  const details: Detail[] = params.loras.flatMap((lora, i) =>
    online.some((n) => hasLora(n, lora.name))
      ? []
      : [{ path: `loras.${i}.name`, message: `no node has a LoRA "${lora.name}"` }],
  );
  if (details.length > 0) throw new GatewayError('unsupported_input', details[0]?.message, { details });
  return [];
}

/** `from`: prompt, seed, size and metadata of a finished generation; what is given overrides. */
export async function inherit(rooms: Rooms, caller: Caller, request: GenerationRequest): Promise<GenerationRequest> {
  if (request.from === undefined) return request;
  const base = await rooms.store.generations.get(request.from);
  if (base === null || base.workspaceId !== caller.workspace.id) {
    throw new GatewayError('not_found', `There is no generation ${request.from}.`, {
      details: [{ path: 'from', message: 'not found' }],
    });
  }
  if (base.state.status === 'queued' || base.state.status === 'running') {
    throw new GatewayError('conflict', `${request.from} is not finished yet.`);
  }
  const { params } = base;
  const sized = request.width ?? request.height ?? request.size ?? request.aspect_ratio;
  return {
    prompt: params.prompt,
    ...(params.negativePrompt === null ? {} : { negative_prompt: params.negativePrompt }),
    seed: params.seed,
    ...(sized === undefined && params.width !== null && params.height !== null
      ? { width: params.width, height: params.height }
      : {}),
    metadata: { ...base.metadata },
    ...request,
  };
}

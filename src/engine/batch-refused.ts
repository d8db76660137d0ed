// Items that cannot run: their request names a model nobody knows, or asks it for what it cannot do. They are stored like
// any other and failed at once, so the batch tells of them. Nothing of such a request was worked out, so it is kept as it
// was asked and can be asked again.

import { requestHash } from '../catalog/catalog.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import type { Caller } from '../domain/caller.ts';
import type { Generation, GenerationState } from '../domain/generation.ts';
import { DRAWN_SEED_LIMIT, type InputValue, type Params } from '../domain/params.ts';
import { toCredits, toMillicredits } from '../domain/units.ts';
import type { Rooms } from './rooms.ts';

/** The state an item begins in. */
export const HELD: GenerationState = { status: 'queued', attempt: 1, notBefore: 0, held: true };

/** Begins the hash of a request that was never worked out. */
const UNRESOLVED_HASH = 'unresolved:';

/** Its request was never worked out; what was, stays so, though it is refused when it is asked for again. */
export const isUnresolved = ({ requestHash: hash }: Pick<Generation, 'requestHash'>): boolean =>
  hash.startsWith(UNRESOLVED_HASH);

/** What an item that cannot run is remembered by: what was asked, as far as it was understood. */
export function refusedDraft({ system, settings }: Rooms, caller: Caller, request: GenerationRequest): Generation {
  const now = system.clock.now();
  const seconds = request.start_within_seconds;
  const params = refusedParams(request, request.seed ?? system.random.integer(DRAWN_SEED_LIMIT));
  const model = request.model ?? settings.defaultModel;
  return {
    id: `gen_${system.random.ulid(now)}`,
    workspaceId: caller.workspace.id,
    keyId: caller.key.id,
    createdAt: now,
    priority: request.priority ?? 'batch',
    batchId: null,
    item: null,
    metadata: request.metadata ?? {},
    webhookUrl: request.webhook_url ?? null,
    softenedPrompt: request.softened_prompt ?? null,
    fallback: request.fallback ?? 'model',
    startBy: seconds === undefined ? null : now + Math.ceil(seconds * 1000),
    runWithinMs: Math.ceil((request.run_within_seconds ?? 0) * 1000),
    maxCredits: request.max_credits === undefined ? null : toMillicredits(request.max_credits),
    requestedModel: null,
    idempotencyKey: request.idempotency_key ?? null,
    requestHash: UNRESOLVED_HASH + requestHash(model, params, request.softened_prompt ?? null),
    previousId: null,
    kind: 'image',
    seq: 1,
    model,
    params,
    quote: { perOutput: 0, perNodeSecond: 0, reserve: 0 },
    warnings: [],
    attempts: [],
    avoid: [],
    softened: false,
    reserved: 0,
    charged: 0,
    state: HELD,
  };
}

/** Fields of a request that resolve into something else; an item that never was resolved keeps them among its inputs. */
const UNRESOLVED = ['size', 'aspect_ratio', 'init_image', 'mask', 'from'] as const;
/** Of a text kept so: a picture sent along is not kept. */
const MAX_KEPT = 2000;

function refusedParams(request: GenerationRequest, seed: number): Params {
  const { format, quality, max_side: maxSide } = request.output ?? {};
  const rest = UNRESOLVED.flatMap((field): [string, InputValue][] => {
    const value = request[field];
    return value === undefined ? [] : [[field, value.slice(0, MAX_KEPT)]];
  });
  return {
    prompt: request.prompt ?? '',
    negativePrompt: request.negative_prompt ?? null,
    width: request.width ?? null,
    height: request.height ?? null,
    seed,
    steps: request.steps ?? null,
    guidance: request.guidance ?? null,
    sampler: request.sampler ?? null,
    scheduler: request.scheduler ?? null,
    n: request.n ?? 1,
    loras: request.loras ?? [],
    initImage: null,
    mask: null,
    strength: request.strength ?? null,
    inputs: { ...request.inputs, ...Object.fromEntries(rest) },
    output: {
      ...(format === undefined ? {} : { format }),
      ...(quality === undefined ? {} : { quality }),
      ...(maxSide === undefined ? {} : { maxSide }),
    },
  };
}

/** The request of an item that was refused when it was asked for. `first`: its draft. */
export function refusedRequest(first: Generation): GenerationRequest {
  const { params: p } = first;
  const { format, quality, maxSide } = p.output;
  const given = {
    model: first.model,
    prompt: p.prompt || null,
    negative_prompt: p.negativePrompt,
    softened_prompt: first.softenedPrompt,
    width: p.width,
    height: p.height,
    seed: p.seed,
    steps: p.steps,
    guidance: p.guidance,
    sampler: p.sampler,
    scheduler: p.scheduler,
    n: p.n,
    strength: p.strength,
    webhook_url: first.webhookUrl,
    idempotency_key: first.idempotencyKey,
    start_within_seconds: first.startBy === null ? null : (first.startBy - first.createdAt) / 1000,
    run_within_seconds: first.runWithinMs === 0 ? null : first.runWithinMs / 1000,
    max_credits: first.maxCredits === null ? null : toCredits(first.maxCredits),
    loras: p.loras.length === 0 ? null : p.loras,
    metadata: Object.keys(first.metadata).length === 0 ? null : first.metadata,
    ...Object.fromEntries(UNRESOLVED.map((field) => [field, p.inputs[field] ?? null])),
  };
  const inputs = Object.entries(p.inputs).filter(([name]) => !(UNRESOLVED as readonly string[]).includes(name));
  return {
    ...(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null)) as GenerationRequest),
    ...(inputs.length === 0 ? {} : { inputs: Object.fromEntries(inputs) }),
    output: {
      ...(format === undefined ? {} : { format }),
      ...(quality === undefined ? {} : { quality }),
      ...(maxSide === undefined ? {} : { max_side: maxSide }),
    },
    priority: first.priority,
    fallback: first.fallback,
  };
}

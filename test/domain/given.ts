// Generations, lanes and nodes for tests of the rules.

import type { GenerationEvent } from '../../src/domain/event.ts';
import { apply } from '../../src/domain/event.ts';
import { failure } from '../../src/domain/failure.ts';
import type { Generation, Output } from '../../src/domain/generation.ts';
import { laneOf } from '../../src/domain/lane.ts';
import type { Route } from '../../src/domain/model.ts';
import type { NodeView } from '../../src/domain/node.ts';
import type { LaneView } from '../../src/domain/placement.ts';
import { paramsOf } from '../harness/params.ts';

export const generation = (over: Partial<Generation> = {}): Generation => ({
  id: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
  workspaceId: 'studio',
  keyId: 'key_1',
  createdAt: 1000,
  priority: 'interactive',
  batchId: null,
  item: null,
  metadata: {},
  webhookUrl: null,
  softenedPrompt: null,
  fallback: 'none',
  startBy: null,
  runWithinMs: 600_000,
  maxCredits: null,
  requestedModel: null,
  idempotencyKey: null,
  requestHash: 'hash',
  previousId: null,
  kind: 'image',
  seq: 1,
  model: 'flux-dev',
  params: paramsOf({ steps: 20, guidance: 3.5 }),
  quote: { perOutput: 2500, perNodeSecond: 0, reserve: 2500 },
  warnings: [],
  attempts: [],
  avoid: [],
  softened: false,
  reserved: 2500,
  charged: 0,
  state: { status: 'queued', attempt: 1, notBefore: 0 },
  ...over,
});

export const output = (index = 0): Output => ({
  index,
  kind: 'image',
  mediaType: 'image/png',
  width: 1024,
  height: 1024,
  bytes: 10,
  sha256: 'ab',
  seed: 7 + index,
  blob: 'ab.png',
  original: 'ab.png',
  thumbnail: null,
  expiresAt: 9_999,
});

const why = failure('node_lost', 'gone');
/** One example of each event. */
export const EVENTS: readonly GenerationEvent[] = [
  { type: 'submitted', at: 1 },
  { type: 'started', at: 2, node: 'rack-1', backend: 'comfyui' },
  { type: 'submitted_to_node', at: 3, remote: { promptId: 'p' } },
  { type: 'requeued', at: 4, notBefore: 10, failure: why, avoid: 'rack-1', giveBack: false },
  { type: 'succeeded', at: 5, outputs: [output()], nodeMs: 3000 },
  { type: 'failed', at: 6, failure: why },
  { type: 'timed_out', at: 7, failure: failure('run_timeout', 'long') },
  { type: 'cancelled', at: 8, failure: failure('cancelled_by_caller', 'stop') },
];

export const moved = (g: Generation, ...events: readonly GenerationEvent[]): Generation => events.reduce(apply, g);
export const started = (g = generation(), node = 'rack-1'): Generation =>
  moved(g, { type: 'started', at: 2000, node, backend: 'comfyui' });

export const route = (over: Partial<Route> = {}): Route => ({
  backend: 'comfyui',
  labels: [],
  checkpoint: 'flux.safetensors',
  workflow: 'flux',
  remote: null,
  account: null,
  ...over,
});

export const node = (id: string, over: Partial<NodeView> = {}): NodeView => ({
  id,
  kind: 'comfyui',
  labels: [],
  status: 'online',
  report: {
    flavour: 'comfyui',
    version: '0.3.64',
    device: null,
    memory: null,
    checkpoints: ['flux.safetensors', 'sdxl.safetensors', 'sd15.safetensors'],
    loras: ['style.safetensors'],
    samplers: null,
    schedulers: null,
    upscalers: null,
    classes: null,
    files: null,
    foreignQueue: 0,
  },
  freeSlots: 1,
  resident: [],
  capacity: 1,
  remainingMs: 0,
  renderedSinceLoadMs: 0,
  timing: () => undefined,
  ...over,
});

export const lane = (over: Partial<Generation> = {}, checkpoint = 'flux.safetensors', queued = 1): LaneView => {
  const g = generation(over);
  return {
    lane: laneOf(g),
    head: { id: g.id, createdAt: g.createdAt, notBefore: 0, startBy: null },
    queued,
    lastServedAt: null,
    model: { id: g.model, estimateMs: 10_000, coldMs: 20_000 },
    routes: [{ route: route({ checkpoint }), classes: [], files: [] }],
  };
};

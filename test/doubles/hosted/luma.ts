// Luma Dream Machine: generations of clips and pictures, polled and deleted. Its refusals are a `detail` and no more.

import type { Generation } from 'lumaai/resources/generations/generations';
import { type Answer, type Call, type Fields, json, Refused, sizeOfRatio, text } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import { bearer, type House, type JobRoute, type Provider, type Route, type SubmitRoute } from './provider.ts';
import { worksOf } from './works.ts';

const error = (status: number, detail: string): Answer => json(status, { detail });
const RATIOS = ['1:1', '16:9', '9:16', '4:3', '3:4', '21:9', '9:21'];
const MODELS = { video: ['ray-2', 'ray-flash-2'], image: ['photon-1', 'photon-flash-1'] } as const;
const BASE = '/dream-machine/v1';

export const luma = (): Provider => ({
  base: BASE,
  ids: 'uuid',
  renews: true,
  lacks: ['moderation_partial', 'foreign_poll_url', 'aborted'],
  keyOf: (call) => bearer(call),
  says: {
    auth: error(401, 'Invalid API key'),
    balance: error(400, 'Insufficient credits'),
    limited: () => error(429, 'Rate limit exceeded'),
    invalid: error(400, 'Invalid duration'),
    moderated: error(400, 'prompt not allowed because advanced moderation failed'),
    gone: (model) => error(404, `Model ${model} not found`),
    trouble: (status) => error(status, status === 503 ? 'Service unavailable' : 'Internal server error'),
    unknownJob: () => error(404, 'Generation not found'),
    cancelRefused: error(400, 'Generation cannot be deleted'),
  },
  routes: (house): readonly Route[] => [create(house, 'video'), create(house, 'image'), ...about(house), credits],
});

const credits: Route = {
  role: 'plain',
  method: 'GET',
  path: new RegExp(`^${BASE}/credits$`),
  answer: () => json(200, { credit_balance: 10_000 }),
};

const create = (house: House, kind: 'video' | 'image'): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: new RegExp(`^${BASE}/generations/${kind}$`),
  read: (call) => read(call, kind),
  answer: async (job) => json(201, await view(house, job, house.jobs.peek(job))),
});

function read({ body }: Call, kind: 'video' | 'image'): Order {
  const model = text(body.model) || (kind === 'image' ? 'photon-1' : '');
  if (!MODELS[kind].some((known) => known === model))
    throw new Refused(error(400, `model: Input should be ${MODELS[kind].join(' or ')}`));
  const ratio = text(body.aspect_ratio) || '16:9';
  if (!RATIOS.includes(ratio))
    throw new Refused(error(400, `aspect_ratio: Input should be one of ${RATIOS.join(', ')}`));
  const frames = Object.values((body.keyframes ?? {}) as Record<string, Fields>);
  if (text(body.prompt).length < 3 && frames.length === 0)
    throw new Refused(error(400, 'Prompt is required, minimum 3 characters'));
  if (frames.some((frame) => frame.type === 'image' && !/^https?:/.test(text(frame.url))))
    throw new Refused(error(400, 'keyframes: url must be a valid URL'));
  const format = kind === 'video' ? 'mp4' : body.format === 'png' ? 'png' : 'jpeg';
  const webhook = text(body.callback_url) || null;
  return { model, prompt: text(body.prompt), count: 1, ...sizeOfRatio(ratio), format, seed: 0, webhook, input: body };
}

const about = (house: House): JobRoute[] => {
  const path = new RegExp(`^${BASE}/generations/(?<id>[0-9a-f-]{36})$`);
  return [
    {
      role: 'poll',
      method: 'GET',
      path,
      vanishes: true,
      answer: async (job, phase) => json(200, await view(house, job, phase)),
    },
    {
      role: 'cancel',
      method: 'DELETE',
      path,
      answer(job) {
        house.jobs.cancel(job);
        house.jobs.remove(job);
        return { status: 204 };
      },
    },
  ];
};

/** With the nulls that its published schema does not have. */
type Shown = Omit<Generation, 'state' | 'assets' | 'failure_reason' | 'request'> & {
  readonly state: Generation['state'] | 'hibernating';
  readonly assets: Generation['assets'] | null;
  readonly failure_reason: string | null;
  /** As it was sent. */
  readonly request: Fields;
};

async function view(house: House, job: Job, phase: Phase): Promise<Shown> {
  const { order, fate, at } = job;
  const kind = order.format === 'mp4' ? 'video' : 'image';
  const failure = phase === 'done' ? reasonOf(job) : null;
  const running = fate.has('unknown_status') ? 'hibernating' : phase === 'queued' ? 'queued' : 'dreaming';
  const [work] = phase === 'done' && failure === null ? await worksOf(job) : [];
  return {
    id: house.idShown(job),
    generation_type: kind,
    state: phase !== 'done' ? running : failure === null ? 'completed' : 'failed',
    failure_reason: failure,
    created_at: new Date(at).toISOString(),
    assets: work ? { [kind]: house.link(job, work) } : null,
    model: order.model,
    request: { generation_type: kind, ...order.input },
  };
}

function reasonOf({ fate }: Job): string | null {
  if (fate.has('moderation_output')) return 'Generated video failed output moderation';
  return fate.has('failed_opaque') ? 'Job failed' : null;
}

// Ideogram: the v2 API, synchronous or by generation_id; the two older synchronous forms. A withheld picture is a picture
// without a link, and is billed.

import { type Answer, type Call, type Fields, json, number, Refused, sizeOfRatio, text, whole } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import type { House, JobRoute, Provider, SubmitRoute } from './provider.ts';
import { worksOf } from './works.ts';

const error = (status: number, words: string, more: Fields = {}): Answer => json(status, { error: words, ...more });
const SEED_MAX = 2_147_483_647;
const COST_USD_MICROS = 60_000;
const RATIOS_3 = [
  ...['1x1', '4x3', '3x4', '3x2', '2x3', '5x4', '4x5', '16x9', '9x16', '16x10', '10x16'],
  ...['2x1', '1x2', '3x1', '1x3'],
];

export const ideogram = (): Provider => ({
  base: '',
  ids: 'base64url',
  renews: true,
  lacks: ['cancel_refused', 'aborted', 'foreign_poll_url'],
  keyOf: ({ headers }) => headers['api-key'] ?? null,
  says: {
    auth: error(401, 'Not authorized: invalid API key'),
    balance: error(402, 'Insufficient funds', { reject_reason: 'insufficient_funds' }),
    limited: () => error(429, 'Too many requests in flight'),
    invalid: error(400, 'Invalid input: num_images must be between 1 and 8'),
    moderated: error(422, 'Prompt or provided image failed the safety checks'),
    gone: () => error(404, 'Not found'),
    trouble: (status) => error(status, status === 503 ? 'Service unavailable' : 'Internal server error'),
    unknownJob: () => error(404, 'Generation not found'),
    cancelRefused: null,
  },
  routes: (house) => [modern(house), legacy(house), v3(house), poll(house)],
});

const modern = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v2\/image\/(?<action>generate|remix|inpaint|precise-edit)\/(?<model>[^/]+)$/,
  read({ body }, { model = '', action = '' }) {
    if (action !== 'generate' && body.image === undefined) throw new Refused(error(400, 'Invalid input: image'));
    if (action === 'inpaint' && body.mask === undefined) throw new Refused(error(400, 'Invalid input: mask'));
    if (isOn(body.dry_run))
      throw new Refused(json(200, { usage_cost_usd_micros: COST_USD_MICROS * number(body.num_images, 1) }));
    return read(body, model, text(body.aspect_ratio).replace('x', ':'));
  },
  async answer(job, { body, signal }) {
    if (isOn(body.async) || job.order.webhook) return json(200, { generation_id: job.id, generation_kind: 'sampling' });
    await house.jobs.finish(job, signal);
    if (job.fate.has('failed_opaque')) return error(500, 'Generation failed');
    return json(200, {
      generation_id: job.id,
      generation_kind: 'sampling',
      seed: job.order.seed,
      data: await items(house, job),
    });
  },
});

const legacy = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/generate$/,
  read({ body }) {
    const asked = (body.image_request ?? {}) as Fields;
    const model = text(asked.model) || 'V_2';
    if (!/^(V_(1|2|2A)(_TURBO)?|V_3|AUTO)$/.test(model))
      throw new Refused(error(400, `Invalid input: unknown model ${model}`));
    const ratio = text(asked.aspect_ratio);
    if (ratio && !/^ASPECT_\d+_\d+$/.test(ratio)) throw new Refused(error(400, `Invalid input: aspect_ratio ${ratio}`));
    return read(asked, model, ratio.replace('ASPECT_', '').replace('_', ':'));
  },
  answer: (job, call) => synchronous(house, job, call),
});

const v3 = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v1\/ideogram-v3\/(?<action>generate|remix|edit)$/,
  read({ body, encoding }, { action }) {
    if (encoding !== 'form' && action !== 'generate')
      throw new Refused(error(400, 'Invalid input: expected multipart/form-data'));
    const ratio = text(body.aspect_ratio);
    if (ratio !== '' && !RATIOS_3.includes(ratio))
      throw new Refused(error(400, `Invalid input: aspect_ratio ${ratio}`));
    return read(body, 'ideogram-v3', ratio.replace('x', ':'));
  },
  answer: (job, call) => synchronous(house, job, call),
});

async function synchronous(house: House, job: Job, { signal }: Call): Promise<Answer> {
  await house.jobs.finish(job, signal);
  if (job.fate.has('failed_opaque')) return error(500, 'Internal server error');
  return json(200, { created: new Date(job.at).toISOString(), data: await items(house, job) });
}

const isOn = (value: unknown) => value === true || value === 'true';

function read(body: Fields, model: string, ratio: string): Order {
  const prompt = text(body.prompt);
  const refuse = (words: string) => new Refused(error(400, `Invalid input: ${words}`));
  if (prompt === '') throw refuse('prompt is required');
  if (prompt.length > 10_000) throw refuse('prompt is too long');
  const count = number(body.num_images, 1);
  if (!whole(count, 1, 8)) throw refuse('num_images must be between 1 and 8');
  const seed = number(body.seed, 12_345);
  if (!whole(seed, 0, SEED_MAX)) throw refuse(`seed must be between 0 and ${SEED_MAX}`);
  if (ratio !== '' && !/^\d+:\d+$/.test(ratio)) throw refuse('aspect_ratio must look like 16x9');
  if (ratio !== '' && body.resolution !== undefined) throw refuse('aspect_ratio and resolution exclude each other');
  const [, w, h] = /(\d{3,4})[x_](\d{3,4})$/.exec(text(body.resolution)) ?? [];
  const size = w && h ? { width: Number(w), height: Number(h) } : sizeOfRatio(ratio || '1:1');
  const webhook = text(body.webhook_url) || null;
  if (webhook !== null && !webhook.startsWith('https://')) throw refuse('webhook_url must be https');
  return { model, prompt, count, ...size, format: 'png', seed, webhook, input: body };
}

async function items(house: House, job: Job): Promise<readonly Fields[]> {
  const { prompt, width, height, seed } = job.order;
  return (await worksOf(job)).map((work, i) => ({
    url: work.safe ? house.link(job, work) : null,
    prompt,
    resolution: `${width}x${height}`,
    seed: seed + i,
    is_image_safe: work.safe,
    style_type: 'GENERAL',
  }));
}

const poll = (house: House): JobRoute => ({
  role: 'poll',
  method: 'GET',
  path: /^\/v2\/generations\/(?<id>[^/]+)$/,
  vanishes: true,
  answer: async (job, phase) => json(200, await view(house, job, phase)),
});

async function view(house: House, job: Job, phase: Phase): Promise<Fields> {
  const shown = { generation_id: house.idShown(job), created: new Date(job.at).toISOString() };
  if (phase !== 'done') return { ...shown, status: job.fate.has('unknown_status') ? 'hibernating' : 'pending' };
  if (job.fate.has('failed_opaque')) return { ...shown, status: 'failed', failure_reason: 'internal_error' };
  const data = (await items(house, job)).map((item) => ({ object_type: 'image', ...item }));
  return {
    ...shown,
    status: 'completed',
    response_type: 'image',
    data,
    usage_cost_usd_micros: COST_USD_MICROS * job.order.count,
  };
}

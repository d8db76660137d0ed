// Stability's v2beta image routes: multipart only, one picture per call, as bytes or as JSON, and refusals by name.

import { type Answer, type Call, json, number, Refused, sizeOfRatio, text, whole } from './call.ts';
import { LINK_FAULTS, POLLED_FAULTS } from './faults.ts';
import type { Job, Order } from './jobs.ts';
import { bearer, type House, type Provider, type SubmitRoute } from './provider.ts';
import { base64, worksOf } from './works.ts';

const error = (status: number, name: string, ...errors: readonly string[]): Answer =>
  json(status, { id: '8f1c7a0b3d', name, errors });
const bad = (...errors: readonly string[]) => error(400, 'bad_request', ...errors);
const RATIOS = ['21:9', '16:9', '3:2', '5:4', '1:1', '4:5', '2:3', '9:16', '9:21'];
const SD3 = [
  'sd3.5-large',
  'sd3.5-large-turbo',
  'sd3.5-medium',
  'sd3.5-flash',
  'sd3-large',
  'sd3-large-turbo',
  'sd3-medium',
];
const BODY_MAX = 10 * 1024 * 1024;
const SEED_MAX = 4_294_967_294;

export const stability = (): Provider => ({
  base: '',
  ids: 'base32',
  renews: false,
  lacks: [...POLLED_FAULTS, ...LINK_FAULTS, 'moderation_partial'],
  keyOf: (call) => bearer(call),
  says: {
    auth: error(401, 'unauthorized', 'missing or invalid authorization header'),
    balance: error(
      402,
      'payment_required',
      'You lack sufficient credits to make this request. Please purchase more credits at https://platform.stability.ai/account/credits and try again.',
    ),
    limited: () =>
      error(
        429,
        'rate_limit_exceeded',
        'You have exceeded the rate limit of 150 requests within a 10 second period, and have been timed out for 60 seconds.',
      ),
    invalid: bad('cfg_scale: must be less than or equal to 10'),
    moderated: error(
      403,
      'content_moderation',
      'Your request was flagged by our content moderation system, as a result your request was denied and you were not charged.',
    ),
    gone: () => error(404, 'not_found', 'The requested resource was not found'),
    trouble: (status) => error(status, 'internal_error', 'An internal error occurred'),
    unknownJob: () => error(404, 'not_found', 'The requested resource was not found'),
    cancelRefused: null,
  },
  routes: (house) => [route(house)],
});

const route = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v2beta\/stable-image\/(?<group>generate|edit)\/(?<service>core|ultra|sd3|inpaint|erase|outpaint|search-and-replace)$/,
  read: (call, { service = '' }) => read(call, service),
  answer: (job, call) => answer(house, job, call),
});

function read({ body, encoding, headers }: Call, service: string): Order {
  if (Number(headers['content-length'] ?? 0) > BODY_MAX) {
    throw new Refused(error(413, 'payload_too_large', 'body: payloads cannot be larger than 10MiB in size'));
  }
  if (encoding !== 'form') throw new Refused(bad('content-type: must be multipart/form-data'));
  if (!/image\/\*|application\/json|\*\/\*/.test(headers.accept ?? '*/*'))
    throw new Refused(bad("accept: must be 'image/*' or 'application/json'"));
  const wrong: string[] = [];
  const prompt = text(body.prompt);
  if (service !== 'erase' && service !== 'outpaint' && (prompt === '' || prompt.length > 10_000))
    wrong.push('prompt: required, and at most 10000 characters');
  const ratio = text(body.aspect_ratio) || '1:1';
  if (!RATIOS.includes(ratio)) wrong.push(`aspect_ratio: must be one of ${RATIOS.join(', ')}`);
  const seed = number(body.seed, 0);
  if (!whole(seed, 0, SEED_MAX)) wrong.push(`seed: must be between 0 and ${SEED_MAX}`);
  const format = text(body.output_format) || 'png';
  const isFormat = format === 'png' || format === 'jpeg' || format === 'webp';
  if (!isFormat) wrong.push('output_format: must be one of jpeg, png, webp');
  const [cfg, strength] = [number(body.cfg_scale, 4), number(body.strength, 0.5)];
  if (!(cfg >= 1 && cfg <= 10)) wrong.push('cfg_scale: must be between 1 and 10');
  if (!(strength >= 0 && strength <= 1)) wrong.push('strength: must be between 0 and 1');
  if (service === 'sd3' && body.model !== undefined && !SD3.includes(text(body.model)))
    wrong.push(`model: must be one of ${SD3.join(', ')}`);
  if (body.mode === 'image-to-image' && (!('image' in body) || !('strength' in body)))
    wrong.push('image, strength: required when mode is image-to-image');
  if (service === 'inpaint' && !('image' in body)) wrong.push('image: required');
  if (wrong.length > 0 || !isFormat) throw new Refused(bad(...wrong));
  const model = text(body.model) || service;
  return { model, prompt, count: 1, ...sizeOfRatio(ratio), format, seed, input: body };
}

async function answer({ jobs }: House, job: Job, { headers, signal }: Call): Promise<Answer> {
  await jobs.finish(job, signal);
  if (job.fate.has('failed_opaque')) return error(500, 'internal_error', 'An internal error occurred');
  const [work] = await worksOf(job);
  const seed = job.order.seed === 0 ? 1_846_592_033 : job.order.seed;
  const finish = work && !work.safe ? 'CONTENT_FILTERED' : 'SUCCESS';
  if (/application\/json/.test(headers.accept ?? '')) {
    const type = { 'content-type': `application/json; type=image/${job.order.format}` };
    const image = work ? { image: base64(work) } : {};
    return { ...json(200, { ...image, finish_reason: finish, seed }, type), carries: true };
  }
  const file = work?.file ?? { parts: [], mime: `image/${job.order.format}` };
  return { status: 200, file, headers: { seed: String(seed), 'finish-reason': finish }, carries: true };
}

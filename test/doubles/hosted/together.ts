// Together images: OpenAI-like, links or base64, synchronous only. Its words for refused content are not documented; these
// are the likeliest.

import type { ImageDataB64, ImageDataURL, ImageFile } from 'together-ai/resources/images';
import { type Answer, type Call, json, number, Refused, text, whole } from './call.ts';
import { POLLED_FAULTS } from './faults.ts';
import type { Job, Order } from './jobs.ts';
import { bearer, type House, type Provider, type SubmitRoute } from './provider.ts';
import { base64, worksOf } from './works.ts';

const error = (
  status: number,
  message: string,
  type: string,
  code: string | null,
  param: string | null = null,
): Answer => json(status, { error: { message, type, param, code } });
const invalid = (message: string, param: string) => error(422, message, 'invalid_request_error', null, param);

export const together = (): Provider => ({
  base: '/v1',
  ids: 'base64url',
  renews: false,
  lacks: POLLED_FAULTS,
  keyOf: (call) => bearer(call),
  says: {
    auth: error(
      401,
      'Invalid API key provided. You can find your API key at https://api.together.ai/settings/api-keys.',
      'invalid_request_error',
      'invalid_api_key',
    ),
    balance: error(
      402,
      'Credit limit exceeded, please navigate to https://api.together.ai/settings/billing to upgrade your plan.',
      'credit_limit',
      null,
    ),
    limited: () => error(429, 'You have reached the rate limit specific to this model.', 'model_rate_limit', null),
    invalid: invalid('steps must be between 1 and 4', 'steps'),
    moderated: error(
      422,
      'The prompt was flagged: NSFW content detected.',
      'invalid_request_error',
      'nsfw_content_detected',
      'prompt',
    ),
    gone: (model) =>
      error(
        404,
        `Unable to access model ${model}. Please visit https://api.together.ai/models to view the list of supported models.`,
        'invalid_request_error',
        'model_not_available',
      ),
    trouble: (status) =>
      error(
        status,
        status === 503 ? 'The server is overloaded or not ready yet.' : 'Internal server error',
        'server_error',
        null,
      ),
    unknownJob: () => error(404, 'Not found', 'invalid_request_error', null),
    cancelRefused: null,
  },
  routes: (house) => [route(house)],
});

const route = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v1\/images\/generations$/,
  read,
  answer: (job, call) => answer(house, job, call),
});

function read({ body }: Call): Order {
  const [model, prompt] = [text(body.model), text(body.prompt)];
  if (model === '') throw new Refused(error(400, 'model is required', 'invalid_request_error', null, 'model'));
  if (prompt === '') throw new Refused(error(400, 'prompt is required', 'invalid_request_error', null, 'prompt'));
  const [width, height, count] = [number(body.width, 1024), number(body.height, 1024), number(body.n, 1)];
  for (const [name, value] of Object.entries({ width, height })) {
    if (!whole(value / 16, 4, 112))
      throw new Refused(invalid(`${name} must be a multiple of 16 between 64 and 1792`, name));
  }
  if (!whole(count, 1, 4)) throw new Refused(invalid('n must be between 1 and 4', 'n'));
  if (!whole(number(body.steps, 1), 1, /schnell/i.test(model) ? 12 : 50))
    throw new Refused(invalid('steps is out of range', 'steps'));
  const format = body.output_format ?? 'jpeg';
  if (format !== 'jpeg' && format !== 'png')
    throw new Refused(invalid("output_format must be 'jpeg' or 'png'", 'output_format'));
  if (![undefined, 'url', 'base64'].includes(body.response_format as string | undefined))
    throw new Refused(invalid("response_format must be 'url' or 'base64'", 'response_format'));
  return { model, prompt, count, width, height, format, seed: number(body.seed, 42), input: body };
}

async function answer({ jobs, link }: House, job: Job, { body, signal }: Call): Promise<Answer> {
  await jobs.finish(job, signal);
  if (job.fate.has('failed_opaque')) return error(500, 'Internal server error', 'server_error', null);
  const works = (await worksOf(job)).filter(({ safe }) => safe);
  const inside = body.response_format === 'base64';
  const data = works.map((work, index): ImageDataB64 | ImageDataURL =>
    inside ? { index, b64_json: base64(work), type: 'b64_json' } : { index, url: link(job, work), type: 'url' },
  );
  const made: ImageFile = { id: job.id, model: job.order.model, object: 'list', data };
  return { ...json(200, made), carries: inside };
}

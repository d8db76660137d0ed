// OpenAI images, and with `local` the servers that imitate it (LocalAI, vLLM): JSON and multipart, base64 or links, and a
// stream of partial images. Nothing can be asked after: a lost answer is a lost, billed picture.

import type {
  Image,
  ImageEditParams,
  ImageEditStreamEvent,
  ImageGenerateParams,
  ImageGenStreamEvent,
  ImagesResponse,
} from 'openai/resources/images';
import { type Answer, type Call, type Fields, json, number, Refused, text, whole } from './call.ts';
import { LINK_FAULTS, POLLED_FAULTS } from './faults.ts';
import type { Job, Order } from './jobs.ts';
import { bearer, type House, type Provider, type SubmitRoute } from './provider.ts';
import type { HostedSettings } from './settings.ts';
import { base64, type Work, worksOf } from './works.ts';

const error = (
  status: number,
  message: string,
  type: string,
  code: string | null,
  param: string | null = null,
  more: Fields = {},
): Answer =>
  json(status, { error: { message, type, param, code, ...more } }, { 'x-request-id': 'req_0d9f3f0a7c5b4f6e' });
const invalid = (message: string, code: string | null, param: string | null) =>
  error(400, message, 'invalid_request_error', code, param);

const blocked = (stage: 'input' | 'output'): Answer =>
  error(
    400,
    'Your request was rejected by the safety system. If you believe this is an error, contact us at help.openai.com and include the request ID req_0d9f3f0a7c5b4f6e. safety_violations=[sexual].',
    'image_generation_user_error',
    'moderation_blocked',
    null,
    {
      moderation_details: { moderation_stage: stage, categories: ['sexual'] },
    },
  );

type Known = Readonly<Record<string, boolean>>;
/** What the published client can send; false: of older models, refused for these. */
const GENERATION = {
  prompt: true,
  model: true,
  n: true,
  size: true,
  quality: true,
  background: true,
  complexity: true,
  frame_count: true,
  frame_duration_ms: true,
  moderation: true,
  output_format: true,
  output_compression: true,
  partial_images: true,
  safety_identifier: true,
  stream: true,
  svg: true,
  user: true,
  response_format: false,
  style: false,
} satisfies Record<keyof ImageGenerateParams, boolean>;
const EDIT_FORM = {
  image: true,
  mask: true,
  markup: true,
  input_fidelity: true,
  prompt: true,
  model: true,
  n: true,
  size: true,
  quality: true,
  background: true,
  complexity: true,
  frame_count: true,
  frame_duration_ms: true,
  output_format: true,
  output_compression: true,
  partial_images: true,
  safety_identifier: true,
  stream: true,
  user: true,
  response_format: false,
} satisfies Record<keyof ImageEditParams, boolean>;
/** The client has no JSON edits; only they have `moderation`. */
const EDIT_JSON: Known = { ...EDIT_FORM, image: false, images: true, moderation: true };
const QUALITIES: readonly string[] = [
  'low',
  'medium',
  'high',
  'xhigh',
  'max',
  'auto',
] satisfies ImageGenerateParams['quality'][];
const PROMPT_MAX = 32_000;

export const openai = ({ local }: HostedSettings): Provider => ({
  base: '/v1',
  ids: 'uuid',
  renews: false,
  lacks: [...POLLED_FAULTS, ...(local ? [] : LINK_FAULTS)],
  keyOf: (call) => bearer(call),
  says: {
    auth: error(
      401,
      'Incorrect API key provided: sk-****. You can find your API key at https://platform.openai.com/account/api-keys.',
      'invalid_request_error',
      'invalid_api_key',
    ),
    balance: error(
      429,
      'You exceeded your current quota, please check your plan and billing details.',
      'insufficient_quota',
      'insufficient_quota',
    ),
    limited: () =>
      error(
        429,
        'Rate limit reached for gpt-image-1.5 on images per min. Limit 5, Used 5, Requested 1.',
        'input-images',
        'rate_limit_exceeded',
      ),
    invalid: invalid(
      "Invalid value: 'huge'. Supported values are: 'low', 'medium', 'high', and 'auto'.",
      'invalid_value',
      'quality',
    ),
    moderated: blocked('input'),
    gone: (model) =>
      error(
        404,
        `The model '${model}' does not exist or you do not have access to it.`,
        'invalid_request_error',
        'model_not_found',
      ),
    trouble: (status) =>
      error(status, 'The server had an error while processing your request. Sorry about that!', 'server_error', null),
    unknownJob: () => invalid('Invalid URL', null, null),
    cancelRefused: null,
  },
  routes: (house) => [route(house, 'generations'), route(house, 'edits')],
});

const route = (house: House, kind: 'generations' | 'edits'): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: new RegExp(`^/v1/images/${kind}$`),
  read: (call) => {
    const form = call.encoding === 'form';
    const picture = form ? 'image' : 'images';
    if (kind === 'edits' && !(picture in call.body))
      throw new Refused(invalid(`Missing required parameter: '${picture}'.`, 'missing_required_parameter', picture));
    if (kind === 'generations' && form)
      throw new Refused(error(415, 'Unsupported content type', 'invalid_request_error', 'unsupported_content_type'));
    const known = kind === 'generations' ? GENERATION : form ? EDIT_FORM : EDIT_JSON;
    return read(call, house.settings.local ? null : known);
  },
  answer: (job, call) => answer(house, job, call, kind === 'edits' ? 'image_edit' : 'image_generation'),
});

/** `known`: what a strict server accepts; null where it takes anything. */
function read({ body }: Call, known: Known | null): Order {
  const prompt = text(body.prompt);
  if (prompt === '')
    throw new Refused(invalid("Missing required parameter: 'prompt'.", 'missing_required_parameter', 'prompt'));
  if (prompt.length > PROMPT_MAX)
    throw new Refused(invalid("Invalid 'prompt': string too long.", 'string_above_max_length', 'prompt'));
  const foreign = known && Object.keys(body).find((key) => known[key] !== true);
  if (foreign) throw new Refused(invalid(`Unknown parameter: '${foreign}'.`, 'unknown_parameter', foreign));
  const count = number(body.n, 1);
  if (!whole(count, 1, 10))
    throw new Refused(
      invalid(
        `Invalid 'n': integer above maximum value. Expected a value <= 10, but got ${count} instead.`,
        'integer_above_max_value',
        'n',
      ),
    );
  const [all, w = '1024', h = '1024'] = /^(?:auto|(\d+)x(\d+))$/.exec(text(body.size) || 'auto') ?? [];
  const [width, height] = [Number(w), Number(h)];
  if (!all || (known && (width % 16 !== 0 || height % 16 !== 0 || width > 3 * height || height > 3 * width))) {
    throw new Refused(invalid(`Invalid value: '${text(body.size)}'.`, 'invalid_value', 'size'));
  }
  const format = text(body.output_format) || 'png';
  if (format !== 'png' && format !== 'jpeg' && format !== 'webp')
    throw new Refused(
      invalid(
        `Invalid value: '${format}'. Supported values are: 'png', 'jpeg', and 'webp'.`,
        'invalid_value',
        'output_format',
      ),
    );
  if (known && body.quality !== undefined && !QUALITIES.includes(text(body.quality))) {
    throw new Refused(invalid(`Invalid value: '${text(body.quality)}'.`, 'invalid_value', 'quality'));
  }
  return { model: text(body.model), prompt, count, width, height, format, seed: number(body.seed, 42), input: body };
}

async function answer(
  { settings, jobs, link }: House,
  job: Job,
  { body, signal }: Call,
  event: Event,
): Promise<Answer> {
  await jobs.finish(job, signal);
  if (job.fate.has('moderation_output')) return blocked('output');
  if (job.fate.has('failed_opaque'))
    return error(500, 'The server had an error while processing your request. Sorry about that!', 'server_error', null);
  const works = (await worksOf(job)).filter(({ safe }) => safe);
  const byLink = settings.local && body.response_format !== 'b64_json';
  const data: Image[] = works.map((work) => (byLink ? { url: link(job, work) } : { b64_json: base64(work) }));
  const created = Math.floor(job.at / 1000);
  if (settings.local) return { ...json(200, { created, data } satisfies ImagesResponse), carries: !byLink };
  const shown = shownOf(job.order);
  if (body.stream === true || body.stream === 'true')
    return stream(works, { ...shown, created_at: created }, event, number(body.partial_images, 0));
  const made: ImagesResponse = { created, ...shown, data, usage: usage(works.length) };
  return { ...json(200, made), carries: true };
}

const shownOf = ({ width, height, format }: Order) => ({
  background: 'opaque' as const,
  output_format: format === 'mp4' ? ('png' as const) : format,
  quality: 'high' as const,
  size: `${width}x${height}`,
});

const usage = (images: number) => ({
  input_tokens: 50,
  input_tokens_details: { image_tokens: 0, text_tokens: 50 },
  output_tokens: 1056 * images,
  total_tokens: 50 + 1056 * images,
});

type Event = 'image_generation' | 'image_edit';
type Shown = ReturnType<typeof shownOf> & { readonly created_at: number };

function stream(works: readonly Work[], shown: Shown, event: Event, partials: number): Answer {
  const line = (value: ImageGenStreamEvent | ImageEditStreamEvent) =>
    `event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`;
  const lines = works.flatMap((work) => [
    ...Array.from({ length: partials }, (_, partial_image_index) =>
      line({ type: `${event}.partial_image`, partial_image_index, b64_json: base64(work), ...shown }),
    ),
    line({ type: `${event}.completed`, b64_json: base64(work), ...shown, usage: usage(1) }),
  ]);
  const bytes = Buffer.from(lines.join(''));
  return { status: 200, file: { parts: [bytes], mime: 'text/event-stream; charset=utf-8' }, carries: true };
}

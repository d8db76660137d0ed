// Gemini's generateContent for images: one picture per call, inline, or one of several ways of not giving one with a 200.

import type { GenerateContentResponse } from '@google/genai';
import { type Answer, type Call, type Fields, json, number, Refused, sizeOfRatio, text } from './call.ts';
import { LINK_FAULTS, POLLED_FAULTS } from './faults.ts';
import type { Job, Order } from './jobs.ts';
import type { House, Provider, SubmitRoute } from './provider.ts';
import { base64, worksOf } from './works.ts';

const error = (code: number, status: string, message: string, details?: readonly Fields[]): Answer =>
  json(code, { error: { code, message, status, ...(details ? { details } : {}) } });
const invalid = (message: string) => error(400, 'INVALID_ARGUMENT', message);
/** The client's classes and enumerations, as they are in JSON. */
type InJson<T> = T extends string
  ? `${T}`
  : T extends readonly (infer Item)[]
    ? readonly InJson<Item>[]
    : T extends object
      ? { readonly [Key in keyof T]: InJson<T[Key]> }
      : T;
type Response = InJson<
  Pick<GenerateContentResponse, 'candidates' | 'promptFeedback' | 'usageMetadata' | 'modelVersion' | 'responseId'>
>;
const usageMetadata = { promptTokenCount: 12, candidatesTokenCount: 1290, totalTokenCount: 1302 };

const KNOWN = [
  'contents',
  'generationConfig',
  'safetySettings',
  'systemInstruction',
  'tools',
  'toolConfig',
  'cachedContent',
  'labels',
];
const RATIOS = ['1:1', '2:3', '3:2', '3:4', '4:3', '4:5', '5:4', '9:16', '16:9', '21:9', '1:4', '4:1', '1:8', '8:1'];

export const gemini = (): Provider => ({
  base: '',
  ids: 'base64url',
  renews: false,
  lacks: [...POLLED_FAULTS, ...LINK_FAULTS, 'moderation_partial'],
  keyOf: ({ headers, query }) => headers['x-goog-api-key'] ?? query.get('key'),
  says: {
    auth: error(400, 'INVALID_ARGUMENT', 'API key not valid. Please pass a valid API key.', [
      { '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: 'API_KEY_INVALID', domain: 'googleapis.com' },
    ]),
    balance: error(
      429,
      'RESOURCE_EXHAUSTED',
      'You exceeded your current quota, please check your plan and billing details.',
      [
        {
          '@type': 'type.googleapis.com/google.rpc.QuotaFailure',
          violations: [
            { quotaMetric: 'generativelanguage.googleapis.com/generate_content_free_tier_requests', quotaValue: '0' },
          ],
        },
      ],
    ),
    limited: (after) =>
      error(
        429,
        'RESOURCE_EXHAUSTED',
        'Resource has been exhausted (e.g. check quota).',
        after === null ? undefined : [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: `${after}s` }],
      ),
    invalid: invalid('Request contains an invalid argument.'),
    moderated: json(200, {
      promptFeedback: { blockReason: 'PROHIBITED_CONTENT' },
      usageMetadata: { promptTokenCount: 12, totalTokenCount: 12 },
      modelVersion: 'gemini-image',
      responseId: 'r-blocked',
    } satisfies Response),
    gone: (model) =>
      error(
        404,
        'NOT_FOUND',
        `models/${model} is not found for API version v1beta, or is not supported for generateContent.`,
      ),
    trouble: (status) =>
      error(
        status,
        status === 503 ? 'UNAVAILABLE' : 'INTERNAL',
        status === 503 ? 'The model is overloaded. Please try again later.' : 'An internal error has occurred.',
      ),
    unknownJob: () => error(404, 'NOT_FOUND', 'Requested entity was not found.'),
    cancelRefused: null,
  },
  routes: (house) => [route(house)],
});

const route = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v1(?:beta)?\/models\/(?<model>[^/:]+):generateContent$/,
  read: (call, { model = '' }) => read(call, model),
  answer: (job, call) => answer(house, job, call),
});

type Content = NonNullable<NonNullable<Response['candidates']>[number]['content']>;

function read({ body }: Call, model: string): Order {
  const foreign = Object.keys(body).find((key) => !KNOWN.includes(key));
  if (foreign)
    throw new Refused(invalid(`Invalid JSON payload received. Unknown name "${foreign}": Cannot find field.`));
  const contents = body.contents as readonly Content[] | undefined;
  if (!Array.isArray(contents) || contents.length === 0)
    throw new Refused(invalid('* GenerateContentRequest.contents: contents is not specified'));
  const parts = (contents as readonly Content[]).flatMap((content) => content.parts ?? []);
  const config = (body.generationConfig ?? {}) as Fields;
  const { aspectRatio } = (config.imageConfig ?? {}) as Fields;
  if (aspectRatio !== undefined && !RATIOS.includes(text(aspectRatio)))
    throw new Refused(invalid('aspect_ratio must be one of the supported values'));
  if (number(config.candidateCount, 1) !== 1)
    throw new Refused(invalid('Multiple candidates is not enabled for this model'));
  const prompt = parts.map((part) => part.text ?? '').join('');
  return {
    model,
    prompt,
    count: 1,
    ...sizeOfRatio(text(aspectRatio) || '1:1'),
    format: 'png',
    seed: number(config.seed, 42),
    input: body,
  };
}

async function answer({ jobs }: House, job: Job, { body, signal }: Call): Promise<Answer> {
  await jobs.finish(job, signal);
  if (job.fate.has('failed_opaque'))
    return error(500, 'INTERNAL', 'An internal error has occurred. Please retry or report.');
  const { responseModalities } = (body.generationConfig ?? {}) as { readonly responseModalities?: readonly string[] };
  const [work] = responseModalities?.includes('IMAGE') ? await worksOf(job) : [];
  const told = { usageMetadata, modelVersion: job.order.model, responseId: job.id };
  const candidate = (finishReason: 'STOP', parts: NonNullable<Content['parts']>) =>
    json(200, {
      candidates: [{ content: { parts, role: 'model' }, finishReason, index: 0 }],
      ...told,
    } satisfies Response);
  if (work && !work.safe)
    return json(200, {
      candidates: [{ finishReason: 'IMAGE_SAFETY', finishMessage: 'Unable to show the generated image.', index: 0 }],
      ...told,
    } satisfies Response);
  if (!work) return candidate('STOP', [{ text: 'I can describe that picture, but I cannot draw it.' }]);
  return { ...candidate('STOP', [{ inlineData: { mimeType: work.file.mime, data: base64(work) } }]), carries: true };
}

// Gemini's picture models through generateContent: one picture per call, inside the answer. A refusal is a 200 as often as
// an error, and "quota" is said of an empty account and of a busy minute alike; refusals.ts tells them apart.

import { z } from 'zod';
import { readReply, told } from '../hosted/answered.ts';
import { leftOut, nearestRatio, notThatShape, type Size, sizeOf } from '../hosted/asked.ts';
import type { Outcome, Picture, Provider } from '../hosted/provider.ts';
import { refusedBy } from './refusals.ts';

const RATIOS = ['1:1', '2:3', '3:2', '3:4', '4:3', '4:5', '5:4', '9:16', '16:9', '21:9'];
/** The second generation makes about a megapixel, whatever is asked. */
const ONE_SIZE = /^(models\/)?gemini-2/;
/** From how many pixels on the next class is the nearer one; the classes are about 1, 4 and 16 million. */
const CLASSES = [
  [8_000_000, '4K'],
  [2_000_000, '2K'],
] as const;
const SEED_LIMIT = 2 ** 31;

/** A made picture that was kept back, in the words of `finishReason`. */
const WITHHELD =
  /^(SAFETY|IMAGE_SAFETY|IMAGE_PROHIBITED_CONTENT|PROHIBITED_CONTENT|IMAGE_RECITATION|RECITATION|BLOCKLIST|SPII)$/;

const Part = z.object({
  inlineData: z.object({ mimeType: z.string(), data: z.string() }).optional(),
  thought: z.boolean().optional(),
});
const Answer = z.object({
  promptFeedback: z.object({ blockReason: z.string().optional() }).optional(),
  candidates: z
    .array(
      z.object({
        finishReason: z.string().optional(),
        content: z.object({ parts: z.array(Part).optional() }).optional(),
      }),
    )
    .optional(),
});

/** An account at Google's Gemini API. */
export const gemini: Provider = {
  kind: 'gemini',
  makes: ['image'],
  baseUrl: 'https://generativelanguage.googleapis.com',
  fileHosts: [],
  answerMs: 5 * 60_000,
  pollMs: [1_000, 5_000],
  headers: (token) => ({ 'x-goog-api-key': token }),
  most: () => 1,
  takes: () => ['prompt', 'init_image'],
  submit(order) {
    const { params, remote, initImage } = order;
    const size = sizeOf(params);
    const shape = size === null ? null : nearestRatio(size, RATIOS);
    const imageConfig = size === null || shape === null ? {} : { aspectRatio: shape.ratio, ...sizeClass(remote, size) };
    return {
      call: {
        method: 'POST',
        path: `/v1beta/models/${encodeURIComponent(remote.replace(/^models\//, ''))}:generateContent`,
        json: {
          contents: [{ role: 'user', parts: [...(initImage ? [inline(initImage)] : []), { text: params.prompt }] }],
          generationConfig: { responseModalities: ['IMAGE'], seed: order.seed % SEED_LIMIT, imageConfig },
        },
      },
      warnings: [
        ...(size === null || shape === null || shape.exact ? [] : [notThatShape(size, shape.ratio)]),
        ...leftOut(params, ['negativePrompt', 'steps', 'guidance', 'sampler', 'scheduler', 'strength']),
      ],
    };
  },
  begun: (reply) => ({ outcome: outcomeOf(readReply(Answer, reply)) }),
  refused: refusedBy,
};

const inline = ({ bytes, mediaType }: Picture) => ({
  inlineData: { mimeType: mediaType, data: bytes.toString('base64') },
});

function sizeClass(remote: string, { width, height }: Size): { readonly imageSize?: string } {
  if (ONE_SIZE.test(remote)) return {};
  const [, imageSize] = CLASSES.find(([from]) => width * height >= from) ?? [0, '1K'];
  return { imageSize };
}

function outcomeOf({ promptFeedback, candidates = [] }: z.infer<typeof Answer>): Outcome {
  const results = candidates
    .flatMap(({ content }) => content?.parts ?? [])
    .flatMap(({ inlineData, thought }) => (inlineData && !thought ? [{ base64: inlineData.data }] : []));
  if (results.length > 0) return { state: 'done', results };
  if (promptFeedback?.blockReason) return { state: 'failed', failure: told('policy_block') };
  const withheld = candidates.filter(({ finishReason }) => WITHHELD.test(finishReason ?? '')).length;
  return { state: 'done', results: [], withheld };
}

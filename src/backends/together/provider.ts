// Together's images: OpenAI's shape with what diffusion models need, and the answer is the result. Pictures are asked for
// inside it, since what is paid then is in hand without a second request.

import { z } from 'zod';
import type { Params } from '../../domain/params.ts';
import { readReply, told } from '../hosted/answered.ts';
import { dataUrl, leftOut, notThatShape, seedsBeyond, sizeOf } from '../hosted/asked.ts';
import { OpenAiPicture, refusedAtOnce, resultOf } from '../hosted/at-once.ts';
import type { Order, Provider } from '../hosted/provider.ts';

/** Where models differ in what an input picture is called. All others take none, and would not say so. */
const EDITS = /kontext/i;
const REFERS = /FLUX\.2|flash-image|gemini-3|seedream|qwen-image-edit/i;
const GRID = 16;
const SIDES = [64, 1792] as const;

const word = z.string().nullish().catch(null);
const Refused = z.object({ error: z.object({ code: word, type: word, param: word }) });
const Answer = z.object({
  data: z.array(OpenAiPicture),
});

/** An account at Together AI. */
export const together: Provider = {
  kind: 'together',
  makes: ['image'],
  baseUrl: 'https://api.together.ai/v1',
  fileHosts: ['together.ai', 'together.xyz'],
  answerMs: 5 * 60_000,
  pollMs: [1_000, 5_000],
  headers: (token) => ({ authorization: `Bearer ${token}` }),
  most: () => 4,
  takes: (remote) => (EDITS.test(remote) || REFERS.test(remote) ? ['prompt', 'init_image'] : ['prompt']),
  submit(order) {
    const { params, remote } = order;
    const { size, warnings } = spellSize(params);
    return {
      call: {
        method: 'POST',
        path: '/images/generations',
        json: {
          model: remote,
          prompt: params.prompt,
          n: order.n,
          seed: order.seed,
          ...size,
          ...(params.steps === null ? {} : { steps: params.steps }),
          ...(params.guidance === null ? {} : { guidance_scale: params.guidance }),
          ...(params.negativePrompt ? { negative_prompt: params.negativePrompt } : {}),
          ...pictureOf(order),
          response_format: 'base64',
          output_format: 'png',
        },
      },
      warnings: [...warnings, ...seedsBeyond(order.n), ...leftOut(params, ['sampler', 'scheduler', 'strength'])],
    };
  },
  begun: (reply) => ({ outcome: { state: 'done', results: readReply(Answer, reply).data.flatMap(resultOf) } }),
  refused(reply) {
    const { data } = Refused.safeParse(reply.body);
    const { code, type, param } = data?.error ?? {};
    if (type === 'credit_limit') return told('provider_balance');
    if (code === 'nsfw_content_detected') return told(param === 'prompt' ? 'policy_block' : 'safety_filter');
    if (code === 'model_not_available') return told('model_gone');
    return refusedAtOnce(reply);
  },
};

function pictureOf({ remote, initImage }: Order): { image_url?: string; reference_images?: string[] } {
  if (initImage === null) return {};
  return EDITS.test(remote) ? { image_url: dataUrl(initImage) } : { reference_images: [dataUrl(initImage)] };
}

function spellSize(params: Params) {
  const asked = sizeOf(params);
  if (asked === null) return { size: {}, warnings: [] };
  const [least, most] = SIDES;
  const onGrid = (side: number) => Math.min(most, Math.max(least, Math.round(side / GRID) * GRID));
  const size = { width: onGrid(asked.width), height: onGrid(asked.height) };
  const same = size.width === asked.width && size.height === asked.height;
  return { size, warnings: same ? [] : [notThatShape(asked, `${size.width}x${size.height}`)] };
}

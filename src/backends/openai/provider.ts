// OpenAI's images, and every server that speaks the same (LocalAI, vLLM, stable-diffusion.cpp): JSON to make a picture,
// multipart to change one, and the answer is the result. Which of both it is shows in the model's name: OpenAI refuses a
// parameter it does not know, the others take the ones that diffusion models have.

import { z } from 'zod';
import { readReply, told } from '../hosted/answered.ts';
import { leftOut, seedsBeyond } from '../hosted/asked.ts';
import { inputsOf, OpenAiPicture, refusedAtOnce, resultOf } from '../hosted/at-once.ts';
import type { Order, Provider } from '../hosted/provider.ts';
import { editForm } from './edit.ts';
import { spellSize } from './size.ts';

/** OpenAI's own models. */
const OWN = /^(chat)?gpt-image/i;

/** Known to neither. */
const FOREIGN = ['sampler', 'scheduler', 'strength'] as const;
/** OpenAI's own settings that a catalog entry may have defaults for. */
const INPUTS = ['quality', 'background', 'moderation'];
/** The form of a change has no `moderation`. */
const CHANGE_INPUTS = ['quality', 'background'];
const NO_SEED = 'The provider does not take seed; it was left out, and the same request brings another picture.';

const word = z.union([z.string(), z.number()]).nullish().catch(null);
const Refused = z.object({
  error: z.object({
    code: word,
    type: word,
    moderation_details: z.object({ moderation_stage: z.string().nullish() }).nullish().catch(null),
  }),
});
const Answer = z.object({
  data: z.array(OpenAiPicture),
});

/** Said of the account, whatever it asks for. */
const NO_ENTRY = new Set<unknown>(['invalid_api_key', 'unsupported_country_region_territory']);
const NO_MONEY = new Set<unknown>(['insufficient_quota', 'billing_hard_limit_reached', 'billing_not_active']);

/** An account at OpenAI, or a server that imitates it (by `base_url`). */
export const openai: Provider = {
  kind: 'openai',
  makes: ['image'],
  baseUrl: 'https://api.openai.com/v1',
  fileHosts: [],
  answerMs: 15 * 60_000,
  pollMs: [1_000, 5_000],
  headers: (token): Record<string, string> => (token === '' ? {} : { authorization: `Bearer ${token}` }),
  most: () => 8,
  takes: () => ['prompt', 'init_image', 'mask'],
  async submit(order) {
    const { params, remote, initImage, mask } = order;
    const own = OWN.test(remote);
    const { size, warnings } = spellSize(remote, params, own);
    const inputs = initImage === null ? INPUTS : CHANGE_INPUTS;
    const fields = {
      model: remote,
      prompt: params.prompt,
      n: order.n,
      ...(size === null ? {} : { size }),
      output_format: 'png',
      ...(own ? inputsOf(order, inputs) : diffusion(order)),
    };
    const ignored = own
      ? [...leftOut(params, ['negativePrompt', 'steps', 'guidance', ...FOREIGN], inputs), NO_SEED]
      : [...seedsBeyond(order.n), ...leftOut(params, FOREIGN)];
    return {
      call:
        initImage === null
          ? { method: 'POST', path: '/images/generations', json: fields }
          : { method: 'POST', path: '/images/edits', form: await editForm(fields, initImage, mask) },
      warnings: [...warnings, ...ignored],
    };
  },
  begun: (reply) => ({ outcome: { state: 'done', results: readReply(Answer, reply).data.flatMap(resultOf) } }),
  refused(reply) {
    const { data } = Refused.safeParse(reply.body);
    const { code, type, moderation_details: moderation } = data?.error ?? {};
    if (NO_MONEY.has(code) || NO_MONEY.has(type)) return told('provider_balance');
    if (NO_ENTRY.has(code)) return told('provider_auth');
    if (code === 'moderation_blocked')
      return told(moderation?.moderation_stage === 'input' ? 'policy_block' : 'safety_filter');
    if (code === 'content_policy_violation') return told('policy_block');
    if (code === 'model_not_found') return told('model_gone');
    return refusedAtOnce(reply, 'key');
  },
};

/** The names that vLLM, LocalAI and stable-diffusion.cpp have for the same; each ignores the others'. */
const diffusion = ({ params, seed }: Order) => ({
  response_format: 'b64_json',
  seed,
  ...(params.negativePrompt ? { negative_prompt: params.negativePrompt } : {}),
  ...(params.steps === null ? {} : { num_inference_steps: params.steps, step: params.steps, steps: params.steps }),
  ...(params.guidance === null ? {} : { guidance_scale: params.guidance }),
});

// Ideogram, API v2: every model has its own path, and a job is begun with `async` so that it has an id to ask about. A
// picture without a link was made, withheld and billed. Nothing can be cancelled there.

import { z } from 'zod';
import { MODERATED, mustBeAbout, readReply, refusedPoll, refusedSubmit, told } from '../hosted/answered.ts';
import { leftOut, notThatShape, sizeOf } from '../hosted/asked.ts';
import { blobOf, endingOf } from '../hosted/at-once.ts';
import type { Order, Outcome, Provider, Reply } from '../hosted/provider.ts';
import { blackMask, takenPicture } from './pictures.ts';
import { type Family, familyOf, spellSize } from './sizes.ts';

const MAX_IMAGES = 8;
/** Seeds beyond it are folded: the same seed still asks for the same picture. */
const SEEDS = 2 ** 31;

const Begun = z.object({ generation_id: z.string().regex(/^[\w-]{1,100}$/) });
const Item = z.object({
  url: z.string().nullish(),
  is_image_safe: z.boolean().nullish(),
  seed: z.int().nonnegative().nullish().catch(null),
});
const State = z.object({
  generation_id: z.string(),
  status: z.string(),
  failure_reason: z.string().nullish(),
  data: z.array(Item).nullish(),
});
const Trouble = z.object({ error: z.string().optional(), reject_reason: z.string().nullish() });

export const ideogram: Provider = {
  kind: 'ideogram',
  makes: ['image'],
  baseUrl: 'https://api.ideogram.ai',
  fileHosts: ['ideogram.ai'],
  answerMs: 60_000,
  pollMs: [1000, 5000],
  headers: (token) => ({ 'api-key': token }),
  most: () => MAX_IMAGES,

  takes(remote) {
    const { fromPicture, fromMask } = familyOf(remote);
    return [
      'prompt',
      ...(fromPicture === null ? [] : (['init_image'] as const)),
      ...(fromMask === null ? [] : (['mask'] as const)),
    ];
  },

  async submit(order) {
    const family = familyOf(order.remote);
    const { action, ignored } = actionOf(order, family);
    const fields: Record<string, string | number | boolean> = {
      prompt: order.params.prompt,
      num_images: order.n,
      seed: order.seed % SEEDS,
      async: true,
    };
    const warnings = leftOut(order.params, ['steps', 'guidance', 'sampler', 'scheduler', ...ignored]);
    const { negativePrompt, strength } = order.params;
    if (negativePrompt && !ignored.includes('negativePrompt')) fields.negative_prompt = negativePrompt;
    if (action === 'remix' && strength !== null) fields.image_weight = weightOf(strength);
    const size = sizeOf(order.params);
    if (size !== null && (action === 'generate' || action === 'remix')) {
      const spelled = spellSize(size, family);
      Object.assign(fields, spelled.fields);
      if (spelled.made !== null) warnings.push(notThatShape(size, spelled.made));
    }
    const path = `/v2/image/${action}/${encodeURIComponent(order.remote)}`;
    const body = order.initImage === null ? { json: fields } : { form: await formOf(fields, order) };
    return { call: { method: 'POST', path, ...body }, warnings };
  },

  begun: (reply) => ({ reference: { id: readReply(Begun, reply).generation_id } }),
  poll: ({ id }) => ({ method: 'GET', path: `/v2/generations/${encodeURIComponent(String(id))}` }),

  polled(reply, reference): Outcome {
    const state = readReply(State, reply);
    mustBeAbout(state.generation_id, reference.id);
    if (state.status === 'failed')
      return {
        state: 'failed',
        failure: told(MODERATED.test(state.failure_reason ?? '') ? 'safety_filter' : 'model_error'),
      };
    if (state.status !== 'completed') return { state: 'running' };
    const items = state.data ?? [];
    const results = items.flatMap(({ url, is_image_safe, seed }, place) =>
      url && is_image_safe !== false ? [{ url, place, ...(seed == null ? {} : { seed }) }] : [],
    );
    return { state: 'done', results, withheld: items.length - results.length };
  },

  refused: (reply, stage) => (stage === 'poll' ? refusedPoll(reply) : (moderated(reply) ?? refusedSubmit(reply))),
};

type Action = 'generate' | 'remix' | 'inpaint' | 'precise-edit';

/** Which of the model's paths serves the order, and what that path takes no notice of. */
function actionOf(
  { initImage, mask }: Order,
  family: Family,
): { readonly action: Action; readonly ignored: readonly ('negativePrompt' | 'strength')[] } {
  const plain: readonly 'negativePrompt'[] = family.negative ? [] : ['negativePrompt'];
  const action = mask === null ? family.fromPicture : family.fromMask;
  if (initImage === null || action === null) return { action: 'generate', ignored: plain };
  return { action, ignored: action === 'remix' ? plain : ['negativePrompt', 'strength'] };
}

/** 100 stays closest to the picture. */
const weightOf = (strength: number): number => Math.min(100, Math.max(1, Math.round((1 - strength) * 100)));

async function formOf(fields: Readonly<Record<string, unknown>>, { initImage, mask }: Order): Promise<FormData> {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  if (initImage === null) return form;
  const image = await takenPicture(initImage);
  form.append('image', blobOf(image), `image.${endingOf(image.mediaType)}`);
  if (mask !== null)
    form.append('mask', blobOf({ bytes: await blackMask(mask, image.bytes), mediaType: 'image/png' }), 'mask.png');
  return form;
}

/** 422 is the prompt or the picture, unless it says that it is not. */
function moderated(reply: Reply) {
  if (reply.status !== 422) return null;
  const { data } = Trouble.safeParse(reply.body);
  return MODERATED.test(data?.error ?? '') ? told('policy_block') : null;
}

// Stability's v2beta: one form and one picture per call, inside the answer. Which service draws it is part of the path:
// core, ultra, the SD3 family (named in the form), and the inpainting service, which is a model of its own.

import { z } from 'zod';
import { readReply, told } from '../hosted/answered.ts';
import { brought, leftOut, nearestRatio, notThatShape, sizeOf, within } from '../hosted/asked.ts';
import { blobOf, endingOf, inputsOf, refusedAtOnce } from '../hosted/at-once.ts';
import type { Order, Provider } from '../hosted/provider.ts';

const RATIOS = ['21:9', '16:9', '3:2', '5:4', '1:1', '4:5', '2:3', '9:16', '9:21'];
/** 0 means "any" there. */
const LARGEST_SEED = 4_294_967_294;
const USUAL_STRENGTH = 0.6;
const GUIDANCE = { least: 1, most: 10 } as const;
/** What is wrong with the prompt or the input picture itself. */
const STOPPED = ['content_moderation', 'public_figure'];
const INPUTS = ['style_preset'];

const Answer = z.object({ image: z.string().optional(), finish_reason: z.string() });
const Refused = z.object({ name: z.string() });

type Fields = Readonly<Record<string, string | number | boolean | Blob>>;
interface Asked {
  readonly path: string;
  readonly fields: Fields;
  readonly ignored: readonly ('guidance' | 'strength')[];
  readonly warnings: readonly string[];
}

/** An account at Stability AI. `remote`: core, ultra, sd3, sd3.5-large and its kin. */
export const stability: Provider = {
  kind: 'stability',
  makes: ['image'],
  baseUrl: 'https://api.stability.ai',
  fileHosts: [],
  answerMs: 5 * 60_000,
  pollMs: [1_000, 5_000],
  headers: (token) => ({ authorization: `Bearer ${token}` }),
  most: () => 1,
  takes(remote) {
    if (remote === 'inpaint') return ['mask'];
    return remote === 'core' ? ['prompt', 'mask'] : ['prompt', 'init_image', 'mask'];
  },
  submit(order) {
    const { params } = order;
    const { path, fields, ignored, warnings } = order.mask === null ? generation(order) : inpainting(order);
    const all: Fields = {
      prompt: params.prompt,
      ...(params.negativePrompt ? { negative_prompt: params.negativePrompt } : {}),
      seed: order.seed % (LARGEST_SEED + 1) || LARGEST_SEED,
      output_format: 'png',
      ...inputsOf(order, INPUTS),
      ...fields,
    };
    return {
      call: { method: 'POST', path: `/v2beta/stable-image/${path}`, form: formOf(all) },
      warnings: [...warnings, ...leftOut(params, ['steps', 'sampler', 'scheduler', ...ignored], INPUTS)],
    };
  },
  begun(reply) {
    const { finish_reason, image } = readReply(Answer, reply);
    if (finish_reason === 'CONTENT_FILTERED') return { outcome: { state: 'done', results: [], withheld: 1 } };
    return { outcome: { state: 'done', results: image ? [{ base64: image }] : [] } };
  },
  refused(reply) {
    const { data } = Refused.safeParse(reply.body);
    if (data !== undefined && STOPPED.includes(data.name)) return told('policy_block');
    return data?.name === 'payment_required' ? told('provider_balance') : refusedAtOnce(reply);
  },
};

function generation({ remote, params, initImage }: Order): Asked {
  const sd3 = remote.startsWith('sd3');
  const guidance = sd3 && params.guidance !== null ? within(params.guidance, GUIDANCE) : null;
  const size = sizeOf(params);
  const shape = size === null || initImage !== null ? null : nearestRatio(size, RATIOS);
  return {
    path: `generate/${sd3 ? 'sd3' : encodeURIComponent(remote)}`,
    fields: {
      ...(sd3 && remote !== 'sd3' ? { model: remote } : {}),
      ...(guidance === null ? {} : { cfg_scale: guidance }),
      ...(sd3 && initImage !== null ? { mode: 'image-to-image' } : {}),
      ...(initImage === null ? {} : { image: blobOf(initImage), strength: params.strength ?? USUAL_STRENGTH }),
      ...(shape === null ? {} : { aspect_ratio: shape.ratio }),
    },
    ignored: sd3 ? [] : ['guidance'],
    warnings: [
      ...(size === null || shape === null || shape.exact ? [] : [notThatShape(size, shape.ratio)]),
      ...brought('guidance', params.guidance, guidance),
    ],
  };
}

/** White is painted anew there as here. */
function inpainting({ remote, initImage, mask }: Order): Asked {
  return {
    path: 'edit/inpaint',
    fields: { ...(initImage && { image: blobOf(initImage) }), ...(mask && { mask: blobOf(mask) }) },
    ignored: ['guidance', 'strength'],
    warnings: remote === 'inpaint' ? [] : ['Masks are painted by the inpainting service of the provider.'],
  };
}

function formOf(fields: Fields): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, `${name}.${endingOf(value.type)}`);
    else form.append(name, String(value));
  }
  return form;
}

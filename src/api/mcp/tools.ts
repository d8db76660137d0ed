// The six tools as agents see them: when to use which, in the first words, because hosts search and cut descriptions. The
// whole table stays under 6 kB: it is read by a model before anything is asked.

import type { Tool } from '@modelcontextprotocol/server';
import type { z } from 'zod';
import { Cancel, Generate, Get, List, Models, Nothing, shown } from './arguments.ts';

export const INSTRUCTIONS = `Darkroom makes images (video and audio too) on the studio's own GPUs and at hosted providers. \
generate_image answers at once with a job id; poll get_generation with it, wait: true holds up to 50 s. Still running is no \
error: never submit again, poll the id. list_recent_generations finds lost ids. On failed, timeout or cancelled do what \
error.advice says. Choose with list_models; credits are told with every submit.`;

const WAIT = 'seconds (≤50) or true: hold until final';

/** Name → what it takes; the order is the one agents see. */
export const ARGUMENTS = {
  generate_image: Generate,
  get_generation: Get,
  list_recent_generations: List,
  get_credits: Nothing,
  list_models: Models,
  cancel_generation: Cancel,
} as const satisfies Record<string, z.ZodObject>;
export type ToolName = keyof typeof ARGUMENTS;

const READS = { readOnlyHint: true } as const;

const SHOWN: Record<ToolName, Omit<Tool, 'name'>> = {
  generate_image: {
    title: 'Generate image',
    description:
      'Generate an image from a text prompt: text-to-image, image-to-image, inpainting, upscaling, or video and audio, as the model can. Answers at once with id, estimate and credits; poll get_generation, or set wait to hold for the finished picture. Still running after wait is no error: poll the id, do not submit again. Set idempotency_key where you may retry: never charged twice.',
    inputSchema: shown(Generate, {
      model: 'id from list_models',
      softened_prompt: 'used once if prompt is refused',
      width: 'pixels',
      size: '"1024x1024", instead of width and height',
      aspect_ratio: '"16:9", instead of size',
      seed: 'repeats a picture; drawn if absent',
      guidance: 'how closely to follow the prompt',
      n: 'outputs',
      loras: 'LoRA files and weights',
      init_image: 'picture to start from: upl_… id, gen_… id or gen_…/0, https: or data: URL',
      mask: 'what of init_image to repaint, in white; as init_image',
      strength: '0 keeps init_image, 1 ignores it',
      inputs: 'values for slots of a workflow model',
      output: 'conversion of the file',
      metadata: 'your audit trail (ticket, shot): returned and filterable',
      idempotency_key: 'same key and request = same job, 24 h',
      wait: WAIT,
      fallback: 'may an equivalent model stand in',
      batch_id: 'groups jobs',
      webhook_url: 'called when final',
      max_credits: 'refuse if dearer',
      from: 'gen_… whose prompt, seed, size and metadata to reuse; what you give overrides',
    }),
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  },
  get_generation: {
    title: 'Get generation',
    description:
      'Get a generation by id: status, progress, image url, credits charged, or why it failed and what to do. Poll with it after generate_image; wait holds until it is final. preview: true shows you the finished picture itself, small.',
    inputSchema: shown(Get, { id: 'gen_…', wait: WAIT, preview: 'see the picture' }),
    annotations: READS,
  },
  list_recent_generations: {
    title: 'List recent generations',
    description:
      'List recent generations, newest first: find lost ids, or what has a status, model, batch or metadata. Compact rows; next_cursor as cursor gives more.',
    inputSchema: shown(List, {
      status: 'queued, running, succeeded, failed, timeout, cancelled; several with commas',
      since: 'RFC 3339 time',
      metadata: 'all must match',
    }),
    annotations: READS,
  },
  get_credits: {
    title: 'Get credits',
    description: 'Get the credit balance: what is left to spend. generate_image tells it too, as credits_available.',
    inputSchema: shown(Nothing, {}),
    annotations: READS,
  },
  list_models: {
    title: 'List models',
    description:
      'List the image, video and audio models: best use, price in credits per output, limits, usable now or why not. Use it to choose a model.',
    inputSchema: shown(Models, { filter: 'words, like "flux" or "upscale"' }),
    annotations: READS,
  },
  cancel_generation: {
    title: 'Cancel generation',
    description: 'Cancel a queued or running generation; nothing is charged. A finished one comes back unchanged.',
    inputSchema: shown(Cancel, { id: 'gen_…' }),
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true },
  },
};

export const TOOLS: readonly Tool[] = Object.entries(SHOWN).map(([name, tool]) => ({ name, ...tool }));

export const isTool = (name: string): name is ToolName => Object.hasOwn(ARGUMENTS, name);

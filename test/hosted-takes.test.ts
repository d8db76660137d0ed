// The whole house where a request brings what an account's model does not take: it waits for the box that takes it, is never
// asked for elsewhere, and is refused at the door where no box ever could.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { GenerationBody } from '../src/contract/generations.ts';
import type { Darkroom } from '../src/main.ts';
import { type ComfyUiDouble, startComfyUi } from './doubles/comfyui/server.ts';
import { type HostedDouble, startHosted } from './doubles/hosted/hosted.ts';
import { callerAt } from './harness/caller.ts';
import { until } from './harness/manual-clock.ts';
import { accountsAt, type Studio, studio } from './harness/studio.ts';
import { fastClock, realSystem } from './harness/system.ts';

const KEY = 'dk_hosted';
const model = (id: string, routes: string, more = '') =>
  `  ${id}: {name: ${id}, kind: image, best_for: Tests., capabilities: [text-to-image, image-to-image, inpainting, lora, seed], price: 1, limits: {max_pixels: 4194304, multiple_of: 32, max_n: 4}, defaults: {width: 512, height: 512, strength: 0.5}, estimate_seconds: 1, ${more}routes: [${routes}]}\n`;
const SCHNELL = '{backend: fal, remote: fal-ai/flux/schnell}';
const DEV = '{backend: fal, remote: fal-ai/flux/dev}';
const INPAINTING = '{backend: fal, remote: fal-ai/fast-sdxl/inpainting}';
const BOX = '{backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}';
const MODELS = `models:\n${[
  model('both', `${BOX}, ${SCHNELL}`),
  model('hosted', `${SCHNELL}, ${DEV}`),
  model('plain', SCHNELL),
  model('stands-in', SCHNELL, 'fallback: [both], '),
  model('inpainting', INPAINTING),
].join('')}`;
const PNG =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const INK = { loras: [{ name: 'ink', strength: 1 }] };
const PICTURE = { init_image: PNG };
const MASKED = { init_image: PNG, mask: PNG };

let house: Studio;
let box: ComfyUiDouble;
let fal: HostedDouble;
let darkroom: Darkroom;

beforeEach(async () => {
  const clock = fastClock(10);
  box = await startComfyUi({ renderMs: 10, installed: { checkpoints: ['sdxl.safetensors'], loras: ['ink'] } });
  fal = await startHosted('fal', { clock });
  const nodes = `nodes:\n  - {id: rack-1, kind: comfyui, url: "${box.url}"}\n`;
  house = await studio(KEY, MODELS, `default_model: both\n${nodes}${accountsAt([['fal', fal]])}`);
  darkroom = await house.open(realSystem(clock));
  await until(() => darkroom.gateway.nodes().every((n) => n.status === 'online'), 'everybody online');
});
afterEach(async () => {
  await darkroom.stop();
  await box.stop();
  await fal.close();
  await house[Symbol.asyncDispose]();
});

const { get, post, submit, ended } = callerAt(() => darkroom.url, KEY);
const asked = (request: object) => ({ prompt: 'a red bicycle', fallback: 'none', ...request });
const boxDown = async () => {
  await box.crash();
  await until(() => darkroom.gateway.nodes().some((n) => n.status === 'offline'), 'the box to be missed');
};

describe('what an account does not take', () => {
  it.each([
    ['LoRAs', INK],
    ['an init_image', PICTURE],
    ['a mask', MASKED],
  ])('waits for the box that is down, and is made there (%s)', async (_, brought) => {
    await boxDown();
    const id = await submit(asked({ model: 'both', ...brought }));
    const plain = await submit(asked({ model: 'both' }));
    expect((await ended(plain)).attempts.map(({ node }) => node)).toEqual(['fal']);
    const waiting = await get<GenerationBody>(`/v1/generations/${id}`);
    expect(waiting).toMatchObject({ status: 'queued', queue_reason: 'no_node_online', attempts: [] });
    await box.restartEmpty();
    expect((await ended(id)).attempts).toMatchObject([{ node: 'rack-1', outcome: 'succeeded' }]);
    expect(fal.paid).toHaveLength(1);
  });

  it.each([
    ['hosted', INK, 'loras', 'takes no LoRAs'],
    ['plain', PICTURE, 'init_image', 'takes no init_image for this model'],
    ['hosted', MASKED, 'mask', 'takes no mask for this model'],
    ['inpainting', {}, 'init_image', 'needs a mask for this model'],
  ])('is refused at the door where only accounts could ever serve (%s %o)', async (id, brought, path, why) => {
    const answer = await post('/v1/generations', asked({ model: id, ...brought }));
    const { error } = (await answer.json()) as { error: { code: string; message: string; details: unknown } };
    expect([answer.status, error.code]).toEqual([422, 'unsupported_input']);
    expect(error.message).toBe(`${id} cannot be made like this here: fal ${why}.`);
    expect(error.details).toEqual([expect.objectContaining({ path })]);
    expect(fal.log).toEqual([]);
  });

  it('is made by the route that takes it', async () => {
    const g = await ended(await submit(asked({ model: 'hosted', ...PICTURE })));
    expect(g.status).toBe('succeeded');
    expect(fal.paid).toHaveLength(1);
  });

  it('is made by the equivalent that takes it, where one may stand in', async () => {
    const g = await ended(await submit({ prompt: 'a red bicycle', model: 'stands-in', ...INK }));
    expect(g).toMatchObject({ status: 'succeeded', model: 'both', requested_model: 'stands-in' });
    expect(fal.paid).toEqual([]);
  });

  it('makes no route look unusable', async () => {
    const { data } = await get<{ data: { id: string; usable: boolean; why_not: string | null }[] }>('/v1/models');
    expect(data.map(({ usable, why_not }) => [usable, why_not])).toEqual(data.map(() => [true, null]));
    expect(data).toHaveLength(5);
  });
});

// The providers without a client of their own: what their published documents say, where the stand-ins or the adapters had
// it otherwise. They were compared by hand; the documents are not kept here.

import { describe, expect, it } from 'vitest';
import { stability } from '../../../src/backends/stability/provider.ts';
import { openAccount } from '../../backends/hosted-account.ts';
import { at, caller, form, type Json, PROMPT } from './caller.ts';
import { type HostedKind, startHosted } from './hosted.ts';

const IMAGE = new Blob([new Uint8Array(8)], { type: 'image/png' });
const WITHOUT_CLIENT = ['bfl', 'ideogram', 'stability'] as const satisfies readonly HostedKind[];
type Kind = (typeof WITHOUT_CLIENT)[number];

/** The status of a POST, and what the stand-in began with it. */
async function posted(kind: Kind, path: string, body: Json | FormData) {
  await using double = await startHosted(kind);
  const { ask, post } = caller(kind, double);
  const reply = body instanceof FormData ? await ask(path, { method: 'POST', body }) : await post(path, body);
  return { reply, order: double.jobs[0]?.order };
}

describe('Black Forest Labs', () => {
  it.each([
    ['flux-2-flex', { prompt: PROMPT, guidance: 11 }, 'guidance'],
    ['flux-2-flex', { prompt: PROMPT, steps: 0 }, 'steps'],
    ['flux-2-pro', { prompt: PROMPT, safety_tolerance: 6 }, 'safety_tolerance'],
    ['flux-2-pro', {}, 'prompt'],
    ['flux-kontext-pro', {}, 'prompt'],
    ['flux-pro-1.0-fill', { prompt: PROMPT }, 'image'],
    ['flux-pro-1.0-expand', { image: 'aGk=', steps: 10 }, 'steps'],
    ['flux-pro-1.1-ultra', { image_prompt_strength: 2 }, 'image_prompt_strength'],
  ])('%s refuses %j', async (model, body, field) => {
    const { reply } = await posted('bfl', `/v1/${model}`, body);
    expect([reply.status, at(reply.body, 'detail', 0, 'loc')]).toEqual([422, ['body', field]]);
  });

  it.each([
    ['flux-kontext-pro', 'png', 4 / 3],
    ['flux-pro-1.1-ultra', 'jpeg', 16 / 9],
    ['flux-pro-1.1', 'jpeg', 4 / 3],
  ])('%s makes its own format and shape when nothing is asked', async (model, format, ratio) => {
    const { order } = await posted('bfl', `/v1/${model}`, { prompt: PROMPT });
    expect(order).toMatchObject({ format });
    expect((order?.width ?? 0) / (order?.height ?? 1)).toBeCloseTo(ratio, 1);
  });
});

describe('Ideogram', () => {
  it('takes 3.0 as JSON too, in the ratios it lists', async () => {
    const path = '/v1/ideogram-v3/generate';
    expect((await posted('ideogram', path, { prompt: PROMPT, aspect_ratio: '16x10' })).reply.status).toBe(200);
    expect((await posted('ideogram', path, { prompt: PROMPT, aspect_ratio: '7x3' })).reply.status).toBe(400);
    expect((await posted('ideogram', '/v1/ideogram-v3/remix', { prompt: PROMPT })).reply.status).toBe(400);
  });

  it.each(['V_3', 'AUTO', 'V_2A_TURBO'])('knows %s on its oldest route', async (model) => {
    const { reply } = await posted('ideogram', '/generate', { image_request: { prompt: PROMPT, model } });
    expect(reply.status).toBe(200);
  });
});

describe('Stability', () => {
  const sd3 = '/v2beta/stable-image/generate/sd3';

  it.each([
    [{ cfg_scale: 12 }, /cfg_scale/],
    [{ cfg_scale: 0.5 }, /cfg_scale/],
    [{ mode: 'image-to-image', image: IMAGE, strength: 1.5 }, /strength/],
    [{ model: 'sd4' }, /model/],
  ])('refuses %j', async (change, words) => {
    const { reply } = await posted('stability', sd3, form({ prompt: PROMPT, ...change }));
    expect([reply.status, reply.body.name]).toEqual([400, 'bad_request']);
    expect(reply.text).toMatch(words);
  });

  it('stops a public figure as it stops what its moderation finds', () => {
    const body = { id: '1', name: 'public_figure', errors: ['Our system detected the likeness of a public figure.'] };
    const reply = { status: 422, body, header: () => null };
    expect(stability.refused(reply, 'submit')).toMatchObject({ code: 'policy_block' });
  });

  it.each([
    [12, '10'],
    [0, '1'],
  ])('is asked for the guidance it takes, where %s was wished for', async (guidance, sent) => {
    const stage = await openAccount(stability, 'sd3.5-large');
    const { failure, warnings } = await stage.run(stage.job({ guidance }));
    expect(failure).toBeNull();
    expect(stage.body()).toMatchObject({ cfg_scale: sent });
    expect(warnings).toContain(`The provider does not take guidance ${guidance}; it was asked for ${sent}.`);
  });
});

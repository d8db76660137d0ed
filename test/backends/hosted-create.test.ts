// Answers to a create that are neither a job nor a plain refusal: what leaves open whether it was taken is never sent again,
// what nobody can have taken goes elsewhere, and the operator is told what answered.

import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { fal } from '../../src/backends/fal/provider.ts';
import { ideogram } from '../../src/backends/ideogram/provider.ts';
import { luma } from '../../src/backends/luma/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { runway } from '../../src/backends/runway/provider.ts';
import { endOf, forever, openAccount } from './hosted-account.ts';
import { type Said, saying } from './hosted-said.ts';

const KINDS = [
  [replicate, 'black-forest-labs/flux-schnell', 'image'],
  [fal, 'fal-ai/flux/dev', 'image'],
  [bfl, 'flux-pro-1.1', 'image'],
  [ideogram, 'ideogram-3', 'image'],
  [luma, 'ray-2', 'video'],
  [runway, 'gen4.5', 'video'],
] as const;
const PAGE = `<!DOCTYPE html><title>Welcome a-long-secret-key</title>${'x'.repeat(300)}`;
const HTML = { 'content-type': 'text/html; charset=utf-8' };
const LOST = { code: 'node_lost', retryable: false, possiblyBilled: true };

const answered = async ([provider, remote, kind]: (typeof KINDS)[number], said: Said) => {
  const stage = await openAccount(provider, remote);
  const { asked, connection } = await saying(provider, stage, [said], 'a-long-secret-key');
  const ran = await endOf(connection.run(stage.job({}, { kind }), forever));
  return { ran, posts: asked.filter((method) => method === 'POST').length, looks: asked.length - 1, stage };
};
const each = (statuses: readonly number[]) =>
  KINDS.flatMap((one) => statuses.map((status) => [one[0].kind, status, one] as const));

describe('an answer that leaves open whether a job was taken', () => {
  it.each(each([408, 425, 499, 500, 502, 504]))('is no refusal: %s %i', async (_, status, kind) => {
    const { ran, posts, looks } = await answered(kind, { status, body: { detail: 'trouble', error: 'trouble' } });
    expect(ran).toMatchObject({ refused: false, failure: LOST });
    expect(ran.failure?.message).not.toMatch(/began nothing|broke off/);
    expect(posts).toBe(1);
    expect(looks > 0).toBe(kind[0].search !== undefined);
  });

  it.each(each([400, 409, 418, 422]))('is none that refuses it in its own words: %s %i', async (_, status, kind) => {
    const { ran, posts } = await answered(kind, { status, body: { detail: 'no such thing', error: 'no such thing' } });
    expect(ran).toMatchObject({ refused: true, failure: { code: 'unsupported_input' } });
    expect(posts).toBe(1);
  });

  it('is waited out where it names the time to come back', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const busy = { status: 503, body: { detail: 'busy' }, headers: { 'retry-after': '4' } };
    const { asked, connection } = await saying(bfl, stage, [busy, { status: 402, body: {} }]);
    const ran = await endOf(connection.run(stage.job(), forever));
    expect(ran).toMatchObject({ refused: true, failure: { code: 'provider_balance' } });
    expect(asked).toEqual(['POST', 'POST']);
  });
});

describe('an address that is not the provider', () => {
  it.each(each([403, 404, 405, 410]))('is a fault of the account, not of the model: %s %i', async (_, status, kind) => {
    const { ran, posts, stage } = await answered(kind, { status, body: PAGE, headers: HTML });
    expect(ran).toMatchObject({ refused: true, failure: { code: 'node_lost' } });
    expect(ran.failure?.possiblyBilled).toBeUndefined();
    expect(posts).toBe(1);
    expect(stage.warned.join()).toContain('check base_url');
  });

  it.each(each([301, 302, 307, 308]))('is one that sends elsewhere: %s %i', async (_, status, kind) => {
    const { ran, posts, stage } = await answered(kind, {
      status,
      body: '',
      headers: { location: 'https://else.example/' },
    });
    expect(ran).toMatchObject({ refused: true, failure: { code: 'node_lost' } });
    expect(ran.failure?.possiblyBilled).toBeUndefined();
    expect(posts).toBe(1);
    expect(stage.warned.join()).toContain('check base_url');
  });
  it.each(each([303]))('may have taken what it answers with "see other": %s %i', async (_, status, kind) => {
    const { ran } = await answered(kind, { status, body: '', headers: { location: 'https://else.example/' } });
    expect(ran).toMatchObject({ refused: false, failure: LOST });
  });

  it.each(each([404, 410]))(
    'is none that says in its own words that a model is gone: %s %i',
    async (_, status, kind) => {
      const { ran } = await answered(kind, { status, body: { detail: 'Not found', error: 'Not found' } });
      expect(ran).toMatchObject({ refused: true, failure: { code: 'model_gone' } });
    },
  );

  it.each(each([200, 404, 502]))('is shown to the operator, without the key: %s %i', async (_, status, kind) => {
    const { ran, stage } = await answered(kind, { status, body: PAGE, headers: HTML });
    const [first] = stage.warned;
    expect(first).toContain('"hint":"check base_url"');
    expect(first).toContain('"content_type":"text/html; charset=utf-8"');
    expect(first).toContain('<title>Welcome (the key)</title>xxx');
    expect(first).not.toContain('x'.repeat(200));
    expect(JSON.stringify(ran.failure)).not.toMatch(/DOCTYPE|base_url/);
  });
});

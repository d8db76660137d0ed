// What a provider's refusal of a submit means by its status, for every provider alike: may something have been begun, is it
// about the key or about one model. A provider may pay twice or stay shut for the wrong answer.

import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { fal } from '../../src/backends/fal/provider.ts';
import { gemini } from '../../src/backends/gemini/provider.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import { ideogram } from '../../src/backends/ideogram/provider.ts';
import { luma } from '../../src/backends/luma/provider.ts';
import { openai } from '../../src/backends/openai/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { runway } from '../../src/backends/runway/provider.ts';
import { stability } from '../../src/backends/stability/provider.ts';
import { together } from '../../src/backends/together/provider.ts';
import { endOf, forever, openAccount } from './hosted-account.ts';
import { type Said, saying } from './hosted-said.ts';

const POLLED: readonly Provider[] = [bfl, fal, ideogram, luma, replicate, runway];
const AT_ONCE: readonly Provider[] = [gemini, openai, stability, together];

const PNG = Buffer.from('a picture').toString('base64');
/** A result in the words of all that answer at once. */
const FINE: Said = {
  status: 200,
  body: {
    data: [{ b64_json: PNG }],
    candidates: [{ content: { parts: [{ inlineData: { mimeType: 'image/png', data: PNG } }] } }],
    image: PNG,
    finish_reason: 'SUCCESS',
  },
};
const OVERLOADED: Said = {
  status: 503,
  body: { error: { code: null, status: 'UNAVAILABLE', type: 'server_error', message: 'overloaded' } },
};

describe('a 503', () => {
  it.each(AT_ONCE)('that says when to come back is waited out ($kind)', async (provider) => {
    const stage = await openAccount(provider, 'gen4_image');
    const busy = { ...OVERLOADED, headers: { 'retry-after': '7' } };
    const { asked, connection } = await saying(provider, stage, [busy, FINE]);
    expect((await endOf(connection.run(stage.job(), forever))).failure).toBeNull();
    expect(asked).toEqual(['POST', 'POST']);
    expect(Math.max(...stage.clock.slept)).toBeGreaterThanOrEqual(7000);
  });

  it.each([...AT_ONCE, ...POLLED])(
    'that does not may have begun it, and it is not asked again ($kind)',
    async (provider) => {
      const stage = await openAccount(provider, 'gen4_image');
      const { asked, connection } = await saying(provider, stage, [OVERLOADED]);
      const ran = await endOf(connection.run(stage.job(), forever));
      expect(ran).toMatchObject({ refused: false, failure: { code: 'node_lost', possiblyBilled: true } });
      expect(asked.filter((method) => method === 'POST')).toEqual(['POST']);
    },
  );
});

describe('a 403', () => {
  const meaning = (provider: Provider, body: unknown, stage: 'submit' | 'poll' = 'submit') =>
    provider.refused({ status: 403, header: () => null, body }, stage).code;
  const OF_KEYS: readonly Provider[] = [bfl, fal, gemini, luma, openai, replicate];

  it.each(OF_KEYS)('is said of a key that was revoked, whatever the words ($kind)', (provider) => {
    expect(meaning(provider, { detail: 'Forbidden' })).toBe('provider_auth');
    if (provider.poll !== undefined) expect(meaning(provider, { detail: 'Forbidden' }, 'poll')).toBe('provider_auth');
  });

  it.each(OF_KEYS)('that names the model is none of the key ($kind)', (provider) => {
    expect(meaning(provider, { detail: 'You have no access to this model.' })).toBe('model_gone');
  });

  it.each([ideogram, runway, stability, together])('is said of the request elsewhere ($kind)', (provider) => {
    expect(meaning(provider, { detail: 'Forbidden' })).toBe('model_gone');
  });

  it('of the prompt is none of the key', () => {
    expect(meaning(bfl, { detail: 'The prompt was flagged' })).toBe('safety_filter');
  });
});

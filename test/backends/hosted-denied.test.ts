// Questions about a job that was begun and paid, which the provider refuses to answer: what is believed, and what is waited
// out.

import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../src/backends/backend.ts';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { endOf, forever, openAccount } from './hosted-account.ts';
import { BEGUN, READY, saying, times } from './hosted-said.ts';

describe('a job', () => {
  it.each([404, 410])('that is said to be unknown three times in a row is believed to be (%i)', async (status) => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const { asked, connection } = await saying(bfl, stage, [
      BEGUN,
      ...times(7, { status: 500, body: {} }), // it is young no longer
      { status, body: { detail: 'no' } },
    ]);
    const { failure } = await endOf(connection.run(stage.job(), forever));
    expect(failure).toMatchObject({ code: 'node_lost', possiblyBilled: true });
    expect(asked).toHaveLength(1 + 7 + 3);
  });
});

describe('a key that is refused while a job is at work', () => {
  const troubles = (events: readonly RunEvent[]) =>
    events.flatMap((event) => (event.type === 'trouble' ? [event.failure?.code ?? null] : []));

  it.each([
    [401, 'provider_auth'],
    [403, 'provider_auth'],
    [402, 'model_error'],
  ] as const)('loses no picture that was paid: it is asked again until it is mended (%i)', async (status, code) => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const denied = times(40, { status, body: { detail: 'the API key is wrong' } });
    const { asked, connection } = await saying(bfl, stage, [BEGUN, ...denied, READY]);
    const ran = await endOf(connection.run(stage.job(), forever));
    expect(ran.failure).toBeNull();
    expect(asked).toHaveLength(1 + 40 + 1);
    expect(troubles(ran.events)).toEqual([code, null]);
  });

  it('is asked about slowly', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const denied = times(20, { status: 401, body: {} });
    const { connection } = await saying(bfl, stage, [BEGUN, ...denied, READY]);
    await endOf(connection.run(stage.job(), forever));
    expect(stage.clock.slept.slice(-5)).toEqual([15_000, 15_000, 15_000, 15_000, 15_000]);
  });

  it('is told of, as what may have been billed, to whoever ends the waiting', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const { connection } = await saying(bfl, stage, [BEGUN, { status: 401, body: {} }]);
    const stop = new AbortController();
    let failure: unknown;
    const run = async () => {
      for await (const event of connection.run(stage.job({ n: 2 }), stop.signal)) {
        if (event.type !== 'trouble') continue;
        failure = event.failure;
        stop.abort(new GatewayError('run_timeout'));
      }
    };
    await expect(run()).rejects.toMatchObject({ failure: { code: 'run_timeout' } });
    expect(failure).toMatchObject({ code: 'provider_auth', retryable: false, possiblyBilled: true });
  });
});

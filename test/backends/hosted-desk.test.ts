// What all hosted providers have in common: posting once, asking again, finding what was lost, fetching without the key.
// Against stand-ins over real HTTP; what is about a provider's real addresses is in hosted-addresses.test.ts.

import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { fal } from '../../src/backends/fal/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { failure, GatewayError } from '../../src/domain/failure.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import type { HostedFault } from '../doubles/hosted/hosted.ts';
import { forever, openAccount, type Stage, type StageOptions } from './hosted-account.ts';

const open = (options: StageOptions = {}) => openAccount(bfl, 'flux-pro-1.1', options);
const LOST = { code: 'node_lost', retryable: false, possiblyBilled: true };

describe('too many requests', () => {
  it('are repeated after the time the provider asks for, twice', async () => {
    const stage = await open();
    stage.double.faults.on('rate_limited', { times: 2, ms: 5_000 });
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.requests('POST')).toHaveLength(3);
    expect(stage.double.paid).toHaveLength(1);
    for (const ms of stage.clock.slept.slice(0, 2)) {
      expect(ms).toBeGreaterThanOrEqual(5_000);
      expect(ms).toBeLessThanOrEqual(6_250);
    }
  });

  it('are given up after three, so that another route may be tried', async () => {
    const stage = await open();
    stage.double.faults.on('rate_limited', { times: 9, ms: 5_000 });
    const ran = await stage.run(stage.job());
    expect(ran).toMatchObject({ refused: true, failure: { code: 'rate_limited', retryAfterSeconds: 5 } });
    expect(stage.requests('POST')).toHaveLength(3);
  });

  it('are repeated after a second, and two, where the provider names no time', async () => {
    const stage = await open();
    stage.double.faults.on('rate_limited_silent', { times: 2 });
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.clock.slept.slice(0, 2).map((ms) => Math.floor(ms / 1000))).toEqual([1, 2]);
  });

  it('are repeated after the time that only the body of the answer tells', async () => {
    const busy = failure('rate_limited', 'Later.', { retryAfterSeconds: 12 });
    const stage = await openAccount({ ...bfl, refused: () => busy }, 'flux-pro-1.1');
    stage.double.faults.on('rate_limited_silent', { times: 1 });
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.clock.slept[0]).toBeGreaterThanOrEqual(12_000);
  });

  it.each([
    [30_000, 3],
    [31_000, 1],
  ])('are waited out for 30 s at most (%i ms: %i requests)', async (ms, posts) => {
    const stage = await open();
    stage.double.faults.on('rate_limited', { times: 9, ms });
    expect((await stage.run(stage.job())).failure?.code).toBe('rate_limited');
    expect(stage.requests('POST')).toHaveLength(posts);
    expect(Math.max(0, ...stage.clock.slept)).toBeLessThanOrEqual(37_500); // and a quarter more, so that not all come back at once
  });

  it('for questions are asked again after the time the provider asks for', async () => {
    const stage = await open();
    stage.double.faults.next('poll_429', { ms: 9_000 });
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.clock.slept.filter((ms) => ms >= 9_000)).toHaveLength(1);
  });
});

describe('a request', () => {
  it('that found nobody began nothing: another route may be tried', async () => {
    const stage = await open();
    await stage.double.down();
    const ran = await stage.run(stage.job());
    expect(ran).toMatchObject({ refused: true, failure: { code: 'node_lost' } });
    expect(ran.failure?.possiblyBilled).toBeUndefined();
    await stage.double.up();
    expect((await stage.run(stage.job())).failure).toBeNull();
  });

  it.each<HostedFault>(['drop_before', 'accept_then_drop', 'error_html', 'error_html_200'])(
    'whose answer is lost is not sent again (%s)',
    async (fault) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const ran = await stage.run(stage.job());
      expect(ran).toMatchObject({ refused: false, failure: LOST });
      expect(stage.double.paid.length).toBe(fault === 'drop_before' ? 0 : 1);
      expect(stage.requests('POST').length).toBeLessThanOrEqual(1);
    },
  );

  it('whose answer is lost is looked for where the provider has a list', async () => {
    const stage = await openAccount(replicate, 'black-forest-labs/flux-schnell');
    stage.double.faults.next('accept_then_drop');
    const ran = await stage.run(stage.job());
    expect(ran.failure).toBeNull();
    expect(await ran.files()).toHaveLength(1);
    expect(stage.double.paid).toHaveLength(1);
  });

  it('whose answer is lost is looked for until the list can be had, and then has been looked for', async () => {
    const stage = await openAccount(replicate, 'black-forest-labs/flux-schnell');
    const remote = await stage.killedAfter(stage.job(), 'intent');
    expect(await stage.resume(stage.job(), remote)).toMatchObject({ failure: LOST });
    const looks = stage.requests('GET').length;
    stage.double.faults.on('auth', { times: 8 });
    expect(await stage.resume(stage.job(), remote)).toMatchObject({ failure: LOST });
    expect([looks, stage.requests('GET').length]).toEqual([3, 3 + 8 + 3]);
    stage.double.faults.on('auth');
    expect(await stage.resume(stage.job(), remote)).toMatchObject({ failure: LOST });
    expect(stage.requests().filter(({ method }) => method !== 'GET')).toEqual([]);
  });

  it('that costs money has a connection of its own', async () => {
    const stage = await open();
    await stage.run(stage.job({ n: 2 }));
    const connections = (method: string) => new Set(stage.requests(method).map(({ headers }) => headers.connection));
    expect(connections('POST')).toEqual(new Set(['close']));
    expect(connections('GET')).toEqual(new Set(['keep-alive']));
  });

  it('is told of as it stands: what was told before does not change with it', async () => {
    const stage = await open();
    const told: RemoteRef[] = [];
    const asTold: RemoteRef[] = [];
    for await (const event of stage.connection.run(stage.job({ n: 2 }), forever)) {
      if (event.type !== 'intent' && event.type !== 'accepted') continue;
      told.push(event.remote);
      asTold.push(structuredClone(event.remote));
    }
    expect(told).toHaveLength(4);
    expect(told).toEqual(asTold);
  });

  it('is announced before it is sent', async () => {
    const stage = await open();
    await stage.killedAfter(stage.job(), 'intent');
    expect(stage.double.log).toEqual([]);
  });
});

describe('a job that was begun', () => {
  it.each<HostedFault>(['error_html', 'error_html_200', 'poll_500', 'reset_on_poll'])(
    'is asked about again after an answer that says nothing (%s)',
    async (fault) => {
      const stage = await open();
      const remote = await stage.killedAfter(stage.job(), 'accepted');
      stage.double.faults.on(fault, { times: 3 });
      const ran = await stage.resume(stage.job(), remote);
      expect(ran.failure).toBeNull();
      expect(stage.double.paid).toHaveLength(1);
    },
  );

  it('is given ten seconds to become known', async () => {
    const stage = await open();
    const before = stage.clock.now();
    const part = { marker: 'm', n: 1, at: before, reference: { id: 'nobody knows it' } };
    const ran = await stage.resume(stage.job(), { parts: [part] });
    expect(ran.failure).toMatchObject(LOST);
    expect(stage.clock.now() - before).toBeGreaterThanOrEqual(10_000);
    expect(stage.clock.now() - before).toBeLessThan(15_000);
  });

  it('is kept when a later part is refused', async () => {
    const stage = await open();
    const types: string[] = [];
    for await (const event of stage.connection.run(stage.job({ n: 4 }), forever)) {
      types.push(event.type);
      if (types.filter((type) => type === 'accepted').length === 2) stage.double.faults.on('balance', { times: 1 });
    }
    expect(types.filter((type) => type === 'file')).toHaveLength(2);
    expect(types).toContain('warning');
    expect(stage.requests('POST')).toHaveLength(3);
    expect(stage.double.paid).toHaveLength(2);
  });

  it('is asked about until somebody has had enough', async () => {
    const stage = await open();
    stage.double.faults.next('stuck');
    const abort = new AbortController();
    const reason = new GatewayError('run_timeout');
    const run = async () => {
      for await (const event of stage.connection.run(stage.job(), abort.signal))
        if (event.type === 'progress' && event.fraction > 0) abort.abort(reason);
    };
    await expect(run()).rejects.toBe(reason);
    expect(stage.double.paid).toHaveLength(1);
  });
});

const fileOf = async (stage: Stage) => {
  const ran = await stage.run(stage.job());
  expect(ran.failure).toBeNull();
  const [file] = ran.events.flatMap((event) => (event.type === 'file' ? [event.file] : []));
  if (file === undefined) throw new Error('no file');
  return file;
};
const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => null,
    (error: unknown) => (error instanceof GatewayError ? error.failure : error),
  );

describe('a result', () => {
  it('from an address that nobody allowed is not fetched', async () => {
    const stage = await open({ allowPrivate: [] });
    const file = await fileOf(stage);
    expect(await failureOf(file.open(forever))).toMatchObject({ code: 'model_error', possiblyBilled: true });
    expect(stage.double.fileLog).toEqual([]);
  });

  it.each<HostedFault>(['result_on_metadata_address', 'result_on_private_address', 'redirecting_inside'])(
    'from inside is not fetched (%s)',
    async (fault) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const file = await fileOf(stage);
      expect(await failureOf(file.open(forever))).toMatchObject({ code: 'model_error', possiblyBilled: true });
      expect(stage.double.paid).toHaveLength(1);
    },
  );

  it('is followed to another allowed place', async () => {
    const stage = await open();
    stage.double.faults.next('redirecting_file');
    const ran = await stage.run(stage.job());
    expect(await ran.files()).toHaveLength(1);
    expect(stage.double.fileLog.map(({ status }) => status)).toEqual([302, 200]);
  });

  it.each([
    ['bfl', bfl, 'flux-pro-1.1', [403, 200]],
    ['fal', fal, 'fal-ai/flux/dev', [404, 200]],
    ['replicate', replicate, 'black-forest-labs/flux-schnell', [404, 200]],
  ] as const)('whose link has run out is asked for again (%s)', async (_, provider, remote, statuses) => {
    const stage = await openAccount(provider, remote);
    stage.double.faults.next('expired_url');
    expect(await (await stage.run(stage.job())).files()).toHaveLength(1);
    expect(stage.double.fileLog.map(({ status }) => status)).toEqual(statuses);
    expect(stage.double.paid).toHaveLength(1);
  });

  it('whose link has run out and cannot be renewed is lost, and paid', async () => {
    const stage = await open();
    stage.double.faults.next('expired_url');
    const file = await fileOf(stage);
    await stage.double.down();
    expect(await failureOf(file.open(forever))).toMatchObject(LOST);
  });

  it('that is cut short or larger than any picture ends in an error', async () => {
    const drained = async (fault: HostedFault) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const stream = await (await fileOf(stage)).open(forever);
      let bytes = 0;
      for await (const chunk of stream) bytes += (chunk as Buffer).length;
      return bytes;
    };
    await expect(drained('truncated_file')).rejects.toMatchObject({ kind: 'cut' });
    await expect(drained('huge_image')).rejects.toMatchObject({ kind: 'too_large' });
  });
});

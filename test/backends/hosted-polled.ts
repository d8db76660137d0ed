// What holds for every provider whose jobs are asked about by id: each fault of its stand-in, what it is called afterwards,
// and how many jobs were paid for. Where a provider differs it says so itself (`own`).

import { describe, expect, it } from 'vitest';
import type { InputFile, Job } from '../../src/backends/backend.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import type { FailureCode } from '../../src/domain/failure.ts';
import type { Params } from '../../src/domain/params.ts';
import type { HostedFault } from '../doubles/hosted/hosted.ts';
import { until } from '../harness/manual-clock.ts';
import { forever, openAccount, type Stage } from './hosted-account.ts';

export interface Polled {
  readonly provider: Provider;
  readonly remote: string;
  readonly kind: Job['kind'];
  /** Where it differs from the others. */
  readonly own?: Partial<Record<HostedFault, Partial<Ending> | 'lived through'>>;
  /** What the provider says to this fault. */
  readonly says?: readonly [HostedFault, RegExp];
  /** Withholds one of three pictures, and no more. */
  readonly withholds?: HostedFault;
}

interface Ending {
  readonly code: FailureCode;
  readonly paid: number;
  readonly possiblyBilled?: boolean;
  /** Nothing ran: another route may be tried. */
  readonly refused?: boolean;
}

/** A prompt that is refused as a job of its own, which fails and is paid. */
export const PAID_REFUSAL = { moderation_input: { paid: 1 } } as const;

const ENDINGS: readonly (readonly [HostedFault, Ending])[] = [
  ['drop_before', { code: 'node_lost', paid: 0, possiblyBilled: true }],
  ['accept_then_drop', { code: 'node_lost', paid: 1, possiblyBilled: true }],
  ['error_html', { code: 'node_lost', paid: 1, possiblyBilled: true }],
  ['error_html_200', { code: 'node_lost', paid: 1, possiblyBilled: true }],
  ['submit_500', { code: 'node_lost', paid: 0, possiblyBilled: true }],
  ['auth', { code: 'provider_auth', paid: 0, refused: true }],
  ['balance', { code: 'provider_balance', paid: 0, refused: true }],
  ['model_gone', { code: 'model_gone', paid: 0, refused: true }],
  ['invalid_params', { code: 'unsupported_input', paid: 0, refused: true }],
  ['moderation_input', { code: 'policy_block', paid: 0 }],
  ['moderation_output', { code: 'safety_filter', paid: 1 }],
  ['failed_opaque', { code: 'model_error', paid: 1 }],
  ['zero_images', { code: 'model_error', paid: 1, possiblyBilled: true }],
  ['wrong_id', { code: 'model_error', paid: 1, possiblyBilled: true }],
  ['result_gone', { code: 'node_lost', paid: 1, possiblyBilled: true }],
];
const LIVED_THROUGH: readonly HostedFault[] = ['unknown_status', 'late_result', 'expired_url', 'redirecting_file'];

export function describePolled({ provider, remote, kind, own = {}, says, withholds }: Polled): void {
  const open = () => openAccount(provider, remote);
  const jobOf = (stage: Stage) => stage.job({}, { kind });
  const posts = (stage: Stage) => stage.requests('POST').length;
  const differs = (fault: HostedFault) => (own[fault] === 'lived through' ? null : own[fault]);
  const endings = ENDINGS.flatMap(([fault, usual]): [HostedFault, Ending][] => {
    const it = differs(fault);
    return it === null ? [] : [[fault, { ...usual, ...it }]];
  });
  const livedThrough = [...LIVED_THROUGH, ...ENDINGS.flatMap(([fault]) => (differs(fault) === null ? [fault] : []))];

  describe('what befalls a job', () => {
    it.each(endings)('%s', async (fault, { code, paid, possiblyBilled = false, refused = false }) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const ran = await stage.run(jobOf(stage));
      expect(ran.failure).toMatchObject({ code });
      expect(ran.failure?.possiblyBilled ?? false).toBe(possiblyBilled);
      if (possiblyBilled) expect(ran.failure?.retryable).toBe(false);
      expect(ran.refused).toBe(refused);
      expect(stage.double.paid).toHaveLength(paid);
      if (fault !== 'drop_before') expect(posts(stage)).toBe(1);
    });

    it.each(livedThrough)('%s is lived through', async (fault) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const ran = await stage.run(jobOf(stage));
      expect(ran.failure).toBeNull();
      expect((await ran.files())[0]?.length).toBeGreaterThan(100);
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 1]);
    });

    it('a status that nobody knows is told to the operator, once', async () => {
      const stage = await open();
      stage.double.faults.on('unknown_status');
      await stage.run(jobOf(stage));
      await stage.run(jobOf(stage));
      expect(stage.warned.filter((line) => line.includes('unknown status'))).toHaveLength(1);
      expect(stage.warned.join()).toMatch(/hibernating/i);
    });

    it('the statuses that are known are no news', async () => {
      const stage = await open();
      await stage.run(jobOf(stage));
      expect(stage.warned).toEqual([]);
    });

    it.each<HostedFault>(['redirecting_inside', 'result_on_metadata_address', 'result_on_private_address'])(
      '%s: the file is not fetched from there, and nothing is made again',
      async (fault) => {
        const stage = await open();
        stage.double.faults.next(fault);
        const ran = await stage.run(jobOf(stage));
        const failure = { code: 'model_error', retryable: false, possiblyBilled: true };
        await expect(ran.files()).rejects.toMatchObject({ failure });
        expect(stage.double.paid).toHaveLength(1);
      },
    );

    it('is told in words of our own; those of the provider go to the log', async () => {
      const stage = await open();
      stage.double.faults.next('balance');
      const { failure } = await stage.run(jobOf(stage));
      expect(failure?.message).toBe('The account at the provider is out of money.');
      expect(stage.warned.join()).toMatch(/enough credits|Insufficient|Exhausted/i);
    });

    it.each(says ? [says] : [])('%s is told to the operator as %s, and to nobody else', async (fault, words) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const { failure } = await stage.run(jobOf(stage));
      expect(failure?.message).not.toMatch(words);
      expect(stage.warned.join()).toMatch(words);
      expect(stage.warned.join()).toContain(jobOf(stage).id);
      expect(stage.warned.join()).not.toContain(jobOf(stage).params.prompt);
    });

    it.each(withholds ? [withholds] : [])('%s of one of several pictures leaves the others', async (fault) => {
      const stage = await open();
      stage.double.faults.next(fault);
      const ran = await stage.run(stage.job({ n: 3 }, { kind }));
      expect(ran.failure).toBeNull();
      expect(ran.warnings.at(-1)).toMatch(/^1 of the pictures .* missing: .* withheld /);
      expect(await ran.files()).toHaveLength(2);
    });
  });

  describe('too many requests', () => {
    it('are repeated after the time the provider names', async () => {
      const stage = await open();
      stage.double.faults.next('rate_limited', { ms: 7000 });
      const ran = await stage.run(jobOf(stage));
      expect(ran.failure).toBeNull();
      expect(stage.clock.slept[0]).toBeGreaterThanOrEqual(7000);
      expect([posts(stage), stage.double.paid.length]).toEqual([2, 1]);
    });

    it.each<HostedFault>(['rate_limited', 'rate_limited_silent'])('%s: no more than three times', async (fault) => {
      const stage = await open();
      stage.double.faults.on(fault);
      const ran = await stage.run(jobOf(stage));
      expect([ran.failure?.code, ran.refused]).toEqual(['rate_limited', true]);
      expect([posts(stage), stage.double.paid.length]).toEqual([3, 0]);
    });
  });

  describe('trouble with asking', () => {
    it.each<HostedFault>([
      'reset_on_poll',
      'poll_500',
      'poll_503_retry_after',
      'poll_429',
      'error_html',
      'error_html_200',
    ])('%s says nothing about the job', async (fault) => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(jobOf(stage), 'accepted');
      stage.double.faults.on(fault, { times: 2 });
      const ran = await stage.resume(jobOf(stage), remoteRef);
      expect(ran.failure).toBeNull();
      expect(await ran.files()).toHaveLength(1);
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 1]);
    });

    it('a key that is refused meanwhile loses nothing: it is asked until the key is right again', async () => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(jobOf(stage), 'accepted');
      stage.double.faults.on('auth', { times: 30 });
      const ran = await stage.resume(jobOf(stage), remoteRef);
      expect(ran.failure).toBeNull();
      expect(await ran.files()).toHaveLength(1);
      expect(ran.events).toContainEqual({
        type: 'trouble',
        failure: expect.objectContaining({ code: 'provider_auth', retryable: false, possiblyBilled: true }),
      });
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 1]);
    });

    it('a job that never ends is asked about until the attempt is broken off', async () => {
      const stage = await open();
      stage.double.faults.next('stuck');
      const stop = new AbortController();
      const why = new Error('the deadline');
      const ran = stage.run(jobOf(stage), stop.signal).catch((error: unknown) => error);
      await until(() => (stage.double.jobs[0]?.polls ?? 0) > 5, 'some polls');
      stop.abort(why);
      expect(await ran).toBe(why);
      expect(Math.max(...stage.clock.slept)).toBeLessThanOrEqual(provider.pollMs[1] * 1.15);
    });
  });

  describe('a gateway that is killed', () => {
    it('before the answer came: nobody can tell, and nothing is sent again', async () => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(jobOf(stage), 'intent');
      const { failure } = await stage.resume(jobOf(stage), remoteRef);
      expect(failure).toMatchObject({ code: 'node_lost', retryable: false, possiblyBilled: true });
      expect(posts(stage)).toBe(0);
    });

    it.each(['accepted', 'progress'] as const)('after "%s": the job is gone on with', async (moment) => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(jobOf(stage), moment);
      const ran = await stage.resume(jobOf(stage), structuredClone(remoteRef));
      expect(ran.failure).toBeNull();
      expect(await ran.files()).toHaveLength(1);
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 1]);
    });
  });
}

/** What a request cannot be served with: `files` that are given, and `params`. */
export type Unserved = readonly [
  what: string,
  remote: string,
  files: readonly InputFile['role'][],
  params: Partial<Params>,
];

/** Nothing is sent, and another route may be tried. */
export function describeUnserved({ provider, kind }: Omit<Polled, 'remote'>, all: readonly Unserved[]): void {
  describe('what it cannot serve is refused before anything is sent', () => {
    it.each(all)('%s (%s)', async (_, remote, roles, params) => {
      const stage = await openAccount(provider, remote);
      const files = await Promise.all(roles.map((role) => stage.file(role, 0)));
      const ran = await stage.run(stage.job(params, { kind, files }));
      expect(ran).toMatchObject({ refused: true, failure: { code: 'unsupported_input' } });
      expect(stage.double.log).toEqual([]);
    });
  });
}

/** For providers that can cancel, and need not be asked before: how they are told. */
export function describeCancelSent({ provider, remote, kind }: Polled, method: string, path: RegExp): void {
  it.each<HostedFault | null>([null, 'cancel_refused'])('a cancel is sent to the job (%s)', async (fault) => {
    const stage = await openAccount(provider, remote);
    const remoteRef = await stage.killedAfter(stage.job({}, { kind }), 'accepted');
    if (fault !== null) stage.double.faults.next(fault);
    await stage.connection.cancel(remoteRef, forever);
    expect(stage.requests(method).at(-1)?.path).toMatch(path);
    expect(stage.double.jobs[0]?.state).toBe(fault === null ? 'cancelled' : 'queued');
  });
}

/** For providers that can cancel, and destroy what is finished by it. */
export function describeCancelling({ provider, remote, kind }: Polled): void {
  const open = () => openAccount(provider, remote);
  const fates = (stage: Stage) => stage.double.log.map(({ what }) => what).filter((what) => what !== 'request');

  describe('cancelling', () => {
    it('stops what waits or runs', async () => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(stage.job({}, { kind }), 'accepted');
      await stage.connection.cancel(remoteRef, forever);
      expect(fates(stage).slice(0, 2)).toEqual(['paid', 'cancelled']);
    });

    it('leaves alone what is finished, whose data it would destroy', async () => {
      const stage = await open();
      const { remote: remoteRef } = await stage.run(stage.job({}, { kind }));
      await stage.connection.cancel(remoteRef ?? {}, forever);
      expect(fates(stage)).toEqual(['paid', 'succeeded']);
      expect(stage.requests('DELETE')).toEqual([]);
    });

    it('asks again when it was not told how the job stands, and deletes nothing unseen', async () => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(stage.job({}, { kind }), 'accepted');
      stage.double.faults.on('poll_500');
      await stage.connection.cancel(remoteRef, forever);
      expect(stage.requests('DELETE')).toEqual([]);
      stage.double.faults.on('poll_500', { times: 2 });
      await stage.connection.cancel(remoteRef, forever);
      expect(stage.requests('DELETE')).toHaveLength(1);
    });

    it('is content when the provider refuses it', async () => {
      const stage = await open();
      const remoteRef = await stage.killedAfter(stage.job({}, { kind }), 'accepted');
      stage.double.faults.next('cancel_refused');
      await expect(stage.connection.cancel(remoteRef, forever)).resolves.toBeUndefined();
    });
  });
}

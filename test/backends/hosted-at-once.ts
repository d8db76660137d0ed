// What holds for every provider whose answer to the submit is the result: nothing can be asked about afterwards, so what
// went wrong after the request was sent is possibly billed and is never sent again; what was refused before is not.

import { describe, expect, test } from 'vitest';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import { type FailureCode, GatewayError } from '../../src/domain/failure.ts';
import type { HostedFault, HostedOptions } from '../doubles/hosted/hosted.ts';
import { until } from '../harness/manual-clock.ts';
import { openAccount, type Ran, type Stage } from './hosted-account.ts';

export interface AtOnce {
  readonly provider: Provider;
  readonly remote: string;
  readonly double?: HostedOptions;
  /** Where a withheld picture cannot be told from one that never was. */
  readonly withheld?: FailureCode;
}

const BILLED = { code: 'node_lost', retryable: false, possiblyBilled: true };

/** Refused before anything began, one POST each. `final`: no other route is tried. */
const REFUSED: readonly (readonly [HostedFault, FailureCode, 'final' | 'elsewhere'])[] = [
  ['auth', 'provider_auth', 'elsewhere'],
  ['balance', 'provider_balance', 'elsewhere'],
  ['model_gone', 'model_gone', 'elsewhere'],
  ['invalid_params', 'unsupported_input', 'elsewhere'],
  ['moderation_input', 'policy_block', 'final'],
];
/** Sent once, and then nobody knows; how many jobs the provider had begun. */
const LOST: readonly (readonly [HostedFault, number])[] = [
  ['submit_500', 0],
  ['accept_then_drop', 1],
  ['error_html', 1],
  ['error_html_200', 1],
  ['failed_opaque', 1],
  ['truncated_file', 1],
  ['huge_image', 1],
];

export function answersAtOnce({ provider, remote, double = {}, withheld = 'safety_filter' }: AtOnce): void {
  const open = (it = provider): Promise<Stage> => openAccount(it, remote, { double });
  const ran = async (fault: HostedFault, stage: Stage): Promise<Ran> => {
    stage.double.faults.next(fault);
    return stage.run(stage.job());
  };
  const posts = (stage: Stage) => stage.requests('POST').length;

  describe('as every provider that answers at once', () => {
    test.each(REFUSED)('%s is %s, asked once and billed never', async (fault, code, how) => {
      const stage = await open();
      const { failure, refused } = await ran(fault, stage);
      expect(failure).toEqual({ code, message: expect.stringMatching(/^The (provider|account)/) });
      expect(refused).toBe(how === 'elsewhere');
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 0]);
      expect(JSON.stringify(failure)).not.toContain('http');
    });

    test.each(LOST)('after %s nobody knows, and it is not sent again', async (fault, paid) => {
      const stage = await open();
      const { failure, refused } = await ran(fault, stage);
      expect(failure).toMatchObject(BILLED);
      expect(refused).toBe(false);
      expect([posts(stage), stage.double.paid.length]).toEqual([1, paid]);
    });

    test('a connection that breaks under the request is not tried again either', async () => {
      const stage = await open();
      const { failure, refused } = await ran('drop_before', stage);
      expect(failure).toMatchObject(BILLED);
      expect(refused).toBe(false);
      expect(stage.requests()).toEqual([]);
    });

    test.each(['stuck', 'slow_drip'] as const)('%s: it is given up on, and not sent again', async (fault) => {
      const stage = await open({ ...provider, answerMs: 100 });
      expect((await ran(fault, stage)).failure).toMatchObject(BILLED);
      expect(posts(stage)).toBeLessThanOrEqual(1);
    });

    test('no connection is no request: another route may be tried, nothing is billed', async () => {
      const stage = await open();
      await stage.double.down();
      const { failure, refused } = await stage.run(stage.job());
      expect(failure).toEqual({ code: 'node_lost', message: expect.any(String) });
      expect(refused).toBe(true);
    });

    test.each(['rate_limited', 'rate_limited_silent'] as const)('after %s it is asked again', async (fault) => {
      const stage = await open();
      const { failure, files } = await ran(fault, stage);
      expect(failure).toBeNull();
      expect(await files()).toHaveLength(1);
      expect([posts(stage), stage.double.paid.length]).toEqual([2, 1]);
    });

    test('being told "too many" for good is rate_limited after three requests', async () => {
      const stage = await open();
      stage.double.faults.on('rate_limited');
      const { failure, refused } = await stage.run(stage.job());
      expect(failure).toMatchObject({ code: 'rate_limited' });
      expect([refused, posts(stage), stage.double.paid.length]).toEqual([true, 3, 0]);
    });

    test('an answer without a picture is model_error', async () => {
      const stage = await open();
      expect((await ran('zero_images', stage)).failure).toMatchObject({ code: 'model_error', possiblyBilled: true });
      expect([posts(stage), stage.double.paid.length]).toEqual([1, 1]);
    });

    test(`a withheld picture is ${withheld}`, async () => {
      const stage = await open();
      const { failure, refused } = await ran('moderation_output', stage);
      expect(failure).toMatchObject({ code: withheld });
      expect([refused, posts(stage), stage.double.paid.length]).toEqual([false, 1, 1]);
    });

    test('an answer of another form is model_error, and possibly billed', () => {
      const reply = { status: 200, header: () => null, body: { data: 'none', candidates: 7 } };
      expect(() => provider.begun(reply, {} as never)).toThrow(
        expect.objectContaining({ failure: expect.objectContaining({ code: 'model_error', possiblyBilled: true }) }),
      );
    });

    test('another key is provider_auth, and shown nowhere', async () => {
      const stage = await openAccount(provider, remote, { double, key: 'some-other-key' });
      const { failure } = await stage.run(stage.job());
      expect(failure).toMatchObject({ code: 'provider_auth' });
      expect(JSON.stringify([failure, stage.warned])).not.toContain('some-other-key');
      expect(stage.warned).toHaveLength(1);
    });

    test.each(['intent', 'rendered', 'file'] as const)('killed after "%s" it is not sent again', async (type) => {
      const stage = await open();
      const job = stage.job();
      const stored = await stage.killedAfter(job, type);
      const sent = posts(stage);
      expect(sent).toBe(type === 'intent' ? 0 : 1);
      const { failure, refused } = await stage.resume(job, stored);
      expect(failure).toMatchObject(BILLED);
      expect(refused).toBe(false);
      expect(posts(stage)).toBe(sent);
    });

    test('breaking off tells the engine its own reason', async () => {
      const stage = await open();
      stage.double.faults.next('stuck');
      const stop = new AbortController();
      const running = stage.run(stage.job(), stop.signal);
      await until(() => stage.double.paid[0], 'the job');
      stop.abort(new Error('enough'));
      await expect(running).rejects.toThrow('enough');
    });

    test.each([
      ['shutting_down', 1],
      ['cancelled_by_caller', 0],
    ] as const)(
      'a stop that does not wait for the answer (%s) is told to the operator with what to set',
      async (code, lines) => {
        const stage = await open();
        stage.double.faults.next('stuck');
        const stop = new AbortController();
        const running = stage.run(stage.job(), stop.signal);
        await until(() => stage.double.paid[0], 'the job');
        stop.abort(new GatewayError(code));
        expect((await running).failure).toMatchObject({ code });
        await until(() => stage.warned.length === lines, 'the line');
        if (lines > 0) expect(stage.warned[0]).toMatch(/scheduling\.drain_seconds/);
      },
    );

    test('cancelling asks nothing of the provider, which could not stop it', async () => {
      const stage = await open();
      const stored = await stage.killedAfter(stage.job(), 'intent');
      await stage.connection.cancel(stored, new AbortController().signal);
      expect(stage.requests()).toEqual([]);
    });

    test('LoRAs and clips are refused before anything is stored or sent', async () => {
      const stage = await open();
      const loras = await stage.run(stage.job({ loras: [{ name: 'ink', strength: 1 }] }));
      const clip = await stage.run(stage.job({}, { kind: 'video' }));
      for (const { failure, refused, events } of [loras, clip]) {
        expect(failure).toMatchObject({ code: 'unsupported_input' });
        expect([refused, events]).toEqual([true, []]);
      }
      expect(stage.requests()).toEqual([]);
    });
  });
}

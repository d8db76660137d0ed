// How much of an answer is read, and whose job a cancel may stop.

import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { gemini } from '../../src/backends/gemini/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import { until } from '../harness/manual-clock.ts';
import { endOf, forever, openAccount } from './hosted-account.ts';
import { BEGUN, READY, type Said, saying } from './hosted-said.ts';

const MIB = 1024 * 1024;

describe('an answer about a job', () => {
  const ready = (bytes: number): Said => ({ ...READY, body: { ...(READY.body as object), echo: 'x'.repeat(bytes) } });
  const questions = async (bytes: number) => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const { asked, connection } = await saying(bfl, stage, [BEGUN, ready(bytes), READY]);
    expect((await endOf(connection.run(stage.job(), forever))).failure).toBeNull();
    return asked.filter((method) => method === 'GET').length;
  };

  it('may repeat the pictures it was given', async () => {
    expect(await questions(30 * MIB)).toBe(1);
  });

  it('is not read for ever: it is asked for again', async () => {
    expect(await questions(33 * MIB)).toBe(2);
  });
});

describe('an answer with the pictures in it', () => {
  const made = async (bytes: number) => {
    const stage = await openAccount(gemini, 'gemini-2.5-flash-image');
    const part = { inlineData: { mimeType: 'image/png', data: 'A'.repeat(bytes) } };
    const body = { candidates: [{ content: { parts: [part] } }] };
    const { connection } = await saying(gemini, stage, [{ status: 200, body }]);
    return endOf(connection.run(stage.job(), forever));
  };

  it('may be large', async () => {
    const ran = await made(40 * MIB);
    expect(ran.failure).toBeNull();
    expect((await ran.files())[0]).toHaveLength(30 * MIB);
  });

  it('is not read for ever, and may have been billed', async () => {
    expect((await made(161 * MIB)).failure).toMatchObject({ code: 'node_lost', possiblyBilled: true });
  });
});

describe('a cancel of a request that was never answered', () => {
  it('does not stop the job of another that asked for the same', async () => {
    let held = 0;
    const never = new Promise<void>(() => {});
    // the first never reaches its job; the second has one, and has not heard of it
    const hold = (moment: string) => {
      const first = moment === 'submit' && held++ === 0;
      return first || moment === 'begun' ? never : Promise.resolve();
    };
    const stage = await openAccount(replicate, 'black-forest-labs/flux-schnell', { double: { hold } });
    const begin = (id: string) => {
      const stop = new AbortController();
      const sent: { remote: RemoteRef } = { remote: {} };
      const run = async () => {
        for await (const event of stage.connection.run(stage.job({}, { id }), stop.signal))
          if (event.type === 'intent') sent.remote = event.remote;
      };
      return { sent, stop, running: run().catch(() => {}) };
    };
    const first = begin('gen_01HWX2K8Y4N5R7P9Q1B3T6V8M1');
    await until(() => held === 1, 'the first to be sent');
    const second = begin('gen_01HWX2K8Y4N5R7P9Q1B3T6V8M2');
    await until(() => stage.double.paid[0], 'the job of the second');
    first.stop.abort(new GatewayError('cancelled_by_caller'));
    await first.running;
    await stage.connection.cancel(first.sent.remote, forever);
    expect(stage.double.log.map(({ what }) => what)).not.toContain('cancelled');
    second.stop.abort(new GatewayError('cancelled_by_caller'));
    await second.running;
  });
});

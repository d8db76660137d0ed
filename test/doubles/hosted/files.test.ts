// The file host of the hosted doubles: what can be wrong with a link, and with what comes over it.

import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock, until } from '../../harness/manual-clock.ts';
import { caller, inline, links, TONGUES } from './caller.ts';
import type { HostedFault } from './faults.ts';
import { HOSTED_KINDS, type HostedDouble, type HostedKind, type HostedOptions, startHosted } from './hosted.ts';

const started: HostedDouble[] = [];
const start = async (kind: HostedKind, options: HostedOptions = {}) => {
  const double = await startHosted(kind, options);
  started.push(double);
  return double;
};
afterEach(async () => {
  for (const double of started.splice(0)) await double.close();
});

const LINKED = HOSTED_KINDS.filter((kind) => !['openai', 'gemini', 'stability'].includes(kind));
const RENEWING: readonly HostedKind[] = ['bfl', 'ideogram', 'luma', 'runway'];

async function ended(kind: HostedKind, fault: HostedFault, options: HostedOptions = {}) {
  const double = await start(kind, options);
  double.faults.next(fault);
  const call = caller(kind, double);
  const submitted = await call.submit();
  const reply = await call.follow(submitted);
  return { double, call, submitted, reply, url: links(double, reply)[0] ?? '' };
}

describe.each(LINKED)('%s', (kind) => {
  it('cuts a file short of what it declared', async () => {
    const { url } = await ended(kind, 'truncated_file');
    const response = await fetch(url);
    expect(Number(response.headers.get('content-length'))).toBeGreaterThan(0);
    await expect(response.arrayBuffer()).rejects.toThrow();
  });

  it('drips a file byte by byte, on the clock', async () => {
    const clock = new ManualClock();
    const { url } = await ended(kind, 'slow_drip', { clock, pace: { queuedPolls: 0, runningPolls: 0 } });
    const abort = new AbortController();
    const { body } = await fetch(url, { signal: abort.signal });
    const reader = body?.getReader();
    expect((await reader?.read())?.value).toHaveLength(1);
    await clock.advance(1000);
    expect((await reader?.read())?.value).toHaveLength(1);
    abort.abort();
    await until(() => clock.pending === 0, 'the drip noticing that nobody reads');
  });

  it('gives a link that has run out, and what mends it', async () => {
    const { double, call, submitted, url } = await ended(kind, 'expired_url');
    expect((await fetch(url)).status).toBe(RENEWING.includes(kind) ? 403 : 404);
    const [again = ''] = RENEWING.includes(kind) ? links(double, await call.follow(submitted)) : [url];
    expect((await fetch(url)).status).toBe(RENEWING.includes(kind) ? 403 : 200);
    expect((await fetch(again)).status).toBe(200);
    expect(double.paid).toHaveLength(1);
  });

  it('leads to addresses inside the house, by itself or by a redirect', async () => {
    expect((await ended(kind, 'result_on_metadata_address')).reply.text).toContain('http://169.254.169.254/');
    expect((await ended(kind, 'result_on_private_address')).reply.text).toContain('http://10.0.0.1/');
    const { url } = await ended(kind, 'redirecting_inside');
    const { status, headers } = await fetch(url, { redirect: 'manual' });
    expect([status, headers.get('location')?.startsWith('http://169.254.169.254/')]).toEqual([302, true]);
  });

  it('leads by a redirect to the file', async () => {
    const { url, double } = await ended(kind, 'redirecting_file');
    expect((await fetch(url, { redirect: 'manual' })).status).toBe(302);
    expect((await fetch(url)).status).toBe(200);
    expect(double.fileLog.map(({ status }) => status)).toEqual([302, 302, 200]);
  });

  it('loses what it made', async () => {
    const double = await start(kind);
    double.faults.next('result_gone');
    const { submit, question, ask } = caller(kind, double);
    const submitted = await submit();
    if (!TONGUES[kind].poll) expect((await fetch(links(double, submitted)[0] ?? '')).status).toBe(404);
    else {
      for (let i = 0; i < 2; i++) await ask(question(submitted));
      const { status, body } = await ask(TONGUES[kind].outcome?.(submitted.body) ?? question(submitted));
      if (kind === 'replicate') expect([body.data_removed, body.output]).toEqual([true, null]);
      else if (kind === 'bfl') expect(body.status).toBe('Task not found');
      else expect(status).toBe(404);
    }
    expect(double.paid).toHaveLength(1);
  });
});

describe.each(['openai', 'gemini', 'stability'] as const)('%s, whose pictures are in the answer,', (kind) => {
  it('cuts the answer short', async () => {
    const double = await start(kind);
    double.faults.next('truncated_file');
    await expect(caller(kind, double).submit()).rejects.toThrow();
    expect(double.paid).toHaveLength(1);
  });

  it('drips the answer, until the double is closed', async () => {
    const clock = new ManualClock();
    const double = await start(kind, { clock });
    double.faults.next('slow_drip', { ms: 10 });
    const answer = caller(kind, double).submit();
    await until(() => clock.pending > 0, 'the first byte');
    await Promise.all([expect(answer).rejects.toThrow(), double.close()]);
    expect(clock.pending).toBe(0);
  });

  it('knows no faults of links and polls', async () => {
    const double = await start(kind);
    expect(() => double.faults.on('expired_url')).toThrow(RangeError);
    expect(() => double.faults.on('poll_500')).toThrow(RangeError);
  });
});

it('an imitator of OpenAI gives links or base64, as asked', async () => {
  const double = await start('openai', { local: true });
  const { submit } = caller('openai', double);
  const linked = await submit({ seed: 7, steps: 4, size: '512x512' });
  const [url = ''] = links(double, linked);
  expect((await sharp(Buffer.from(await (await fetch(url)).arrayBuffer())).metadata()).width).toBe(512);
  expect(inline(await submit({ response_format: 'b64_json' }))).toHaveLength(2);
  double.faults.next('result_on_private_address');
  expect((await submit()).text).toContain('http://10.0.0.1/');
});

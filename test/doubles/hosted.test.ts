// How the hosted doubles behave: each provider's own way from a request to a file, its own words of refusal, and what
// each switch does. The evidence is `paid`, and a file host that must never be shown a key.

import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../harness/manual-clock.ts';
import { caller, fetchAll, form, inline, links, PROMPT, TONGUES } from './hosted/caller.ts';
import type { HostedFault } from './hosted/faults.ts';
import {
  HOSTED_KINDS,
  type HostedDouble,
  type HostedKind,
  type HostedOptions,
  type Pace,
  startHosted,
} from './hosted/hosted.ts';

const started: HostedDouble[] = [];
const start = async (kind: HostedKind, options: HostedOptions = {}) => {
  const double = await startHosted(kind, options);
  started.push(double);
  return double;
};
afterEach(async () => {
  for (const double of started.splice(0)) await double.close();
});

const POLLED = HOSTED_KINDS.filter((kind) => TONGUES[kind].poll);
const LINKED = HOSTED_KINDS.filter((kind) => !['openai', 'gemini', 'stability'].includes(kind));
const EXPECTED: Partial<Record<HostedKind, number>> = { replicate: 2, fal: 2, openai: 2, ideogram: 2, together: 2 };
const CLIPS: readonly HostedKind[] = ['luma', 'runway'];

describe.each(HOSTED_KINDS)('%s', (kind) => {
  it('leads from a request to real files, bills once and sees no key at the file host', async () => {
    const double = await start(kind);
    const reply = await caller(kind, double).run();
    expect(reply.status).toBe(200);
    const files = [
      ...inline(reply).map((text) => Buffer.from(text, 'base64')),
      ...(await fetchAll(links(double, reply))),
    ];
    expect(files).toHaveLength(EXPECTED[kind] ?? 1);
    for (const file of files) {
      if (CLIPS.includes(kind)) expect(file.subarray(4, 8).toString()).toBe('ftyp');
      else expect((await sharp(file).metadata()).width).toBeGreaterThan(0);
    }
    expect(new Set(files.map((file) => file.toString('base64'))).size).toBe(files.length);
    expect(double.paid.map(({ prompt }) => prompt)).toEqual([PROMPT]);
    expect(double.jobs.map(({ state }) => state)).toEqual(['succeeded']);
    expect(double.fileLog.map(({ keys }) => keys)).toEqual(LINKED.includes(kind) ? files.map(() => ({})) : []);
  });

  it('notes requests with their bodies and without their keys', async () => {
    const double = await start(kind, { key: 'sk-very-secret' });
    await caller(kind, double).submit();
    const [entry] = double.log.filter((one) => one.what === 'request');
    expect(JSON.stringify(entry?.body)).toContain(PROMPT);
    expect(JSON.stringify(double.log)).not.toContain('sk-very-secret');
  });

  const AUTH = { gemini: 400, bfl: 403 } as Partial<Record<HostedKind, number>>;
  it('turns a wrong key away, and nothing is begun', async () => {
    const double = await start(kind);
    expect((await caller(kind, double, 'wrong').submit()).status).toBe(AUTH[kind] ?? 401);
    double.faults.next('auth');
    expect((await caller(kind, double).submit()).status).toBe(AUTH[kind] ?? 401);
    expect(double.paid).toEqual([]);
  });

  it('refuses in its own words, and nothing is begun', async () => {
    const double = await start(kind);
    const { submit } = caller(kind, double);
    const seen: Record<string, unknown> = {};
    for (const fault of ['balance', 'model_gone', 'submit_500', 'rate_limited', 'rate_limited_silent'] as const) {
      double.faults.next(fault, { ms: 7000 });
      const { status, headers } = await submit();
      seen[fault] = [status, headers.get('retry-after')];
    }
    const balance = { fal: 403, openai: 429, gemini: 429, luma: 400, runway: 400 } as Partial<
      Record<HostedKind, number>
    >;
    expect(seen).toEqual({
      balance: [balance[kind] ?? 402, null],
      model_gone: [404, null],
      submit_500: [500, null],
      rate_limited: [429, '7'],
      rate_limited_silent: [429, null],
    });
    expect(double.paid).toEqual([]);
  });

  it('can take a job and hang up, or hang up before it takes one', async () => {
    const double = await start(kind);
    double.faults.next('drop_before');
    await expect(caller(kind, double).submit()).rejects.toThrow();
    expect(double.paid).toHaveLength(0);
    double.faults.next('accept_then_drop');
    await expect(caller(kind, double).submit()).rejects.toThrow();
    expect(double.paid).toHaveLength(1);
  });

  it.each([
    ['error_html', 502],
    ['error_html_200', 200],
  ] as const)('%s: takes the job and answers with a page', async (fault, code) => {
    const double = await start(kind);
    double.faults.next(fault);
    const { status, text } = await caller(kind, double).submit();
    expect([status, text.startsWith('<!DOCTYPE html>'), double.paid.length]).toEqual([code, true, 1]);
  });

  it('fails without saying why, and can end without a picture', async () => {
    const double = await start(kind);
    const { run } = caller(kind, double);
    double.faults.next('failed_opaque');
    const failed = await run();
    expect(inline(failed).concat(links(double, failed))).toEqual([]);
    expect(double.jobs.at(-1)?.state).toBe('failed');
    double.faults.next('zero_images');
    const empty = await run();
    expect([empty.status, inline(empty).concat(links(double, empty)).length]).toEqual([200, 0]);
    expect(double.paid).toHaveLength(2);
  });

  it('declares half a gigabyte and goes on sending', async () => {
    const double = await start(kind);
    double.faults.next('huge_image');
    const { submit, follow } = caller(kind, double);
    const { keyHeader, more, path, form: isForm, body } = TONGUES[kind];
    const linked = LINKED.includes(kind);
    const url = linked ? (links(double, await follow(await submit()))[0] ?? '') : `${double.url}${path}`;
    const headers = { [keyHeader[0]]: `${keyHeader[1]}${double.key}`, ...more };
    const response = await fetch(
      url,
      linked ? {} : { method: 'POST', headers, body: isForm ? form(body) : JSON.stringify(body) },
    );
    expect(response.headers.get('content-length')).toBe(String(500 * 1024 * 1024));
    let read = 0;
    for await (const chunk of response.body ?? []) {
      read += chunk.length;
      if (read > 8_000_000) break;
    }
    expect(read).toBeGreaterThan(8_000_000);
  });
});

describe('asking after a job', () => {
  it.each(POLLED)('%s: each spoiled poll is spoiled once, and no job is begun anew', async (kind) => {
    const double = await start(kind);
    const { submit, question, ask, follow } = caller(kind, double);
    const submitted = await submit();
    const poll = () => ask(question(submitted));
    double.faults.next('reset_on_poll');
    await expect(poll()).rejects.toThrow();
    for (const [fault, code] of [
      ['poll_500', 500],
      ['poll_503_retry_after', 503],
      ['poll_429', 429],
    ] as const) {
      double.faults.next(fault, { ms: 3000 });
      const { status, headers } = await poll();
      expect([status, headers.get('retry-after')]).toEqual([code, code === 500 ? null : '3']);
    }
    double.faults.next('error_html');
    expect((await poll()).status).toBe(502);
    expect((await follow(submitted)).status).toBe(200);
    expect(double.paid).toHaveLength(1);
  });

  it.each(POLLED)('%s: a state nobody knows, another id, an answer that lags, a job that never ends', async (kind) => {
    const double = await start(kind);
    const { submit, question, ask, follow } = caller(kind, double);
    double.faults.next('unknown_status');
    const odd = await submit();
    expect((await ask(question(odd))).text).toMatch(/hibernating/i);
    expect((await follow(odd)).status).toBe(200);
    double.faults.next('wrong_id');
    const other = await submit();
    expect((await ask(question(other))).text).not.toMatch(
      new RegExp(`"(id|request_id|generation_id)":"${double.jobs.at(-1)?.id}"`),
    );
    double.faults.next('late_result');
    const late = await submit();
    const first = await ask(question(late));
    expect(kind === 'bfl' ? first.body.status : first.status).toBe(kind === 'bfl' ? 'Task not found' : 404);
    await ask(question(late));
    expect((await follow(late)).status).toBe(200);
    double.faults.next('stuck');
    await expect(follow(await submit())).rejects.toThrow('did not end');
  });

  it.each(['replicate', 'fal', 'bfl'] as const)(
    '%s: links for asking can lead to another origin, which sees who sends a key there',
    async (kind) => {
      const double = await start(kind);
      const { submit, question, ask } = caller(kind, double);
      double.faults.next('foreign_poll_url');
      const url = question(await submit());
      expect(url.startsWith(double.fileUrl)).toBe(true);
      await ask(url);
      expect(double.fileLog.map(({ keys }) => Object.keys(keys))).toEqual([[TONGUES[kind].keyHeader[0]]]);
    },
  );

  it.each(POLLED)('%s: time moves a job on the clock', async (kind) => {
    const clock = new ManualClock();
    const pace: Pace = { queuedMs: 1000, runningMs: 4000 };
    const double = await start(kind, { clock, pace });
    const { submit, question, ask } = caller(kind, double);
    const submitted = await submit();
    for (const [ms, state] of [
      [0, 'queued'],
      [1000, 'running'],
      [4000, 'succeeded'],
    ] as const) {
      await clock.advance(ms);
      await ask(question(submitted));
      expect(double.jobs[0]?.state).toBe(state);
    }
  });
});

describe('moderation', () => {
  const said = async (kind: HostedKind, fault: HostedFault) => {
    const double = await start(kind);
    double.faults.next(fault);
    const reply = await caller(kind, double).run();
    return { ...reply, double, paid: double.paid.length, pictures: inline(reply).concat(links(double, reply)).length };
  };

  it.each([
    ['replicate', 200, /flagged as sensitive.*\(E005\)/, 1],
    ['fal', 422, /"type":"content_policy_violation"/, 1],
    ['bfl', 200, /"status":"Request Moderated","result":null/, 1],
    ['openai', 400, /"code":"moderation_blocked".*"moderation_stage":"input"/, 0],
    ['gemini', 200, /"blockReason":"PROHIBITED_CONTENT"/, 0],
    ['ideogram', 422, /failed the safety checks/, 0],
    ['stability', 403, /"name":"content_moderation"/, 0],
    ['together', 422, /NSFW/, 0],
    ['luma', 400, /moderation/, 0],
    ['runway', 200, /"failureCode":"SAFETY\.INPUT\.TEXT"/, 1],
  ] as const)('%s refuses the input with %i', async (kind, code, words, billed) => {
    const { status, text, paid, pictures } = await said(kind, 'moderation_input');
    expect([status, paid, pictures]).toEqual([code, billed, 0]);
    expect(text).toMatch(words);
  });

  it.each([
    ['replicate', 200, /"error":"All generated images contained NSFW content/, 0],
    ['fal', 200, /"has_nsfw_concepts":\[true,true\]/, 2],
    ['bfl', 200, /"status":"Content Moderated"/, 0],
    ['openai', 400, /"moderation_stage":"output"/, 0],
    ['gemini', 200, /"finishReason":"IMAGE_SAFETY"/, 0],
    ['ideogram', 200, /"url":null.*"is_image_safe":false/, 0],
    ['stability', 200, /"finish_reason":"CONTENT_FILTERED"/, 1],
    ['together', 200, /"data":\[\]/, 0],
    ['luma', 200, /"state":"failed","failure_reason":"[^"]*moderation"/, 0],
    ['runway', 200, /"failureCode":"SAFETY\.OUTPUT/, 0],
  ] as const)('%s withholds the output with %i, billed', async (kind, code, words, shown) => {
    const { status, text, paid, pictures } = await said(kind, 'moderation_output');
    expect([status, paid, pictures]).toEqual([code, 1, shown]);
    expect(text).toMatch(words);
  });

  it.each(['replicate', 'openai', 'ideogram', 'together'] as const)('%s withholds one of two', async (kind) => {
    expect(await said(kind, 'moderation_partial')).toMatchObject({ status: 200, paid: 1, pictures: 1 });
  });

  it('fal blanks one of two', async () => {
    expect((await said('fal', 'moderation_partial')).body.has_nsfw_concepts).toEqual([false, true]);
  });
});

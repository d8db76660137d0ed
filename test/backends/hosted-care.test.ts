// What goes wrong between us and a provider without being anybody's last word: no connection, a busy minute, a stray refusal
// of a question, a stop in the middle. Against stand-ins, and against a server that says exactly what it is told to.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type RunEvent, wasAsked } from '../../src/backends/backend.ts';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { fal } from '../../src/backends/fal/provider.ts';
import { gemini } from '../../src/backends/gemini/provider.ts';
import { connectAccount } from '../../src/backends/hosted/account.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import { ideogram } from '../../src/backends/ideogram/provider.ts';
import { luma } from '../../src/backends/luma/provider.ts';
import { openai } from '../../src/backends/openai/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { runway } from '../../src/backends/runway/provider.ts';
import { stability } from '../../src/backends/stability/provider.ts';
import { together } from '../../src/backends/together/provider.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { until } from '../harness/manual-clock.ts';
import { endOf, forever, openAccount, type Stage } from './hosted-account.ts';

const SCHNELL = 'black-forest-labs/flux-schnell';
const seedsOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === 'file' ? [event.file.seed] : []));

const servers: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

type Said = readonly [status: number, body: unknown];
/** Says these in turn, and the last one for ever; text that is no JSON as it is. */
async function saying(provider: Provider, stage: Stage, said: readonly Said[], token = 'a-key') {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    request.resume();
    const [status, body] = said[Math.min(asked.push(request.method ?? ''), said.length) - 1] ?? [500, ''];
    response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const spec = { id: 'said', kind: provider.kind, url, labels: [], auth: null, slots: 1, token };
  return { asked, connection: connectAccount(provider)({ spec, system: stage.system, scratch: '/nowhere' }) };
}

const BEGUN: Said = [200, { id: 't1' }];
const READY: Said = [200, { id: 't1', status: 'Ready', result: { sample: 'http://127.0.0.1:1/x.png' } }];

describe('a provider that cannot be reached', () => {
  it('is tried three times, each later than the one before', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    await stage.double.down();
    const ran = await stage.run(stage.job());
    expect(ran).toMatchObject({ refused: true, failure: { code: 'node_lost' } });
    expect(ran.failure?.possiblyBilled).toBeUndefined();
    expect(stage.clock.slept.map((ms) => Math.floor(ms / 1000))).toEqual([1, 2]);
  });
});

describe('a busy minute', () => {
  const throttled = (retry_after: number): Said => [
    429,
    { detail: 'Request was throttled.', status: 429, retry_after },
  ];
  const prediction = (status: string): Said => [200, { id: 'p1', status, output: ['http://127.0.0.1:1/x.png'] }];

  it('is waited out as long as only the words of the answer ask for', async () => {
    const stage = await openAccount(replicate, SCHNELL);
    const said = [throttled(12), prediction('starting'), throttled(9), prediction('succeeded')];
    const { asked, connection } = await saying(replicate, stage, said);
    expect((await endOf(connection.run(stage.job(), forever))).failure).toBeNull();
    expect(asked).toEqual(['POST', 'POST', 'GET', 'GET']);
    expect(stage.clock.slept.map((ms) => Math.floor(ms / 1000))).toEqual([13, 0, 9]);
  });

  it('is none where they ask for more than half a minute', async () => {
    const stage = await openAccount(replicate, SCHNELL);
    const { asked, connection } = await saying(replicate, stage, [throttled(31)]);
    const ran = await endOf(connection.run(stage.job(), forever));
    expect(ran).toMatchObject({ refused: true, failure: { code: 'rate_limited', retryAfterSeconds: 31 } });
    expect(asked).toEqual(['POST']);
  });

  it('leaves nothing behind that looks like a job: whoever takes it up asks', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    stage.double.faults.next('rate_limited', { ms: 5_000 });
    const remote = await stage.killedAfter(stage.job(), 'intent', 2);
    expect(stage.double.paid).toHaveLength(0);
    expect((await stage.resume(stage.job(), remote)).failure).toBeNull();
    expect(stage.double.paid).toHaveLength(1);
  });
});

describe('a question that is refused', () => {
  const passing: readonly Said[] = [
    [408, { detail: 'slow' }],
    [425, ''],
    [403, '<html>a proxy</html>'],
    [403, { detail: 'x' }],
    [401, {}],
  ];
  it.each(passing)('once says nothing about the job (%i %j)', async (status, body) => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const { connection } = await saying(bfl, stage, [BEGUN, [status, body], READY]);
    expect((await endOf(connection.run(stage.job(), forever))).failure).toBeNull();
  });
});

describe('a job in parts', () => {
  it('is asked for no further once the prompt was refused', async () => {
    const stage = await openAccount(gemini, 'gemini-2.5-flash-image');
    stage.double.faults.on('moderation_input');
    const ran = await stage.run(stage.job({ n: 4 }));
    expect(ran).toMatchObject({ refused: false, failure: { code: 'policy_block' } });
    expect(stage.requests('POST')).toHaveLength(1);
  });

  it.each([
    ['in the answer itself', gemini, 'gemini-2.5-flash-image'],
    ['later', { ...fal, most: () => 1 }, 'fal-ai/flux/dev'],
  ] as const)('that was withheld is that, whatever befell the parts after it (%s)', async (_, provider, remote) => {
    const stage = await openAccount(provider, remote);
    stage.double.faults.next('moderation_output');
    let intents = 0;
    const run = async () => {
      for await (const event of stage.connection.run(stage.job({ n: 2 }), forever))
        if (event.type === 'intent' && ++intents === 2) stage.double.faults.on('rate_limited');
    };
    await expect(run()).rejects.toMatchObject({ failure: { code: 'safety_filter' } });
  });

  it('delivers what was asked, and asks no more, when its route left the catalog over a restart', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const job = stage.job({ n: 2 });
    const remote = await stage.killedAfter(job, 'accepted', 1);
    const ran = await stage.resume({ ...job, route: { ...job.route, remote: null } }, remote);
    expect(ran.failure).toBeNull();
    expect(ran.events.filter((event) => event.type === 'file')).toHaveLength(1);
    expect(stage.requests('POST')).toHaveLength(1);
  });

  it('tells the seed of each picture, also where others were withheld', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    stage.double.faults.next('moderation_output');
    expect(seedsOf((await stage.run(stage.job({ n: 3, seed: 7 }))).events).toSorted()).toEqual([8, 9]);
  });

  it('tells the seed by the place among all that one call made', () => {
    const reply = (body: unknown) => ({ status: 200, header: () => null, body });
    const images = [{ url: 'https://fal.media/a' }, { url: 'https://fal.media/b' }];
    const call = { method: 'GET', path: '/x' } as const;
    expect(fal.polled?.(reply({ images, has_nsfw_concepts: [true, false] }), {}, call)).toMatchObject({
      results: [{ place: 1 }],
    });
    const data = [
      { url: null, is_image_safe: false },
      { url: 'https://ideogram.ai/b', is_image_safe: true },
    ];
    const body = { generation_id: 'g', status: 'completed', data };
    expect(ideogram.polled?.(reply(body), { id: 'g' }, call)).toMatchObject({ results: [{ place: 1 }] });
  });

  it('that was refused in a later part is so after a restart too, and nothing is possibly billed', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    let remote = {};
    let intents = 0;
    for await (const event of stage.connection.run(stage.job({ n: 3 }), forever)) {
      if (event.type === 'intent' || event.type === 'accepted') remote = structuredClone(event.remote);
      if (event.type === 'intent' && ++intents === 2) stage.double.faults.next('balance');
      if (event.type === 'progress') break;
    }
    const ran = await stage.resume(stage.job({ n: 3 }), remote);
    expect(ran.failure).toBeNull();
    expect(seedsOf(ran.events)).toEqual([7]);
    expect(ran.warnings).toEqual([
      '2 of the pictures asked for are missing: The account at the provider is out of money.',
    ]);
    expect(stage.requests('POST')).toHaveLength(2);
  });

  it.each([
    ['by the provider', bfl, 'flux-pro-1.1', 'model_gone', 'model_gone', true],
    ['for its prompt', ideogram, 'ideogram-3', 'moderation_input', 'policy_block', false],
    ['in an answer that says "done"', gemini, 'gemini-2.5-flash-image', 'moderation_input', 'policy_block', false],
    ['after it was made', gemini, 'gemini-2.5-flash-image', 'moderation_output', 'safety_filter', false],
    ['with an error', openai, 'gpt-image-1.5', 'moderation_output', 'safety_filter', false],
  ] as const)('that was refused %s is so for whoever takes it up', async (_, provider, model, fault, code, refused) => {
    const stage = await openAccount(provider, model);
    stage.double.faults.next(fault);
    const remote = await stage.killedAfter(stage.job(), 'intent', 2);
    const posts = stage.requests('POST').length;
    const ran = await stage.resume(stage.job(), remote);
    expect(ran).toMatchObject({ refused, failure: { code } });
    expect(ran.failure?.possiblyBilled).toBeUndefined();
    expect(wasAsked(remote)).toBe(!refused);
    expect(stage.requests('POST')).toHaveLength(posts);
  });

  it('needs its input picture no more once everything was asked', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const remote = await stage.killedAfter(stage.job(), 'accepted');
    const gone = { role: 'init_image', path: '/nowhere/x.png', mediaType: 'image/png', sha256: '', bytes: 1 } as const;
    expect((await stage.resume(stage.job({}, { files: [gone] }), remote)).failure).toBeNull();
  });

  it('is asked after whole while one part hangs, and what the others made is handed over as soon as it is there', async () => {
    const stop = new AbortController();
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    stage.double.faults.next('stuck');
    const events: RunEvent[] = [];
    const run = async () => {
      for await (const event of stage.connection.run(stage.job({ n: 3, seed: 7 }), stop.signal)) events.push(event);
    };
    const running = run();
    running.catch(() => {});
    await until(() => seedsOf(events).length === 2, 'two of three pictures');
    expect(seedsOf(events).toSorted()).toEqual([8, 9]);
    expect(events.map(({ type }) => type)).not.toContain('rendered');
    stop.abort(new GatewayError('run_timeout'));
    await expect(running).rejects.toMatchObject({ failure: { code: 'run_timeout' } });
  });

  it('is asked after no more, in any part, once the run was dropped', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    stage.double.faults.on('stuck', { times: 3 });
    await stage.killedAfter(stage.job({ n: 3 }), 'progress', 6); // all have told that they wait, and that they run
    const polls = () => stage.double.jobs.slice(0, 3).map((one) => one.polls);
    await stage.run(stage.job()); // by then what was on its way has arrived
    const before = polls();
    await stage.run(stage.job());
    expect(polls()).toEqual(before);
  });

  it('hands over no more than was asked for, whatever each part made', async () => {
    const twice: NonNullable<Provider['polled']> = (...about) => {
      const seen = bfl.polled?.(...about) ?? { state: 'unknown' };
      return seen.state === 'done' ? { ...seen, results: [...seen.results, ...seen.results] } : seen;
    };
    const stage = await openAccount({ ...bfl, polled: twice }, 'flux-pro-1.1');
    const ran = await stage.run(stage.job({ n: 3, seed: 7 }));
    expect(seedsOf(ran.events).toSorted()).toEqual([7, 8, 9]);
  });

  it('goes on by fractions that never fall', async () => {
    const stage = await openAccount(runway, 'gen4.5', { double: { pace: { queuedPolls: 1, runningPolls: 3 } } });
    const { events } = await stage.run(stage.job({ n: 3 }, { kind: 'video' }));
    const fractions = events.flatMap((event) => (event.type === 'progress' ? [event.fraction] : []));
    expect(fractions.length).toBeGreaterThan(3);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
  });

  it('is cancelled whole, although one of the cancels breaks down', async () => {
    const once = { ...replicate, most: () => 1 };
    const stage = await openAccount(once, SCHNELL);
    const remote = await stage.killedAfter(stage.job({ n: 2 }), 'accepted', 2);
    let first = true;
    const cancel: Provider['cancel'] = (reference) => {
      if (first) {
        first = false;
        throw new Error('broken');
      }
      return replicate.cancel?.(reference) ?? { method: 'GET', path: '/' };
    };
    const spec = {
      id: 'b',
      kind: once.kind,
      url: stage.double.url,
      labels: [],
      auth: null,
      slots: 1,
      token: stage.double.key,
    };
    const connection = connectAccount({ ...once, cancel })({ spec, system: stage.system, scratch: '/nowhere' });
    await expect(connection.cancel(remote, forever)).rejects.toThrow('broken');
    expect(stage.requests('POST').filter(({ path }) => path.endsWith('/cancel'))).toHaveLength(1);
  });
});

describe('a stop while the answer to the submit is out', () => {
  it('looks for the job in the list, and cancels it', async () => {
    const stop = new AbortController();
    const hold = (moment: string) => (moment === 'begun' ? new Promise<void>(() => {}) : Promise.resolve());
    const stage = await openAccount(replicate, SCHNELL, { double: { hold } });
    const events: unknown[] = [];
    let remote = {};
    const run = async () => {
      for await (const event of stage.connection.run(stage.job(), stop.signal)) {
        events.push(event);
        if (event.type === 'intent') remote = event.remote;
      }
    };
    const running = run();
    await until(() => stage.double.paid[0], 'the job');
    stop.abort(new GatewayError('cancelled_by_caller'));
    await expect(running).rejects.toMatchObject({ failure: { code: 'cancelled_by_caller' } });
    await stage.connection.cancel(remote, forever);
    expect(stage.double.log.map(({ what }) => what)).toContain('cancelled');
  });
});

describe('a length', () => {
  it.each([
    ['seconds', bfl, 'flux-pro-1.1'],
    ['duration', fal, 'fal-ai/kling-video'],
    ['seconds', replicate, 'minimax/video-01'],
    ['seconds', gemini, 'gemini-2.5-flash-image'],
  ] as const)(
    'that a provider cannot be told (%s) is no clip of another, which would be paid for',
    async (name, provider, model) => {
      const stage = await openAccount(provider, model);
      const ran = await stage.run(stage.job({ inputs: { [name]: 7 } }));
      expect(ran).toMatchObject({ refused: true, failure: { code: 'unsupported_input' } });
      expect(stage.requests()).toEqual([]);
    },
  );
});

describe('a refusal', () => {
  const refused = (provider: Provider, status: number, body: unknown) =>
    provider.refused({ status, header: () => null, body }, 'submit').code;

  it.each([
    ['openai', openai, 400, { error: { code: null, message: 'rejected as a result of our safety system' } }],
    ['together', together, 400, { error: { code: null, message: 'NSFW content detected' } }],
    ['bfl', bfl, 422, { detail: 'Request was moderated' }],
    ['gemini', gemini, 400, { error: { status: 'INVALID_ARGUMENT', message: 'violates our safety policies' } }],
    ['stability', stability, 400, { name: 'bad_request', errors: ['flagged by our content moderation system'] }],
    ['replicate', replicate, 422, { detail: 'The input was flagged as sensitive (E005)' }],
    ['fal', fal, 400, { detail: 'content policy' }],
  ] as const)('of the prompt in words only goes to no other route (%s)', (_, provider, status, body) => {
    expect(refused(provider, status, body)).toBe('safety_filter');
  });

  it('of a parameter is none of the prompt, whatever the prompt says', () => {
    expect(refused(bfl, 422, { detail: [{ loc: ['safety_tolerance'], msg: 'too large', input: 'nsfw' }] })).toBe(
      'unsupported_input',
    );
  });

  it.each([
    ['luma', luma, { detail: 'Prompt moderation failed; no credits were charged' }],
    ['runway', runway, { error: 'Flagged by content moderation, your balance is unchanged' }],
  ] as const)('of the prompt that mentions money is one of the prompt (%s)', (_, provider, body) => {
    expect(refused(provider, 400, body)).toBe('policy_block');
  });

  it.each([bfl, fal, luma, openai, replicate, runway, stability, together])(
    'of one model is none of the key ($kind)',
    (provider) => {
      expect(refused(provider, 403, { error: { message: 'no access to this model' } })).toBe('model_gone');
      expect(refused(provider, 403, { error: { message: 'Invalid API key' } })).toBe('provider_auth');
    },
  );

  it('that echoes the key does not get it into the log', async () => {
    const stage = await openAccount(bfl, 'flux-pro-1.1');
    const { connection } = await saying(
      bfl,
      stage,
      [[401, { detail: `${'x'.repeat(290)} a-long-secret-key is wrong` }]],
      'a-long-secret-key',
    );
    expect((await endOf(connection.run(stage.job(), forever))).failure?.code).toBe('provider_auth');
    expect(stage.warned.join()).toContain('xxx');
    expect(stage.warned.join()).not.toContain('a-long');
  });
});

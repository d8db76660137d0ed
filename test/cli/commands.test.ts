// Making, finding and paying from a shell: what lands on stdout, what on stderr, which files are there afterwards and
// what the exit status says.

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { INSTEAD } from '../../src/cli/spoken.ts';
import { FAILURES } from '../../src/domain/failure.ts';
import type { Darkroom } from '../../src/main.ts';
import { startSdapi } from '../doubles/sdapi/server.ts';
import { until } from '../harness/manual-clock.ts';
import { ADMIN, type Bench, createBench, type Ended, openTestGateway } from './command.ts';

let bench: Bench;
let darkroom: Darkroom;
let env: Record<string, string>;
beforeAll(async () => {
  bench = await createBench();
  darkroom = await openTestGateway(bench.folder);
  env = { DARKROOM_URL: darkroom.url, DARKROOM_KEY: ADMIN };
});
afterAll(async () => {
  await darkroom?.stop();
  await bench?.[Symbol.asyncDispose]();
});

const run = (...args: string[]): Promise<Ended> => bench.run(args, env);
const read = (path: string) => readFile(join(bench.folder, path));

describe('darkroom generate', () => {
  it('saves the picture under a name that speaks and prints where, with model, seed and credits', async () => {
    const { code, stdout, stderr } = await run('generate', 'A lighthouse, at dawn!', '--seed', '7', '--out', 'shots');
    expect(stdout).toMatch(
      /^shots\/a-lighthouse-at-dawn-7\.png\n {2}sketch, seed 7, 64x64, .*2 credits, gen_\w{26}\n$/,
    );
    expect(stderr).toContain('A lighthouse, at dawn!');
    expect(code).toBe(0);
    const { width, height } = await sharp(await read('shots/a-lighthouse-at-dawn-7.png')).metadata();
    expect([width, height]).toEqual([64, 64]);
  });
  it('never overwrites: a name that is taken gets a number', async () => {
    await writeFile(join(bench.folder, 'mine-1.png'), 'precious');
    await run('generate', 'mine', '--seed', '1');
    const { stdout } = await run('generate', 'mine', '--seed', '1', '--json');
    expect(String(await read('mine-1.png'))).toBe('precious');
    expect(JSON.parse(stdout).files).toEqual([join(bench.folder, 'mine-1-2.png')]);
    expect((await read('mine-1-1.png')).length).toBeGreaterThan(100);
  });
  it('hands every option over as the request field it stands for', async () => {
    const options =
      '--size 128x64 --steps 3 --n 2 --seed 5 --format webp --metadata ticket=MKT-1 --metadata shot=4 --priority batch --max-credits 9';
    const { json, code } = await run('generate', 'all', ...options.split(' '), '--json');
    expect(code).toBe(0);
    expect(json()).toMatchObject({
      status: 'succeeded',
      width: 128,
      height: 64,
      steps: 3,
      n: 2,
      seed: 5,
      priority: 'batch',
      metadata: { ticket: 'MKT-1', shot: '4' },
      credits_charged: 4,
      files: [join(bench.folder, 'all-5.webp'), join(bench.folder, 'all-6.webp')],
    });
  });
  it('uploads a picture of this machine that it is to start from', async () => {
    await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
      .png()
      .toFile(join(bench.folder, 'start.png'));
    const { json } = await run('generate', 'again', '--init-image', 'start.png', '--strength', '0.5', '--json');
    expect(json()).toMatchObject({ status: 'succeeded', strength: 0.5 });
  });
  it('copies what is not given from a finished one', async () => {
    const first = (await run('generate', 'twin', '--seed', '9', '--json')).json();
    const second = (await run('generate', '--from', first.id, '--json')).json();
    expect(second).toMatchObject({ prompt: 'twin', seed: 9 });
  });
  it('with --no-wait prints the id alone, which get then waits for and saves', async () => {
    const asked = await run('generate', 'later [[slow:1]]', '--seed', '3', '--no-wait', '--out', 'fetched');
    expect(asked.stdout).toMatch(/^gen_\w{26}\n$/);
    expect(asked.stderr).toContain(`darkroom get ${asked.stdout.trim()} --wait --out fetched\n`);
    const got = await run('get', asked.stdout.trim(), '--wait', '--out', 'fetched');
    expect(got.code).toBe(0);
    expect(await readdir(join(bench.folder, 'fetched'))).toEqual(['later-3.png']);
  });
  it('a generation that fails is told with reason and advice, and is status 1', async () => {
    const { code, stdout, stderr } = await run('generate', 'x [[fail:safety_filter]]');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/failed \(safety_filter\): .+\n.*Soften the prompt/);
    const again = await run('generate', 'x [[fail:safety_filter]]', '--json');
    expect(again.code).toBe(1);
    expect(again.json()).toMatchObject({ status: 'failed', error: { code: 'safety_filter' }, files: [] });
  });
  it('Ctrl-C leaves the work to the gateway and says how to get or cancel it', async () => {
    const asked = bench.start(['generate', 'long [[slow:30]]'], env);
    await until(() => asked.stderr.includes('queued'), 'the id');
    asked.interrupt();
    const { code, stdout, stderr } = await asked.ended;
    const id = /darkroom cancel (gen_\w{26})/.exec(stderr)?.[1] as string;
    expect([code, stdout]).toEqual([130, '']);
    expect(stderr).toContain(`darkroom get ${id} --wait`);
    expect((await run('get', id, '--json')).json().status).toMatch(/queued|running/);
    expect((await run('cancel', id, '--json')).json().data).toMatchObject([{ id, status: 'cancelled' }]);
  });
  it('Ctrl-C with --json still prints one document: the generation as it was last seen', async () => {
    const asked = bench.start(['generate', 'long [[slow:30]]', '--json'], env);
    await until(() => asked.stderr.includes('queued'), 'the id');
    asked.interrupt();
    const { code, json } = await asked.ended;
    expect([code, json().id]).toEqual([130, expect.stringMatching(/^gen_/)]);
    await run('cancel', json().id);
  });
  it('asks for nothing that it could not save', async () => {
    const before = (await run('list', '--json')).json().data[0]?.id;
    expect(await run('generate', 'x', '--out', 'shot.png')).toMatchObject({ code: 2, stdout: '' });
    expect(await run('generate', 'x', '--out', 'start.png/sub')).toMatchObject({ code: 2 });
    expect((await run('list', '--json')).json().data[0]?.id).toBe(before);
  });
});

describe('when it does not work', () => {
  it('one of several that cannot be cancelled keeps the others from nothing, and says why as the contract does', async () => {
    const { id } = (await run('generate', 'long [[slow:30]]', '--no-wait', '--json')).json();
    const { code, json } = await run('cancel', 'gen_none', id, '--json');
    expect(code).toBe(2);
    expect(json().data).toMatchObject([
      { id: 'gen_none', error: { code: 'not_found', retryable: false } },
      { id, status: 'cancelled' },
    ]);
  });
  const wrong: readonly (readonly [string, number, string[], Record<string, string>, string])[] = [
    ['a wrong option', 2, ['list', '--bogus'], {}, 'invalid_request'],
    ['an unknown command', 2, ['genrate'], {}, 'invalid_request'],
    ['a value that is none', 2, ['generate', 'x', '--seed', 'abc'], {}, 'invalid_request'],
    ['nothing to make', 2, ['generate'], {}, 'invalid_request'],
    ['a picture that is not there', 2, ['generate', 'x', '--init-image', 'nowhere.png'], {}, 'invalid_request'],
    ['an unknown model', 2, ['generate', 'x', '--model', 'sketchy'], {}, 'unknown_model'],
    ['an unknown id', 2, ['get', 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0'], {}, 'not_found'],
    ['an address that is none', 2, ['credits', '--url', 'localhost:1'], {}, 'invalid_request'],
    ['a stream as a document', 2, ['watch'], {}, 'invalid_request'],
    ['a wrong key', 3, ['credits'], { DARKROOM_KEY: 'dk_wrong' }, 'unauthenticated'],
    ['no key', 3, ['credits'], { DARKROOM_KEY: '' }, 'unauthenticated'],
    ['nobody there', 4, ['credits'], { DARKROOM_URL: 'http://127.0.0.1:9' }, 'unreachable'],
    ['nobody there and no key', 4, ['list'], { DARKROOM_URL: 'http://127.0.0.1:9', DARKROOM_KEY: '' }, 'unreachable'],
    ['more than it may cost', 1, ['generate', 'x', '--max-credits', '1'], {}, 'budget_exceeded'],
  ];
  it.each(wrong)(
    '%s is status %i, one document with --json and a sentence without',
    async (_, status, args, more, error) => {
      const [document, sentence] = await Promise.all([
        bench.run([...args, '--json'], { ...env, ...more }),
        bench.run([...args, ...(args[0] === 'watch' ? ['--json'] : [])], { ...env, ...more }),
      ]);
      expect([document.code, sentence.code]).toEqual([status, status]);
      expect(document.json().error).toMatchObject({ code: error, message: expect.stringMatching(/\S/) });
      expect(document.stderr).toBe('');
      if (args[0] !== 'watch') expect([sentence.stdout, sentence.stderr.length > 10]).toEqual(['', true]);
    },
  );
});

describe('what people are told', () => {
  const told: readonly (readonly [string[], string])[] = [
    [['models', 'sketsh'], 'There is no model sketsh. Did you mean sketch?\nSee what there is: darkroom models\n'],
    [['nodes', 'drain', 'nope'], 'There is no node "nope".\nSee what there is: darkroom nodes\n'],
    [['keys', 'create', 'x', '--scopes', 'all'], '--scopes: expected one of generate, read, webhooks, admin\n'],
    [['usage', '--by', 'moon'], '--by: expected '],
    [['generate', 'x', '--model', 'absent'], 'see "darkroom models absent".\n'],
    [
      ['credits', '--key', 'dk_wrong'],
      'Give another with --key or DARKROOM_KEY, or let it be remembered: darkroom login\n',
    ],
    [['webhooks', 'add', 'http://127.0.0.1:9/x'], 'allow_private: ["10.0.0.0/8"]'],
    [['credits', '--url', 'http://127.0.0.1:2'], 'No answer from http://127.0.0.1:2: nothing listens there.\n'],
    [['credits', '--url', 'http://gateway.invalid'], 'no machine of this name is known.\n'],
    [['credits', '--url', 'https:GATEWAY'], 'it speaks http, not https.\n'],
  ];
  it.each(told)('%j', async (args, sentence) => {
    const { stderr } = await run(...args.map((arg) => arg.replace('GATEWAY', new URL(darkroom.url).host)));
    expect(stderr).toContain(sentence);
    expect(stderr).not.toMatch(/\/v1\/|details|Authorization|ECONN|ENO/);
  });
  it('knows every advice by heart that it replaces', () => {
    const advices = Object.values(FAILURES).map((rule) => rule.advice);
    expect(advices).toEqual(expect.arrayContaining(Object.keys(INSTEAD)));
  });
});

describe('looking', () => {
  it('lists with filters, plainly and in columns when nobody sits there', async () => {
    await run('generate', 'seen\u001b[31m by \n tests', '--metadata', 'ticket=T-9', '--no-wait');
    const { stdout } = await run('list', '--metadata', 'ticket=T-9');
    const [head, row, ...more] = stdout.trimEnd().split('\n');
    expect(head).toMatch(/^ID {2,}STATUS {2,}MODEL/);
    expect(row?.indexOf('seen by tests')).toBe(head?.indexOf('PROMPT'));
    expect(more).toEqual([]);
    expect(stdout).not.toContain('\u001b');
  });
  it('an empty list says so beside it, and what to do next', async () => {
    expect(await run('list', '--status', 'timeout')).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'Nothing matches.\n',
    });
    expect((await run('webhooks', 'list')).stderr).toContain('darkroom webhooks add');
  });
  it('shows models, and why one cannot run', async () => {
    const { stdout } = await run('models');
    expect(stdout).toMatch(/sketch +yes/);
    expect(stdout).toMatch(/absent +no .*no comfyui node/);
    expect((await run('models', 'sketch', '--json')).json()).toMatchObject({ id: 'sketch', usable: true });
  });
  it('tells credits and usage', async () => {
    const credits = (await run('credits', '--json')).json();
    expect(credits.balance).toBeLessThan(1000);
    expect((await run('credits')).stdout).toMatch(/^available +[\d,.]+ credits \(\$/);
    const usage = await run('usage', '--by', 'metadata.ticket', '--from', '1d');
    expect(usage.stdout).toMatch(/METADATA\.TICKET +JOBS[\s\S]*MKT-1 +1 +2 +4[\s\S]*total/);
  });
  it('watches as lines, one object each with --ndjson, until Ctrl-C', async () => {
    const watching = bench.start(['watch', '--ndjson'], env);
    await until(() => watching.stdout.includes('"ready"'), 'the socket');
    const { id } = (await run('generate', 'watched', '--json')).json();
    await until(() => watching.stdout.includes('generation.succeeded'), 'the end');
    watching.interrupt();
    const { code, stdout } = await watching.ended;
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events.filter((e) => e.generation?.id === id).map((e) => e.event)).toEqual([
      'generation.queued',
      'generation.running',
      'generation.succeeded',
    ]);
    expect(code).toBe(130);
  });
});

describe('operating', () => {
  it('makes workspaces and keys, moves credits, and takes keys away again', async () => {
    const { id } = (await run('workspaces', 'create', 'night', '--credits', '5', '--json')).json();
    const key = (await run('keys', 'create', 'tool', '--workspace', id)).stdout.trim();
    expect(key).toMatch(/^dk_/);
    expect((await bench.run(['credits', '--json', '--key', key], env)).json().balance).toBe(5);
    expect((await run('workspaces', 'grant', id, '--json', '--', '-2')).json().balance).toBe(3);
    const listed = (await run('keys', '--workspace', id, '--json')).json().data;
    expect(JSON.stringify(listed)).not.toContain(key);
    expect((await bench.run(['nodes', '--key', key], env)).code).toBe(3);
    await run('keys', 'delete', String(listed[0]?.id), '--workspace', id);
    expect((await bench.run(['credits', '--key', key], env)).code).toBe(3);
    expect((await run('workspaces', 'delete', id)).code).toBe(0);
  });
  it('adds, drains, resumes and removes a node', async () => {
    const added = await run('nodes', 'add', 'rack-9', 'http://127.0.0.1:9', '--labels', 'big,fast', '--json');
    expect(added.json()).toMatchObject({ id: 'rack-9', status: 'offline', labels: ['big', 'fast'] });
    expect((await run('nodes', 'drain', 'rack-9', '--json')).json().status).toBe('draining');
    expect((await run('nodes', 'resume', 'rack-9', '--json')).json().status).toBe('offline');
    expect((await run('nodes')).stdout).toMatch(/rack-9 +offline/);
    expect((await run('nodes', 'remove', 'rack-9')).stdout).toBe('rack-9 is gone.\n');
  });
  it('a node that answers in another language is told with the command that adds it right', async () => {
    await using sd = await startSdapi();
    const { stdout, stderr } = await run('nodes', 'add', 'sd', sd.url);
    expect(stdout).toMatch(/sd +offline/);
    expect(stderr).toContain(`darkroom nodes remove sd && darkroom nodes add sd ${sd.url} --kind sdapi\n`);
    expect((await run('nodes', 'remove', 'sd')).code).toBe(0);
  });
  it('the key the gateway was started with stays', async () => {
    const [own] = (await run('keys', '--json')).json().data;
    const { code, stderr } = await run('keys', 'delete', String(own?.id));
    expect([code, stderr]).toEqual([2, expect.stringContaining('the admin key the gateway was started with')]);
  });
  it('adds a receiver, whose secret is all that stands on stdout', async () => {
    const { stdout, stderr } = await run('webhooks', 'add', 'https://tools.example.com/hook');
    const id = /Receiver (\S+)\./.exec(stderr)?.[1] as string;
    expect(stdout).toMatch(/^whsec_\S+\n$/);
    expect((await run('webhooks', 'rotate', id)).stdout).toMatch(/^whsec_\S+\n$/);
    expect((await run('webhooks', 'remove', id)).code).toBe(0);
  });
});

describe('help', () => {
  it('shows what a command takes of its own before what all take', async () => {
    for (const args of ['webhooks add', 'nodes add', 'keys create', 'workspaces create', 'list', 'watch']) {
      const { stdout } = await run(...args.split(' '), '--help');
      expect(stdout.match(/^(Options|Gateway):$/gm)).toEqual(['Options:', 'Gateway:']);
    }
  });
  it('names every command, each with examples or options of its own', async () => {
    const { stdout, code } = await run('--help');
    expect(code).toBe(0);
    for (const name of [
      'generate get list cancel batch watch models mcp login logout credits usage webhooks serve demo doctor nodes workspaces keys',
    ].flatMap((names) => names.split(' '))) {
      expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
  });
  it('says the version that a gateway says', async () => {
    const { VERSION } = await import('../../src/main.ts');
    expect((await run('--version')).stdout).toBe(`${VERSION}\n`);
  });
});

// Programs that others wrote, each a process of its own against a real gateway: the conformance suite, the Inspector, and
// our own `darkroom mcp` on stdio. They reach loopback only, and each has a bounded time.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { until } from '../harness/manual-clock.ts';
import { objectOf, type ToolResult } from './callers.ts';
import { type Doorkeeper, doorkeeper, ended, KEY, type Live, live, NODE, ROOT } from './live.ts';

const MODULES = join(ROOT, 'node_modules/@modelcontextprotocol');
const SUITE = join(MODULES, 'conformance/dist/index.js');
const INSPECTOR = join(MODULES, 'inspector/clients/launcher/build/index.js');
const CLI = join(ROOT, 'src/cli/cli.ts');
const BASELINE = join(import.meta.dirname, 'baseline.yml');

let house: Live;
let keeper: Doorkeeper;
/** Where these programs may leave things. */
let home: string;

beforeAll(async () => {
  house = await live();
  keeper = await doorkeeper(house.url, KEY);
  home = join(house.folder, 'home');
  await mkdir(home);
});
afterAll(async () => {
  await keeper?.close();
  await house?.close();
});

describe('the conformance suite', () => {
  const suite = (...args: string[]) =>
    ended([SUITE, 'server', '--url', `${keeper.url}/mcp`, ...args], { HOME: home }, 90_000);

  it('finds nothing but what is left out on purpose', { timeout: 100_000 }, async () => {
    const { code, stdout } = await suite('--suite', 'all', '--expected-failures', BASELINE);
    expect(code, stdout).toBe(0);
  });

  it.each([
    ['2026-07-28', ['server-sse-multiple-streams']],
    ['2025-11-25', []],
  ])('so does its frozen set for %s', { timeout: 100_000 }, async (revision, passes) => {
    const baseline = join(home, `${revision}.yml`);
    const lines = (await readFile(BASELINE, 'utf8')).split('\n');
    await writeFile(baseline, lines.filter((line) => !passes.some((name) => line.endsWith(name))).join('\n'));
    const { code, stdout } = await suite('--requirements', revision, '--expected-failures', baseline);
    expect(code, stdout).toBe(0);
  });
});

describe.each(['legacy', 'modern'])('the Inspector, %s', (era) => {
  const inspect = async (...args: string[]) => {
    const where = [`${house.url}/mcp`, '--transport', 'http', '--header', `Authorization: Bearer ${KEY}`];
    const how = ['--protocol-era', era, '--format', 'json', '--stored-auth-only'];
    const { code, stdout, stderr } = await ended([INSPECTOR, '--cli', ...where, ...how, ...args], { HOME: home });
    expect(code, stderr).toBe(0);
    return (JSON.parse(stdout) as { result: Record<string, unknown> }).result;
  };
  const call = async (name: string, args: object = {}) =>
    (await inspect(
      '--method',
      'tools/call',
      '--tool-name',
      name,
      '--tool-args-json',
      JSON.stringify(args),
    )) as unknown as ToolResult;

  it('initializes, and finds the schemas portable', async () => {
    expect(await inspect('--method', 'initialize')).toMatchObject({
      serverInfo: { name: 'darkroom' },
      protocolVersion: era === 'modern' ? '2026-07-28' : '2025-11-25',
    });
    const { tools } = (await inspect('--method', 'tools/list', '--strict')) as { tools: unknown[] };
    expect(tools).toHaveLength(6);
  });

  it('calls every tool', { timeout: 60_000 }, async () => {
    const made = objectOf(await call('generate_image', { prompt: 'a lighthouse', wait: true }));
    expect(made).toMatchObject({ status: 'succeeded', credits_charged: 0.5 });
    expect(objectOf(await call('get_generation', { id: made.id }))).toMatchObject({ prompt: 'a lighthouse' });
    const seen = await call('get_generation', { id: made.id, preview: true });
    expect(seen.content.map((block) => block.type)).toEqual(['image', 'text']);
    expect(objectOf(await call('list_recent_generations', { limit: 1 }))).toMatchObject({ data: [{ id: made.id }] });
    expect(objectOf(await call('get_credits'))).toMatchObject({ unit: 'credits' });
    expect(objectOf(await call('list_models'))).toMatchObject({ data: [{ id: 'sketch', usable: true, price: 0.5 }] });
    expect(objectOf(await call('cancel_generation', { id: made.id }))).toMatchObject({ status: 'succeeded' });
  });
});

it('the Inspector follows a task to its end', async () => {
  const where = [`${house.url}/mcp`, '--transport', 'http', '--header', `Authorization: Bearer ${KEY}`];
  const what = ['--tool-name', 'generate_image', '--tool-args-json', '{"prompt": "[[slow:1]] x"}'];
  const how = ['--protocol-era', 'modern', '--format', 'json', '--stored-auth-only'];
  const done = await ended([INSPECTOR, '--cli', ...where, ...how, '--method', 'tools/call', ...what], { HOME: home });
  expect(objectOf(JSON.parse(done.stdout).result)).toMatchObject({ status: 'succeeded' });
});

describe('darkroom mcp', () => {
  async function onStdio(mode: 'legacy' | 'auto', env: Record<string, string>) {
    const transport = new StdioClientTransport({
      command: NODE,
      args: [CLI, 'mcp'],
      env: { PATH: process.env.PATH ?? '', HOME: home, ...env },
      cwd: home,
      stderr: 'pipe',
    });
    const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
    await client.connect(transport);
    onTestFinished(() => client.close());
    return {
      client,
      call: async (name: string, args: Record<string, unknown> = {}, options = {}) =>
        (await client.callTool({ name, arguments: args }, options)) as unknown as ToolResult,
    };
  }

  it.each(['legacy', 'auto'] as const)('serves the same tools from a gateway elsewhere: %s', async (mode) => {
    const { client, call } = await onStdio(mode, { DARKROOM_URL: house.url, DARKROOM_KEY: KEY });
    expect((await client.listTools()).tools).toHaveLength(6);
    const heard: number[] = [];
    const onprogress = (p: { progress: number }) => void heard.push(p.progress);
    const made = await call('generate_image', { prompt: '[[slow:2]] a lighthouse', wait: true }, { onprogress });
    expect(made.structuredContent).toMatchObject({ status: 'succeeded', credits_charged: 0.5 });
    expect(heard.length).toBeGreaterThanOrEqual(2);
    expect(heard).toEqual([...new Set(heard)].sort((a, b) => a - b));
    const { id } = made.structuredContent as { id: string };
    const seen = await call('get_generation', { id, preview: true });
    expect(seen.content.map((block) => block.type)).toEqual(['image', 'text']);
    const page = await call('list_recent_generations', { limit: 1, status: 'succeeded,failed' });
    expect(page.structuredContent).toMatchObject({ data: [{ id }] });
    expect((await call('get_credits')).structuredContent).toMatchObject({ unit: 'credits' });
    expect((await call('list_models', { filter: 'sketch' })).structuredContent).toMatchObject({
      data: [{ id: 'sketch' }],
    });
    expect((await call('cancel_generation', { id })).structuredContent).toMatchObject({ status: 'succeeded' });
  });

  it('says in the words of the contract what the gateway refuses', async () => {
    const { call } = await onStdio('auto', { DARKROOM_URL: house.url, DARKROOM_KEY: KEY });
    const unknown = await call('get_generation', { id: 'gen_nobody' });
    expect([unknown.isError, unknown.structuredContent]).toEqual([true, undefined]);
    expect(objectOf(unknown)).toMatchObject({ error: { code: 'not_found', retryable: false } });
    expect(objectOf(await call('generate_image', { prompt: 'x', width: 13 }))).toMatchObject({
      error: { code: 'invalid_request', details: [{ path: expect.stringContaining('width') }] },
    });
    const wrong = await onStdio('auto', { DARKROOM_URL: house.url, DARKROOM_KEY: 'dk_wrong' });
    expect(objectOf(await wrong.call('get_credits'))).toMatchObject({ error: { code: 'unauthenticated' } });
  });

  it('without a gateway answers every call with what to do', async () => {
    const { client, call } = await onStdio('auto', { DARKROOM_URL: 'http://127.0.0.1:9', DARKROOM_KEY: KEY });
    expect((await client.listTools()).tools).toHaveLength(6);
    expect(objectOf(await call('get_credits'))).toMatchObject({ error: { code: 'unreachable', retryable: true } });
  });

  it.each([
    ['auto', 'cancelled'],
    ['legacy', 'queued'],
  ] as const)('who gives up a call (%s) leaves a waiting job %s', async (mode, status) => {
    const admin = { method: 'POST', headers: { authorization: `Bearer ${KEY}` } };
    await fetch(`${house.url}/v1/nodes/sketch/drain`, admin);
    onTestFinished(async () => void (await fetch(`${house.url}/v1/nodes/sketch/resume`, admin)));
    const { call } = await onStdio(mode, { DARKROOM_URL: house.url, DARKROOM_KEY: KEY });
    const gone = new AbortController();
    const options = { signal: gone.signal, onprogress: () => gone.abort() };
    await expect(call('generate_image', { prompt: 'left', wait: true }, options)).rejects.toThrow();
    const newest = async () => {
      const { data } = objectOf(await call('list_recent_generations', { limit: 1 }));
      return (data as { id: string; status: string; prompt: string }[])[0];
    };
    await until(async () => (await newest())?.status === status, status);
    const left = await newest();
    expect(left).toMatchObject({ prompt: 'left', status });
    await call('cancel_generation', { id: left?.id });
  });
});

// docs/recipes as their readers use them: the very files, commands and configurations, against a gateway with the
// built-in node.

import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { type Darkroom, openDarkroom } from '../src/main.ts';
import { emitClient } from './client/emitted.ts';
import { until } from './harness/manual-clock.ts';

const ROOT = resolve(import.meta.dirname, '..');
const RECIPES = join(ROOT, 'docs/recipes');
const KEY = 'dk_recipes';
const run = promisify(execFile);

const MODELS = `models:
  sketch: {name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 2, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 2}, estimate_seconds: 1, routes: [{backend: sketch}]}
  finer: {name: Finer, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 3, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 4}, estimate_seconds: 1, routes: [{backend: sketch}]}
`;

let home: string;
let darkroom: Darkroom;

/** What a reader has: the client and the receiver's package installed, `darkroom` on the path, a gateway that runs. */
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'darkroom-recipes-'));
  const emitted = emitClient();
  const installed = join(home, 'node_modules/darkroom');
  mkdirSync(installed, { recursive: true });
  symlinkSync(join(emitted.folder, 'dist'), join(installed, 'dist'));
  const { name, type, exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  writeFileSync(join(installed, 'package.json'), JSON.stringify({ name, type, exports }));
  symlinkSync(join(ROOT, 'node_modules/standardwebhooks'), join(home, 'node_modules/standardwebhooks'));
  mkdirSync(join(home, 'bin'));
  writeFileSync(join(home, 'bin/darkroom'), `#!/bin/sh\nexec '${process.execPath}' '${ROOT}/src/cli/cli.ts' "$@"\n`);
  chmodSync(join(home, 'bin/darkroom'), 0o755);
  writeFileSync(join(home, 'models.yaml'), MODELS);
  writeFileSync(join(home, 'darkroom.yaml'), 'log_level: silent\noutbound: {allow_private: ["127.0.0.0/8"]}\n');
  darkroom = await openDarkroom(
    loadConfig(
      {
        DARKROOM_CONFIG: join(home, 'darkroom.yaml'),
        DARKROOM_MODELS: join(home, 'models.yaml'),
        DARKROOM_DATA: join(home, 'data'),
        DARKROOM_PORT: '0',
        DARKROOM_ADMIN_KEY: KEY,
      },
      home,
    ),
  );
  return () => emitted.remove();
});
afterAll(async () => {
  await darkroom.stop();
  rmSync(home, { recursive: true, force: true });
});

const environment = (more: Record<string, string> = {}) => ({
  ...process.env,
  PATH: [join(home, 'bin'), process.env.PATH].join(delimiter),
  XDG_CONFIG_HOME: join(home, 'settings'),
  DARKROOM_URL: darkroom.url,
  DARKROOM_KEY: KEY,
  ...more,
});

/** A recipe as the reader's own file, next to what is installed. */
function own(name: string): string {
  const path = join(home, name);
  writeFileSync(path, readFileSync(join(RECIPES, name)));
  return path;
}

const api = async <T>(path: string, body?: unknown): Promise<T> => {
  const answer = await fetch(`${darkroom.url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
};
const balance = async () => (await api<{ balance: number }>('/v1/credits')).balance;

test('launch-shots.mjs: four pictures, one of them softened; run again it costs nothing', async () => {
  const script = own('launch-shots.mjs');
  const before = await balance();
  const { stdout } = await run(process.execPath, [script], { env: environment(), timeout: 60_000 });
  const lines = stdout.trim().split('\n');
  expect(lines[0]).toMatch(/^4 shots, 8 credits of \d+$/);
  expect(lines.slice(1).map((line) => line.replace(/seed \d+|http\S+/g, '…'))).toEqual([
    'shot 1: sketch, …, 2 credits: …',
    'shot 2: sketch, …, 2 credits: …',
    'shot 3: sketch, …, 2 credits: …',
    'shot 4: sketch, …, 2 credits, softened: …',
  ]);
  const url = /http\S+/.exec(lines[4] ?? '')?.[0] ?? '';
  expect((await fetch(url)).headers.get('content-type')).toBe('image/png');
  expect(before - (await balance())).toBe(8);
  await run(process.execPath, [script], { env: environment(), timeout: 60_000 });
  expect(before - (await balance())).toBe(8);
}, 120_000);

test('a script with a wrong key, or without its secret, says what to do and shows no stack', async () => {
  const [shots, receiver] = [own('launch-shots.mjs'), own('webhook-receiver.mjs')];
  const refused = await run(process.execPath, [shots], { env: environment({ DARKROOM_KEY: 'dk_wrong' }) }).catch(
    (e) => e,
  );
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/^unauthenticated: .+\n$/)]);
  const bare = await run(process.execPath, [receiver], { env: environment({ WEBHOOK_SECRET: '' }) }).catch((e) => e);
  expect([bare.code, bare.stderr]).toEqual([2, expect.stringMatching(/^Set WEBHOOK_SECRET .*webhooks add.+\n$/)]);
});

/** The commands of a page, in order, as a shell would run them. */
const commands = (page: string) =>
  [...readFileSync(join(RECIPES, page), 'utf8').matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
    block.replaceAll('\\\n', ' ').trim().split('\n'),
  );
const shell = async (command: string) => {
  const { stdout, stderr } = await run('/bin/sh', ['-c', command], { cwd: home, env: environment(), timeout: 60_000 });
  return stdout + stderr;
};

test('overnight.md: its commands draw every line once, and promote the chosen', async () => {
  const [list, dryRun, night, again, promote] = commands('overnight.md');
  own('overnight-shots.mjs');
  await shell(`${list}`.replace('node docs/recipes/', `'${process.execPath}' `).replace(' 500 ', ' 3 '));
  const before = await balance();
  expect(await shell(`${dryRun}`)).toMatch(/24 credits/);
  expect(before - (await balance())).toBe(0);
  await shell(`${night}`);
  expect(before - (await balance())).toBe(24);
  expect(readdirSync(join(home, 'shots.jsonl-pictures'))).toHaveLength(12);
  const report = JSON.parse(readFileSync(join(home, 'shots.jsonl.report.json'), 'utf8')) as Record<string, unknown>;
  expect(report).toMatchObject({ status: 'finished', total: 12, counts: { succeeded: 12 }, failures: [] });
  expect(again).toMatch(/^darkroom batch retry shots.jsonl && darkroom batch run shots.jsonl$/);
  await shell('darkroom batch run shots.jsonl');
  expect(before - (await balance())).toBe(24);
  await shell(`${promote}`.replace('flux-dev', 'finer').replace('17,1204', '7,11'));
  await until(async () => (await api<{ reserved: number }>('/v1/credits')).reserved === 0, 'the promoted ones');
  const finer = await api<{ data: { seed: number }[] }>('/v1/generations?model=finer');
  const drafts = await api<{ data: { seed: number }[] }>('/v1/generations?model=sketch&limit=100');
  expect(finer.data).toHaveLength(3);
  for (const { seed } of finer.data) expect(drafts.data.map((g) => g.seed)).toContain(seed);
}, 120_000);

describe('agents.md', () => {
  const page = readFileSync(join(RECIPES, 'agents.md'), 'utf8');
  const block = (name: string) => new RegExp(`\`\`\`\\w+ ${name}\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1] ?? '';
  const here = (url: string) => url.replace('http://127.0.0.1:8787', darkroom.url);
  const TOOLS = [
    'cancel_generation',
    'generate_image',
    'get_credits',
    'get_generation',
    'list_models',
    'list_recent_generations',
  ];
  const tools = async (transport: ConstructorParameters<typeof Object>[0] & Parameters<Client['connect']>[0]) => {
    const client = new Client({ name: 'agent-host', version: '1' });
    onTestFinished(() => client.close());
    await client.connect(transport);
    return (await client.listTools()).tools.map((tool) => tool.name).sort();
  };
  const overHttp = (url: string, authorization: string) =>
    tools(new StreamableHTTPClientTransport(new URL(here(url)), { requestInit: { headers: { authorization } } }));

  test.each([
    ['cursor', 'mcpServers', 'url'],
    ['vscode', 'servers', 'url'],
    ['gemini', 'mcpServers', 'httpUrl'],
  ])('%s is configured with an address and a header that the gateway takes', async (name, list, url) => {
    const config = JSON.parse(block(name)) as Record<string, { darkroom: Record<string, never> }>;
    const server = config[list]?.darkroom as unknown as Record<string, string> & { headers: { Authorization: string } };
    const header = server.headers.Authorization.replace(/\$(\{\w+:[\w-]+\}|DARKROOM_KEY)$/, KEY);
    expect(header).toBe(`Bearer ${KEY}`);
    expect(await overHttp(`${server[url]}`, header)).toEqual(TOOLS);
  });

  test('Codex and Claude Code name the same address and key', async () => {
    const url = /^url = "(.+)"$/m.exec(block('codex'))?.[1] ?? '';
    expect(block('codex')).toContain('bearer_token_env_var = "DARKROOM_KEY"');
    expect(page).toContain(
      `claude mcp add --transport http darkroom ${url} --header "Authorization: Bearer $DARKROOM_KEY"`,
    );
    expect(await overHttp(url, `Bearer ${KEY}`)).toEqual(TOOLS);
  });

  test('a host that starts a program gets the same tools over stdio', async () => {
    const config = JSON.parse(block('stdio')) as {
      mcpServers: { darkroom: { command: string; args: string[]; env: Record<string, string> } };
    };
    const { command, args, env } = config.mcpServers.darkroom;
    expect(Object.keys(env)).toEqual(['DARKROOM_URL', 'DARKROOM_KEY']);
    const told = { ...environment(), DARKROOM_URL: here(env.DARKROOM_URL ?? ''), DARKROOM_KEY: KEY };
    expect(await tools(new StdioClientTransport({ command, args, env: told as Record<string, string> }))).toEqual(
      TOOLS,
    );
  });

  test('a key for an agent is made with the command that the page shows', async () => {
    const made = commands('agents.md').find((line) => line.startsWith('darkroom keys create')) ?? '';
    expect(await shell(made)).toMatch(/dk_[\w-]{20,}/);
  });
});

test('webhook-receiver.mjs: one row per generation, however often told; forged messages are refused', async () => {
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  const script = own('webhook-receiver.mjs');
  const start = async (key: string) => {
    const receiver = spawn(process.execPath, [script, '0', join(home, 'shots.db')], {
      env: environment({ WEBHOOK_SECRET: key }),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void receiver.kill());
    const [line] = (await once(receiver.stdout, 'data')) as [Buffer];
    return { receiver, url: /http\S+/.exec(line.toString())?.[0] ?? '' };
  };
  const first = await start(secret);
  const hook = await api<{ id: string; secret: string }>('/v1/webhooks', { url: `${first.url}/` });
  first.receiver.kill();
  const port = new URL(first.url).port;
  const receiver = spawn(process.execPath, [script, port, join(home, 'shots.db')], {
    env: environment({ WEBHOOK_SECRET: hook.secret }),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onTestFinished(() => void receiver.kill());
  await once(receiver.stdout, 'data');

  const request = { model: 'sketch', prompt: 'a lighthouse', metadata: { ticket: 'MKT-2241' }, wait: true };
  const drawn = await api<{ id: string }>('/v1/generations', request);
  const failed = await api<{ id: string }>('/v1/generations', { ...request, prompt: '[[fail:model_error]]' });
  const db = new DatabaseSync(join(home, 'shots.db'), { readOnly: true });
  onTestFinished(() => db.close());
  const rows = () => db.prepare('select id, status, credits, ticket, reason, url from shots order by id').all();
  await until(async () => rows().length === 2, 'two rows');
  expect(rows()).toMatchObject(
    [
      { id: drawn.id, status: 'succeeded', credits: 2, ticket: 'MKT-2241', reason: null },
      { id: failed.id, status: 'failed', credits: 0, ticket: 'MKT-2241', url: null },
    ].sort((a, b) => (a.id < b.id ? -1 : 1)),
  );
  const { data } = await api<{ data: { id: string }[] }>(`/v1/webhooks/${hook.id}/deliveries`);
  await api(`/v1/webhooks/${hook.id}/deliveries/${data[0]?.id}/redeliver`, {});
  await until(async () => {
    const again = await api<{ data: { id: string; attempts: unknown[] }[] }>(`/v1/webhooks/${hook.id}/deliveries`);
    return again.data.some((d) => d.id === data[0]?.id && d.attempts.length === 2);
  }, 'the second arrival');
  expect(rows()).toHaveLength(2);

  const body = JSON.stringify({ event: 'generation.succeeded', id: 'gen_forged', metadata: {} });
  const signature = new Webhook(secret).sign('msg_1', new Date(), body);
  const headers = {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(Math.floor(Date.now() / 1000)),
    'webhook-signature': signature,
  };
  expect((await fetch(first.url, { method: 'POST', headers, body })).status).toBe(401);
}, 60_000);

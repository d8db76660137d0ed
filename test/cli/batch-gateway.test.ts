// `darkroom batch` on a real gateway process: kill -9 of the run and of the gateway, Ctrl-C, and what it cost in the end.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../harness/manual-clock.ts';
import { batch, ran } from './batch-process.ts';

const KEY = 'dk_batch-of-tests';
const root = fileURLToPath(new URL('../..', import.meta.url));
const headers = { authorization: `Bearer ${KEY}` };
const entry = (price: number) =>
  `{name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: ${price}, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 2}, estimate_seconds: 1, routes: [{backend: sketch}]}`;

let home: string;
let folder: string;
let url: string;
let gateway: ChildProcess;
let before: { jobs: number; credits: number };

async function start(): Promise<void> {
  const env = {
    ...process.env,
    DARKROOM_DATA: join(home, 'data'),
    DARKROOM_CONFIG: join(home, 'darkroom.yaml'),
    DARKROOM_MODELS: join(home, 'models.yaml'),
    DARKROOM_PORT: new URL(url).port,
    DARKROOM_ADMIN_KEY: KEY,
  };
  gateway = spawn(process.execPath, ['src/cli/cli.ts', 'serve'], { cwd: root, env, stdio: 'ignore' });
  const ready = () =>
    fetch(`${url}/readyz`).then(
      (r) => r.ok,
      () => false,
    );
  await until(ready, 'the gateway to be ready', 30_000);
}

async function kill(): Promise<void> {
  gateway.kill('SIGKILL');
  await once(gateway, 'exit');
}

const get = async <T>(path: string) => (await (await fetch(`${url}${path}`, { headers })).json()) as T;
const usage = async () => (await get<{ total: { jobs: number; credits: number } }>('/v1/usage')).total;
const spent = async () => {
  const now = await usage();
  return { jobs: now.jobs - before.jobs, credits: now.credits - before.credits };
};
const write = (lines: readonly object[], name = 'shots.jsonl') =>
  writeFile(join(folder, name), lines.map((line) => JSON.stringify(line)).join('\n'));
const shots = (n: number, prompt = 'a lighthouse') =>
  Array.from({ length: n }, (_, i) => ({
    sku: `${folder.slice(-6)}-${i}`,
    model: 'sketch',
    prompt: `${prompt} ${i}`,
    seed: i,
  }));
const pictures = async (name = 'shots.jsonl') =>
  (await readdir(join(folder, `${name}-pictures`)).catch(() => [])).filter((f) => !f.startsWith('.'));
const run = (...args: string[]) => ran(['run', 'shots.jsonl', ...args], folder, url, KEY);

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'darkroom-batch-gateway-'));
  await writeFile(join(home, 'darkroom.yaml'), 'log_level: silent\nstudio_credits: 100000\n');
  await writeFile(join(home, 'models.yaml'), `models:\n  sketch: ${entry(1.5)}\n  final: ${entry(4)}\n`);
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  url = `http://127.0.0.1:${(probe.address() as { port: number }).port}`;
  probe.close();
  await start();
});
afterAll(async () => {
  if (gateway?.exitCode === null && gateway.signalCode === null) await kill();
  await rm(home, { recursive: true, force: true });
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'darkroom-batch-'));
  before = await usage();
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('a shot list on a real gateway', () => {
  it('comes out as pictures and a report that reconciles; running again costs nothing', async () => {
    await write([...shots(8), { sku: 'bad', model: 'sketch', prompt: 'x [[fail:safety_filter]]' }]);
    const { code, out, err } = await run();
    expect(err).toContain('projected 13.5 credits');
    expect(out).toContain('8 of 9 succeeded');
    expect(out).toContain('line 9: safety_filter');
    expect(code).toBe(0);
    const files = await pictures();
    expect(files).toHaveLength(8);
    for (const file of files) {
      const { width } = await sharp(join(folder, 'shots.jsonl-pictures', file)).metadata();
      expect(width).toBe(64);
    }
    expect(await spent()).toEqual({ jobs: 8, credits: 12 });
    await rm(join(folder, 'shots.jsonl.state.json'));
    expect((await run()).code).toBe(0);
    expect(await spent()).toEqual({ jobs: 8, credits: 12 });
  }, 60_000);
  it('comes from CSV, with what no model knows failing by itself', async () => {
    const text = `sku;prompt;model;width;seed\n${folder.slice(-6)}-a;"red; on slate";sketch;128;7\n${folder.slice(-6)}-b;x;nobody;;\n`;
    await writeFile(join(folder, 'shots.csv'), text);
    const { code, err, out } = await ran(['run', 'shots.csv'], folder, url, KEY);
    expect(err).toMatch(/1 item would fail at once:\n {4}line 3: unknown_model/);
    expect(out).toContain('1 of 2 succeeded');
    expect(code).toBe(0);
    const report = JSON.parse(await readFile(join(folder, 'shots.csv.report.json'), 'utf8'));
    expect(report.failures).toMatchObject([{ line: 3, error: { code: 'unknown_model' } }]);
  }, 60_000);
  it('stops at the credits it may cost', async () => {
    await write(shots(6));
    const { out, err } = await run('--max-credits', '4.5', '--concurrency', '1');
    expect(err).toContain('it stops at 4.5 credits');
    expect(out).toContain('3 of 6 succeeded');
    expect(out).toContain('3 items NOT MADE: budget_exceeded');
    expect(err).toContain('shots.jsonl --max-credits 9\n');
    expect((await spent()).credits).toBe(4.5);
    const more = await run('--max-credits', '6');
    expect(more.out).toContain('4 of 6 succeeded');
    expect((await run('--max-credits', '9')).out).toContain('6 of 6 succeeded');
    expect(await spent()).toEqual({ jobs: 6, credits: 9 });
    expect(await pictures()).toHaveLength(6);
  }, 60_000);
  it('goes on with new credits after it ran as far as they went', async () => {
    const admin = (path: string, body: object) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    const { available } = await get<{ available: number }>('/v1/credits');
    const grant = async (credits: number) => {
      const answer = await admin('/v1/admin/workspaces/studio/credits', { amount: credits });
      expect(answer.status).toBeLessThan(300);
    };
    await grant(3 - available);
    await write(shots(5));
    const poor = await run();
    expect(poor).toMatchObject({ code: 1, err: expect.stringContaining('(--yes does that)') });
    const first = await run('--yes');
    expect(first.code).toBe(0);
    expect(first.out).toContain('2 of 5 succeeded');
    expect(first.err).toMatch(/With 4\.5 more of them:\n {2}darkroom batch run shots\.jsonl\n/);
    expect((await run()).err).toContain('Going on with');
    await grant(available);
    expect((await run()).out).toContain('5 of 5 succeeded');
    expect(await spent()).toEqual({ jobs: 5, credits: 7.5 });
  }, 60_000);
  it('that halted is tried again without its breaker, as was typed', async () => {
    await write(shots(12, 'x [[fail:model_error]]'));
    const breaker = 'min_finished=2,cooldown_seconds=1,trips=1';
    const first = await run('--concurrency', '2', '--breaker', breaker);
    expect(first.code).toBe(1);
    expect(first.err).toContain('shots.jsonl --retry-failed\n');
    const second = await run('--retry-failed', '--no-breaker');
    expect(second.out).toMatch(/\(finished, batch_/);
    expect(second.out).not.toContain('batch_halted');
  }, 60_000);
  it('after an edit pays for what is new only', async () => {
    await write(shots(4));
    await run();
    await write(shots(6).slice(1));
    const { code, err } = await run();
    expect(code).toBe(0);
    expect(err).toContain('(now 2 new, 1 gone)');
    expect(await spent()).toEqual({ jobs: 6, credits: 9 });
  }, 60_000);
  it('says what to do about a shot whose prompt has changed under the same key', async () => {
    await write(shots(2));
    await run();
    await write(shots(2, 'another'));
    const { code, err } = await run();
    expect(err).toMatch(/line 1: idempotency_conflict[\s\S]*raise their prompt_version/);
    expect(code).toBe(2);
    await write(shots(2, 'another').map((shot) => ({ ...shot, prompt_version: 2 })));
    expect((await run()).code).toBe(0);
    expect(await spent()).toEqual({ jobs: 4, credits: 6 });
  }, 60_000);
  it('promotes drafts: same prompt and seed, another model', async () => {
    await write(shots(3));
    await run();
    const { code, out } = await ran(['promote', 'shots.jsonl', '--model', 'final', '--items', '1,3'], folder, url, KEY);
    expect(out).toContain('2 of 2 succeeded');
    expect(code).toBe(0);
    expect(await spent()).toEqual({ jobs: 5, credits: 3 * 1.5 + 2 * 4 });
    const { data } = await get<{ data: { prompt: string; seed: number }[] }>('/v1/generations?model=final&limit=2');
    expect(data.map((g) => [g.prompt, g.seed]).sort()).toEqual([
      ['a lighthouse 0', 0],
      ['a lighthouse 2', 2],
    ]);
  }, 60_000);
});

describe('when somebody dies', () => {
  const slow = () => shots(16, 'a [[slow:0.4]] lighthouse');

  it('Ctrl-C pauses, the next run goes on: each shot is made and paid once', async () => {
    await write(slow());
    const first = batch(['run', 'shots.jsonl', '--concurrency', '2'], folder, url, KEY);
    await until(async () => (await pictures()).length > 0, 'a picture', 30_000);
    first.child.kill('SIGINT');
    expect(await first.ended).toBe(130);
    expect(JSON.parse((await ran(['status', 'shots.jsonl', '--json'], folder, url, KEY)).out).status).toBe('paused');
    expect((await run()).code).toBe(0);
    expect(await pictures()).toHaveLength(16);
    expect(await spent()).toEqual({ jobs: 16, credits: 24 });
  }, 90_000);
  it('kill -9 of the run, with its state lost too: each shot is made and paid once', async () => {
    await write(slow());
    const first = batch(['run', 'shots.jsonl'], folder, url, KEY);
    await until(async () => (await pictures()).length > 0, 'a picture', 30_000);
    first.child.kill('SIGKILL');
    await first.ended;
    await rm(join(folder, 'shots.jsonl.state.json'));
    expect((await run()).code).toBe(0);
    expect(await pictures()).toHaveLength(16);
    expect(await spent()).toEqual({ jobs: 16, credits: 24 });
  }, 90_000);
  it('kill -9 of the gateway midway: the run waits and goes on, nothing is paid twice', async () => {
    await write(slow());
    const running = batch(['run', 'shots.jsonl', '--concurrency', '3'], folder, url, KEY);
    await until(async () => (await pictures()).length > 0, 'a picture', 30_000);
    await kill();
    await running.says('does not answer');
    await start();
    await running.says('answers again');
    expect(await running.ended).toBe(0);
    expect(running.out()).toContain('16 of 16 succeeded');
    expect(await pictures()).toHaveLength(16);
    expect(await spent()).toEqual({ jobs: 16, credits: 24 });
  }, 90_000);
});

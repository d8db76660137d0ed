// The commands about a batch that is there, and drafts that become finals.

import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BatchDouble, startBatchDouble } from './batch-double.ts';
import { batch, ran } from './batch-process.ts';

let folder: string;
let gateway: BatchDouble;

const say = (...args: string[]) => ran(args, folder, gateway.url);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'darkroom-batch-'));
  gateway = await startBatchDouble();
  const lines = ['{"sku":"A","prompt":"a"}', '', '{"sku":"B","prompt":"[[fail]] b"}', '{"sku":"C","prompt":"c"}'];
  await writeFile(join(folder, 'shots.jsonl'), lines.join('\n'));
});
afterEach(async () => {
  await gateway.down();
  await rm(folder, { recursive: true, force: true });
});

describe('a batch is named by its file or its id', () => {
  it('status, report and list', async () => {
    await say('run', 'shots.jsonl');
    const [{ id } = { id: '' }] = gateway.batches();
    expect((await say('status', 'shots.jsonl')).out).toMatch(/finished[\s\S]*3 of 3[\s\S]*succeeded 2 · failed 1/);
    expect(JSON.parse((await say('status', id, '--json')).out)).toMatchObject({ id, status: 'finished' });
    expect((await say('status')).out).toContain(id);
    const report = await say('report', 'shots.jsonl', '--out', 'desk.json');
    expect(report.out).toContain('line 3: model_error');
    expect(JSON.parse(await readFile(join(folder, 'desk.json'), 'utf8')).failures).toMatchObject([{ line: 3 }]);
    expect((await say('report')).out).toContain('item 1: model_error');
  });
  it('pause, resume and cancel from another terminal; the run tells of each', async () => {
    gateway.pace = 0;
    const running = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await running.says('runs; Ctrl-C');
    expect(await say('pause', 'shots.jsonl')).toMatchObject({ code: 0, out: expect.stringContaining('paused') });
    await running.says('paused by somebody');
    expect((await say('resume', 'shots.jsonl')).code).toBe(0);
    expect((await say('cancel', 'shots.jsonl')).code).toBe(0);
    expect(await running.ended).toBe(1);
    expect(running.out()).toContain('0 of 3 succeeded');
  });
  it('retry puts the failed ones back', async () => {
    await say('run', 'shots.jsonl');
    expect((await say('retry', 'shots.jsonl')).out).toContain('running');
    expect((await say('run', 'shots.jsonl')).out).toContain('3 of 3 succeeded');
  });
  it('retry of one that has no failures is no fault', async () => {
    await writeFile(join(folder, 'shots.jsonl'), '{"prompt":"a"}\n');
    await say('run', 'shots.jsonl');
    const { code, err, out } = await say('retry', 'shots.jsonl');
    expect(code).toBe(0);
    expect(err).toContain('nothing to try again');
    expect(out).toContain('finished');
  });
  it('a file that was never run, and a batch that is not there, are input errors', async () => {
    expect(await say('status', 'shots.jsonl')).toMatchObject({ code: 2, err: expect.stringContaining('batch status') });
    expect((await say('report', 'batch_01HWX2K8Y4N5R7P9Q1B3T6V8M0')).code).toBe(2);
  });
});

describe('promote', () => {
  const made = async () => (await readdir(join(folder, 'shots.jsonl.flux-dev-pictures'))).sort();

  it('makes finals of chosen lines: the draft’s id and the better model, once', async () => {
    await say('run', 'shots.jsonl');
    const { code, out } = await say('promote', 'shots.jsonl', '--model', 'flux-dev', '--items', '1,4');
    expect(code).toBe(0);
    expect(out).toContain('shots.jsonl with flux-dev: 2 of 2 succeeded');
    expect(await made()).toEqual(['1-flux-dev-0.png', '4-flux-dev-0.png']);
    expect(gateway.sent.at(-1)).toMatchObject([
      { from: expect.stringMatching(/^gen_/), model: 'flux-dev' },
      { from: expect.stringMatching(/^gen_/), model: 'flux-dev' },
    ]);
    expect((await say('promote', 'shots.jsonl', '--model', 'flux-dev', '--items', '01,4')).code).toBe(0);
    expect(gateway.batches()).toHaveLength(2);
  });
  it('goes by the lines that were run, though the file was edited since', async () => {
    await say('run', 'shots.jsonl');
    await writeFile(join(folder, 'shots.jsonl'), '{"sku":"C","prompt":"c"}\n{"sku":"A","prompt":"a"}\n');
    expect((await say('report', 'shots.jsonl')).out).toContain('line 3: model_error');
    const { err, code } = await say('promote', 'shots.jsonl', '--model', 'flux-dev', '--items', '4');
    expect([code, err]).toEqual([0, expect.stringContaining('1 item')]);
    expect(await made()).toEqual(['4-flux-dev-0.png']);
  });
  it('takes names of pictures, as they lie in the folder', async () => {
    await say('run', 'shots.jsonl');
    await writeFile(join(folder, 'keys.txt'), 'shots.jsonl-pictures/4-C-0.png\n');
    expect((await say('promote', 'shots.jsonl', '--model', 'flux-dev', '--select', 'keys.txt')).code).toBe(0);
    expect(await made()).toEqual(['4-flux-dev-0.png']);
  });
  it('of a cap says how to make the rest', async () => {
    await say('run', 'shots.jsonl');
    const all = ['promote', 'shots.jsonl', '--model', 'flux-dev', '--succeeded'];
    const first = await say(...all, '--max-credits', '1.5');
    expect(first.out).toContain('1 of 2 succeeded');
    expect(first.err).toContain(`\n  darkroom batch ${all.join(' ')} --max-credits 3\n`);
    expect((await say(...all, '--max-credits', '3')).out).toContain('2 of 2 succeeded');
  });
  it('takes everything that succeeded', async () => {
    await say('run', 'shots.jsonl');
    await say('promote', 'shots.jsonl', '--model', 'flux-dev', '--succeeded');
    expect(await made()).toHaveLength(2);
  });
  it('refuses what did not succeed, and no choice at all', async () => {
    await say('run', 'shots.jsonl');
    expect(await say('promote', 'shots.jsonl', '--model', 'm', '--items', '3')).toMatchObject({
      code: 2,
      err: expect.stringContaining('Not among what has succeeded: 3'),
    });
    expect((await say('promote', 'shots.jsonl', '--model', 'm')).err).toContain('--succeeded');
  });
});

describe('more than one request holds', () => {
  it('is sent in pieces while the batch is paused, and taken up where a dead run stopped', async () => {
    const lines = Array.from({ length: 10_001 }, (_, i) => JSON.stringify({ sku: `S${i}`, prompt: 'x' }));
    await writeFile(join(folder, 'many.jsonl'), lines.join('\n'));
    gateway.refuseAppends = 1;
    gateway.pace = 20_000;
    const first = await say('run', 'many.jsonl', '--no-download');
    expect(first.code).toBe(1);
    expect(gateway.batches()).toMatchObject([{ status: 'paused', items: 0 }]);
    const { code, out } = await say('run', 'many.jsonl', '--no-download');
    expect(out).toContain('10,001 of 10,001 succeeded');
    expect(code).toBe(0);
    expect(gateway.batches()).toMatchObject([{ items: 10_001 }]);
    expect(Math.max(...gateway.rendered.values())).toBe(1);
  }, 60_000);
});

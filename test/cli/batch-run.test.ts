// `darkroom batch run` as a process, against a double of the batch doors that restarts, forgets and cuts files off.

import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../harness/manual-clock.ts';
import { type BatchDouble, pictureOf, startBatchDouble } from './batch-double.ts';
import { batch, ran } from './batch-process.ts';

let folder: string;
let gateway: BatchDouble;

const write = (name: string, lines: readonly object[]) =>
  writeFile(join(folder, name), lines.map((line) => JSON.stringify(line)).join('\n'));
const shots = (n: number, more: object = {}) =>
  Array.from({ length: n }, (_, i) => ({ sku: `A${i}`, prompt: `shot ${i}`, ...more }));
const read = async (name: string) => JSON.parse(await readFile(join(folder, name), 'utf8'));
const pictures = async (of = 'shots.jsonl') => (await readdir(join(folder, `${of}-pictures`)).catch(() => [])).sort();
const run = (...args: string[]) => ran(['run', 'shots.jsonl', ...args], folder, gateway.url);
const creations = () => gateway.asked.filter((a) => a === 'POST /v1/batches').length;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'darkroom-batch-'));
  gateway = await startBatchDouble();
});
afterEach(async () => {
  await gateway.down();
  await rm(folder, { recursive: true, force: true });
});

describe('a run', () => {
  it('renders every line, fetches the pictures, prints and saves the report', async () => {
    await write('shots.jsonl', [...shots(4), { sku: 'B', prompt: '[[fail]] a  broken\none' }]);
    const { code, out, err } = await run();
    expect(err).toContain('shots.jsonl: 5 items');
    expect(err).toContain('projected 7.5 credits, available 1,000,000');
    expect(code).toBe(0);
    expect(out).toContain('shots: 4 of 5 succeeded in 3 h 12 min');
    expect(out).toContain('line 5: model_error: The graph did not run.\n    "[[fail]] a broken one"');
    expect(out).toContain('6 charged of 7.5 projected');
    expect(out).toContain('pictures  4 in shots.jsonl-pictures');
    expect(await pictures()).toEqual(['1-A0-0.png', '2-A1-0.png', '3-A2-0.png', '4-A3-0.png']);
    expect(await read('shots.jsonl.report.json')).toMatchObject({ total: 5, failures: [{ line: 5, index: 4 }] });
  });
  it('prints with --json one document, which is the saved report', async () => {
    await write('shots.jsonl', shots(2));
    const { code, out } = await run('--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(await read('shots.jsonl.report.json'));
  });
  it('exits with 1 when nothing succeeded, and with --strict when anything failed', async () => {
    await write('shots.jsonl', [{ prompt: '[[fail]]' }]);
    expect((await run()).code).toBe(1);
    await write('shots.jsonl', [{ prompt: '[[fail]] x' }, { prompt: 'b' }]);
    expect((await run('--strict')).code).toBe(1);
    expect((await run()).code).toBe(0);
  });
  it('leaves the pictures at the gateway when told to', async () => {
    await write('shots.jsonl', shots(2));
    expect((await run('--no-download')).code).toBe(0);
    expect(existsSync(join(folder, 'shots.jsonl-pictures'))).toBe(false);
  });
});

describe('before anything is sent', () => {
  it('every broken line is told, and the gateway hears nothing', async () => {
    await writeFile(join(folder, 'shots.jsonl'), '{"prompt":"a"}\n{"prompt":\n{"prompt":"b","seed":-1}\n');
    const { code, err } = await run();
    expect(code).toBe(2);
    expect(err).toMatch(/^shots\.jsonl:2: not JSON.*\nshots\.jsonl:3: seed: .*\nNothing was sent\.\n$/);
    expect(gateway.asked).toEqual([]);
  });
  it('an empty file, a missing one and a column nobody has are input errors', async () => {
    await writeFile(join(folder, 'shots.jsonl'), '\n\n');
    expect(await run()).toMatchObject({ code: 2, err: expect.stringContaining('no shots') });
    expect(await ran(['run', 'nowhere.csv'], folder, gateway.url)).toMatchObject({ code: 2 });
    await write('shots.jsonl', shots(1));
    expect(await run('--key', 'shot')).toMatchObject({ code: 2, err: expect.stringContaining('--key names shot') });
  });
  it('the gateway’s own refusals name the line', async () => {
    await write('shots.jsonl', [...shots(2), { sku: 'X', prompt: '[[unparsable]]' }]);
    expect(await run()).toMatchObject({ code: 2, err: expect.stringContaining('shots.jsonl:3: seed: off') });
  });
  it('--dry-run says what it would cost and asks for nothing', async () => {
    await write('shots.jsonl', [...shots(2), { sku: 'X', model: 'nobody', prompt: 'x' }]);
    const { code, out } = await run('--dry-run', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ items: 3, refused: [{ line: 3, index: 2, code: 'unknown_model' }] });
    expect(gateway.batches()).toEqual([]);
    expect(existsSync(join(folder, 'shots.jsonl.state.json'))).toBe(false);
  });
  it('what cannot be afforded is not begun, unless it is said where to stop', async () => {
    gateway.available = 5;
    await write('shots.jsonl', shots(4));
    const poor = await run();
    expect(poor.code).toBe(1);
    expect(poor.err).toContain('It needs 6 credits, but only 5 are available.');
    expect(poor.err).toContain('--max-credits 5');
    expect(gateway.batches()).toEqual([]);
    expect((await run('--max-credits', '5')).code).toBe(0);
  });
  it('a wrong address is told at once', async () => {
    await write('shots.jsonl', shots(1));
    expect(await ran(['run', 'shots.jsonl'], folder, 'http://127.0.0.1:1')).toMatchObject({ code: 4 });
  });
});

describe('running again', () => {
  it('asks for nothing and fetches only what is missing', async () => {
    await write('shots.jsonl', shots(3));
    await run();
    await rm(join(folder, 'shots.jsonl-pictures', '2-A1-0.png'));
    gateway.asked.length = 0;
    expect((await run()).code).toBe(0);
    expect(gateway.asked.filter((a) => a.startsWith('POST'))).toEqual([]);
    expect(gateway.asked.filter((a) => a.includes('/files/'))).toHaveLength(1);
    expect(await pictures()).toHaveLength(3);
  });
  it('without its state finds the batch by its key', async () => {
    await write('shots.jsonl', shots(3));
    await run();
    await rm(join(folder, 'shots.jsonl.state.json'));
    const { err } = await run();
    expect(err).toContain('3 items finished before: attached');
    expect(gateway.batches()).toHaveLength(1);
    expect([...gateway.rendered.values()]).toEqual([1, 1, 1]);
  });
  it('after the file has changed says what changed and makes a new batch of it', async () => {
    await write('shots.jsonl', shots(3));
    await run();
    await write('shots.jsonl', shots(5).slice(1));
    const { code, err } = await run();
    expect(code).toBe(0);
    expect(err).toMatch(/batch_\w+ is of an earlier shots\.jsonl \(now 2 new, 1 gone\)/);
    expect([...gateway.rendered.values()]).toEqual([1, 1, 1, 1, 1]);
    expect(gateway.batches()).toHaveLength(2);
  });
  it('after an edit ends the batch before, but only when the new one can be afforded', async () => {
    gateway.pace = 0;
    await write('shots.jsonl', shots(3));
    const first = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await first.says('runs; Ctrl-C');
    first.child.kill('SIGKILL');
    await first.ended;
    await write('shots.jsonl', shots(5));
    gateway.available = 1;
    expect((await run()).code).toBe(1);
    expect(gateway.batches().map((b) => b.status)).toEqual(['running']);
    gateway.available = 1000;
    const second = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await second.says('runs; Ctrl-C');
    gateway.pace = 9;
    expect(await second.ended).toBe(0);
    expect(gateway.batches().map((b) => b.status)).toEqual(['cancelled', 'finished']);
  });
  it('after the gateway lost the batch asks again under the same keys', async () => {
    await write('shots.jsonl', shots(3));
    await run();
    gateway.forget();
    const { code, err } = await run();
    expect([code, creations()]).toEqual([0, 4]);
    expect(err).toContain('is not there any more');
    expect([...gateway.rendered.values()]).toEqual([1, 1, 1]);
  });
  it('after a cancel makes a new batch; what is finished costs nothing', async () => {
    gateway.pace = 0;
    await write('shots.jsonl', shots(3));
    const first = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await first.says('runs; Ctrl-C');
    expect((await ran(['cancel', 'shots.jsonl'], folder, gateway.url)).code).toBe(0);
    expect(await first.ended).toBe(1);
    gateway.pace = 9;
    expect((await run()).code).toBe(0);
    expect(gateway.batches().map((b) => b.status)).toEqual(['cancelled', 'finished']);
  });
  it('refuses a state that is damaged, or of another gateway', async () => {
    await write('shots.jsonl', shots(1));
    await run();
    const other = await startBatchDouble();
    const elsewhere = await ran(['run', 'shots.jsonl'], folder, other.url);
    expect(elsewhere).toMatchObject({ code: 2, err: expect.stringContaining(`--url ${gateway.url}`) });
    await other.down();
    await writeFile(join(folder, 'shots.jsonl.state.json'), '{"version":1,"url":');
    expect(await run()).toMatchObject({ code: 2, err: expect.stringContaining('damaged') });
  });
  it('with --retry-failed tries what failed again', async () => {
    await write('shots.jsonl', [...shots(2), { sku: 'X', prompt: '[[fail]]' }]);
    const first = await run();
    expect(first.err).toContain('--retry-failed');
    const { out } = await run('--retry-failed');
    expect(out).toContain('3 of 3 succeeded');
    expect(await pictures()).toContain('3-X-0.png');
  });
});

describe('pictures', () => {
  it('that arrive cut off are fetched again', async () => {
    gateway.damaged = 1;
    await write('shots.jsonl', shots(1));
    expect((await run()).code).toBe(0);
    const bytes = await readFile(join(folder, 'shots.jsonl-pictures', '1-A0-0.png'));
    expect(bytes.equals(pictureOf('gen_00000000000000000000000001'))).toBe(true);
    expect(await pictures()).toEqual(['1-A0-0.png']);
  });
  it('never overwrite a file of somebody else', async () => {
    await write('shots.jsonl', shots(1));
    await ran(['run', 'shots.jsonl', '--no-download'], folder, gateway.url);
    await writeFile(join(folder, '1-A0-0.png'), 'mine');
    expect((await run('--out', '.')).code).toBe(0);
    expect(await readFile(join(folder, '1-A0-0.png'), 'utf8')).toBe('mine');
    expect((await readdir(folder)).filter((name) => name.endsWith('.png'))).toHaveLength(2);
  });
  it('have names that every disk takes', async () => {
    await write('shots.jsonl', [
      { sku: '../../etc/passwd', prompt: 'x' },
      { sku: 'Größe "M"/é*?', prompt: 'y' },
    ]);
    await run();
    for (const name of await pictures()) expect(name).toMatch(/^\d[\w.-]+\.png$/);
    expect(await pictures()).toHaveLength(2);
  });
});

describe('Ctrl-C', () => {
  it('pauses the batch and says how to go on; the next run goes on', async () => {
    gateway.pace = 1;
    await write('shots.jsonl', shots(40));
    const first = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await until(async () => (await pictures()).length > 0, 'a picture', 20_000);
    first.child.kill('SIGINT');
    expect(await first.ended).toBe(130);
    expect(first.err()).toMatch(/batch_\w+ is paused.*To go on: darkroom batch run shots\.jsonl/);
    expect(gateway.batches()).toMatchObject([{ status: 'paused', items: 40 }]);
    gateway.pace = 100;
    const second = await run();
    expect(second.err).toContain('Going on with batch_');
    expect(second.code).toBe(0);
    expect(await pictures()).toHaveLength(40);
    expect([...gateway.rendered.values()]).toEqual(Array(40).fill(1));
  });
  it('twice leaves at once', async () => {
    gateway.pace = 0;
    await write('shots.jsonl', shots(2));
    const first = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await first.says('runs; Ctrl-C');
    await gateway.down();
    first.child.kill('SIGINT');
    await first.says('Pausing the batch');
    first.child.kill('SIGINT');
    expect(await first.ended).toBe(130);
    await gateway.up();
  });
});

describe('when somebody dies', () => {
  it('a gateway that is away is waited for, and said to be', async () => {
    gateway.pace = 1;
    await write('shots.jsonl', shots(3));
    const running = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await until(async () => (await pictures()).length > 0, 'a picture', 20_000);
    await gateway.down();
    await running.says('does not answer');
    await gateway.up();
    await running.says('answers again');
    expect(await running.ended).toBe(0);
    expect(await pictures()).toHaveLength(3);
  });
  it('kill -9 of the run costs nothing twice: the next one takes the batch up', async () => {
    gateway.pace = 1;
    await write('shots.jsonl', shots(12));
    const running = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await until(async () => (await pictures()).length > 1, 'two pictures', 20_000);
    running.child.kill('SIGKILL');
    await running.ended;
    gateway.pace = 100;
    expect((await run()).code).toBe(0);
    expect(gateway.batches()).toHaveLength(1);
    expect(await pictures()).toHaveLength(12);
  });
});

// `darkroom batch run` as a process, against a double of the batch doors that restarts, forgets and cuts files off.

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
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

/** The command that the run advises, as it would be typed. */
const advised = ({ err }: { err: string }) =>
  [...err.matchAll(/^ {2}darkroom (batch run .*)$/gm)].map(([, line = '']) => line.split(' ').slice(1));

describe('what is missing in the end', () => {
  it('of a cap: is said aloud, and the advised cap makes it, paying for nothing twice', async () => {
    await write('shots.jsonl', shots(6));
    const first = await run('--max-credits', '4.5');
    expect(first.code).toBe(0);
    expect(first.out).toContain('3 items NOT MADE: budget_exceeded');
    expect(first.err).toContain('MISSING: 3 of 6 items.');
    expect(first.err).toContain('Its cap of 4.5 credits kept 3 items');
    expect(advised(first)).toEqual([['run', 'shots.jsonl', '--max-credits', '9']]);
    const second = await ran(advised(first)[0] ?? [], folder, gateway.url);
    expect(second.err).toContain('stopped at its cap with 3 items missing: a new batch');
    expect(second.err).toContain('3 items finished before: attached');
    expect(second.out).toContain('6 of 6 succeeded');
    expect(second).toMatchObject({ code: 0 });
    expect(await pictures()).toHaveLength(6);
    expect([...gateway.rendered.values()]).toEqual(Array(6).fill(1));
  });
  it('of a cap: counts what all runs have cost together', async () => {
    await write('shots.jsonl', shots(6));
    await run('--max-credits', '3');
    const second = await run('--max-credits', '6');
    expect(second.err).toContain('cap 6 (3 of it spent before)');
    expect(second.out).toContain('4 of 6 succeeded');
    const third = await run('--max-credits', '9');
    expect(third.out).toContain('6 of 6 succeeded');
    expect(third.code).toBe(0);
  });
  it('of a cap: the same cap, or a lower one, is said to make nothing', async () => {
    await write('shots.jsonl', shots(6));
    await run('--max-credits', '4.5');
    for (const cap of [[], ['--max-credits', '4.5'], ['--max-credits', '3'], ['--yes']]) {
      const again = await run(...cap);
      expect(again.err).toContain('Going on with batch_');
      expect(again.err.includes('Ignored: --max-credits')).toBe(cap[1] === '3');
      expect(advised(again)).toEqual([['run', 'shots.jsonl', '--max-credits', '9']]);
    }
    expect(gateway.batches()).toHaveLength(1);
  });
  it('of empty credits: the same command goes on when there are new ones', async () => {
    await write('shots.jsonl', shots(4));
    gateway.poor = true;
    const first = await run();
    expect(first.code).toBe(1);
    expect(first.err).toContain('The credits ended: 4 items not made. With 6 more of them:');
    gateway.available = 3;
    const stillPoor = await run();
    expect(stillPoor.err).toContain('Going on with');
    expect(gateway.batches()).toHaveLength(1);
    gateway.available = 100;
    gateway.poor = false;
    const [same = []] = advised(first);
    expect(same).toEqual(['run', 'shots.jsonl']);
    const second = await ran(same, folder, gateway.url);
    expect(second.err).toContain('ran out of credits with 4 items missing');
    expect(second.out).toContain('4 of 4 succeeded');
  });
  it('of --yes: new credits are enough, the cap was not typed', async () => {
    await write('shots.jsonl', shots(4));
    gateway.available = 3;
    const first = await run('--yes');
    expect(first.out).toContain('2 of 4 succeeded');
    expect(first.err).toContain('The credits ended: 2 items not made');
    gateway.available = 100;
    expect((await run()).out).toContain('4 of 4 succeeded');
  });
  it('of failures: --retry-failed, with all that was typed for the shots', async () => {
    await write('shots.jsonl', [...shots(2), { sku: 'X', prompt: '[[fail]]' }]);
    const first = await run('--set', 'ticket=MKT 7', '--model', 'flux', '--no-download');
    expect(first.err).toContain(
      "  darkroom batch run shots.jsonl --model flux --set 'ticket=MKT 7' --no-download --retry-failed\n",
    );
  });
  it('of a halt: --retry-failed, and other terms are applied by a new batch', async () => {
    gateway.halts = true;
    await write('shots.jsonl', [...shots(1), { sku: 'X', prompt: '[[fail]]' }, ...shots(4).slice(2)]);
    const first = await run();
    expect(first).toMatchObject({ code: 1, err: expect.stringContaining('Mend the cause, then:') });
    expect(advised(first)).toEqual([['run', 'shots.jsonl', '--retry-failed']]);
    expect((await run('--no-breaker')).err).toMatch(/Ignored: --no-breaker\. .*--retry-failed/);
    gateway.halts = false;
    const second = await run('--retry-failed', '--no-breaker');
    expect(second.out).toContain('3 of 4 succeeded');
    expect(gateway.batches()).toHaveLength(2);
    const third = await run('--retry-failed');
    expect(third.out).toContain('4 of 4 succeeded');
    expect(gateway.batches()).toHaveLength(2);
  });
  it('of a cancel: the same command', async () => {
    gateway.pace = 0;
    await write('shots.jsonl', shots(2));
    const first = batch(['run', 'shots.jsonl'], folder, gateway.url);
    await first.says('runs; Ctrl-C');
    await ran(['cancel', 'shots.jsonl'], folder, gateway.url);
    expect(await first.ended).toBe(1);
    expect(advised({ err: first.err() })).toEqual([['run', 'shots.jsonl']]);
  });
  it('of faulty and withheld lines: correct them, and run again', async () => {
    const bad = [
      { sku: 'X', prompt: '[[fail:unknown_model]]' },
      { sku: 'Y', prompt: '[[fail:safety_filter]]' },
    ];
    await write('shots.jsonl', [...shots(1), ...bad]);
    const first = await run();
    expect(first.err).toContain('Soften the prompts of the 1 withheld item, then:');
    expect(first.err).toContain('Correct the 1 item that cannot be made as asked for, then:');
    expect(first.err).not.toContain('--retry-failed');
    await write('shots.jsonl', [...shots(1), ...bad.map(({ sku }) => ({ sku, prompt: 'mended' }))]);
    expect((await run()).out).toContain('3 of 3 succeeded');
  });
  it('nothing: --retry-failed says so', async () => {
    await write('shots.jsonl', shots(2));
    await run();
    const again = await run('--retry-failed', '--concurrency', '3');
    expect(again.err).toContain('Ignored: --concurrency. Everything is made.');
    expect(again.err).toContain('there is nothing to try again');
    expect(again.code).toBe(0);
  });
  it('is not paid for again when the gateway has forgotten the keys of what is finished', async () => {
    await write('shots.jsonl', shots(4));
    await run('--max-credits', '3');
    gateway.lapse();
    const again = await run('--max-credits', '60');
    expect(again).toMatchObject({ code: 2, err: expect.stringContaining('2 finished items by key any more') });
    expect(gateway.batches()).toHaveLength(1);
  });
});

describe('what is typed', () => {
  it('is refused before anything is sent when no batch can have it', async () => {
    await write('shots.jsonl', shots(1));
    for (const bad of [
      ['--max-credits', '-1'],
      ['--concurrency', '0'],
      ['--concurrency', '20000'],
      ['--name', 'x'.repeat(201)],
    ]) {
      const refused = await run(...bad);
      expect(refused).toMatchObject({ code: 2, err: expect.stringContaining(`${bad[0]}`) });
    }
    expect(gateway.asked).toEqual([]);
  });
  it('is said to be ignored where a batch runs that keeps its terms', async () => {
    gateway.pace = 0;
    await write('shots.jsonl', shots(2));
    const first = batch(['run', 'shots.jsonl', '--concurrency', '2'], folder, gateway.url);
    await first.says('runs; Ctrl-C');
    first.child.kill('SIGKILL');
    await first.ended;
    const second = batch(['run', 'shots.jsonl', '--concurrency', '2', '--max-credits', '7'], folder, gateway.url);
    await second.says('Ignored: ');
    gateway.pace = 9;
    expect(await second.ended).toBe(0);
    expect(second.err()).toMatch(/Ignored: --max-credits\. .*:\n {2}darkroom batch cancel batch_/);
  });
  it('a misspelt field is seen among the metadata', async () => {
    await write('shots.jsonl', shots(1, { sise: '64x64', seed: 3 }));
    const { out } = await run('--dry-run', '--model', 'flux');
    expect(out).toContain('  request   prompt, seed, model\n  metadata  sku, sise\n');
  });
  it('--dry-run tells of lines that would fail, and with --strict ends with 2', async () => {
    await write('shots.jsonl', [...shots(1), { sku: 'X', model: 'nobody', prompt: 'x' }]);
    const dry = await run('--dry-run');
    expect(dry.err).toContain('Nothing was sent; the credits reach. Correct 1 line first, or do without.');
    expect(dry.code).toBe(0);
    expect((await run('--dry-run', '--strict')).code).toBe(2);
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
  it('are never written through a link that lies in their way', async () => {
    await write('shots.jsonl', shots(1));
    await ran(['run', 'shots.jsonl', '--no-download'], folder, gateway.url);
    await writeFile(join(folder, 'theirs'), 'theirs');
    await mkdir(join(folder, 'shots.jsonl-pictures'));
    await symlink(join(folder, 'theirs'), join(folder, 'shots.jsonl-pictures', '.1-A0-0.png.part'));
    expect((await run()).code).toBe(0);
    expect(await readFile(join(folder, 'theirs'), 'utf8')).toBe('theirs');
    expect(await pictures()).toEqual(['1-A0-0.png']);
  });
  it('are named by the state without a folder, or it is damaged', async () => {
    await write('shots.jsonl', shots(1));
    await run();
    const state = await read('shots.jsonl.state.json');
    const [id = ''] = Object.keys(state.pictures);
    await writeFile(
      join(folder, 'shots.jsonl.state.json'),
      JSON.stringify({ ...state, pictures: { [id]: '../x.png' } }),
    );
    expect(await run()).toMatchObject({ code: 2, err: expect.stringContaining('damaged') });
  });
  it('stand in the order of the lines', async () => {
    await write('shots.jsonl', shots(10));
    await run();
    expect((await pictures()).map((name) => name.slice(0, 3))).toEqual(
      Array.from({ length: 10 }, (_, i) => `${String(i + 1).padStart(2, '0')}-`),
    );
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
    expect(first.err()).toMatch(/batch_\w+ is paused.*saved.*To go on:\n {2}darkroom batch run shots\.jsonl\n/);
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

// Where a command finds its gateway and its key, and what is remembered of them.

import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Darkroom } from '../../src/main.ts';
import { ADMIN, type Bench, createBench, openTestGateway } from './command.ts';

let bench: Bench;
let darkroom: Darkroom;
beforeAll(async () => {
  bench = await createBench();
  darkroom = await openTestGateway(bench.folder);
});
beforeEach(async () => {
  await bench.run(['login', '--url', darkroom.url, '--key', ADMIN]);
});
afterAll(async () => {
  await darkroom?.stop();
  await bench?.[Symbol.asyncDispose]();
});

const NOWHERE = 'http://127.0.0.1:9';
const file = () => join(bench.folder, '.config', 'darkroom', 'profiles.json');

describe('darkroom login', () => {
  it('remembers a gateway and a key once they work, for this person only, and never prints the key', async () => {
    const { code, stdout, stderr } = await bench.run(['login', '--url', `${darkroom.url}/`, '--key', ADMIN]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(darkroom.url);
    expect(stdout).not.toContain(ADMIN);
    expect((await stat(file())).mode & 0o777).toBe(0o600);
    expect((await bench.run(['credits', '--json'])).json().balance).toBe(1000);
  });
  it('takes the key from standard input, so that no shell remembers it', async () => {
    const { code } = await bench.run(['login', '--url', darkroom.url, '--profile', 'piped'], {}, `${ADMIN}\n`);
    expect(code).toBe(0);
    expect((await bench.run(['credits', '--profile', 'piped'])).code).toBe(0);
    expect((await bench.run(['credits', '--profile', 'nobody'])).code).toBe(2);
  });
  it('keeps what it had when the new key is refused or nobody answers', async () => {
    const before = await readFile(file(), 'utf8');
    expect((await bench.run(['login', '--url', darkroom.url, '--key', 'dk_wrong'])).code).toBe(3);
    expect((await bench.run(['login', '--url', NOWHERE, '--key', ADMIN])).code).toBe(4);
    expect((await bench.run(['login', '--url', darkroom.url], {}, '')).code).toBe(2);
    expect(await readFile(file(), 'utf8')).toBe(before);
  });
  it('is undone by logout', async () => {
    await bench.run(['login', '--url', darkroom.url, '--key', ADMIN, '--profile', 'gone']);
    expect((await bench.run(['logout', '--profile', 'gone', '--json'])).json()).toMatchObject({ forgotten: true });
    expect((await bench.run(['credits', '--profile', 'gone'])).code).toBe(2);
    expect((await bench.run(['credits'])).code).toBe(0);
  });
});

describe('the order in which they count', () => {
  it('is flag, environment, profile', async () => {
    const wrong = { DARKROOM_URL: NOWHERE, DARKROOM_KEY: 'dk_wrong' };
    expect((await bench.run(['credits'], wrong)).code).toBe(4);
    expect((await bench.run(['credits', '--url', darkroom.url], wrong)).code).toBe(3);
    expect((await bench.run(['credits', '--url', darkroom.url, '--key', ADMIN], wrong)).code).toBe(0);
    expect((await bench.run(['credits'])).code).toBe(0);
  });
  it('a remembered key is sent to no other address', async () => {
    const other = new URL(darkroom.url);
    other.hostname = 'localhost';
    const { code, stderr } = await bench.run(['credits', '--url', other.origin]);
    expect(code).toBe(3);
    expect(stderr).toMatch(/^There is no key for .*\n.*FOLDER\/data\/admin-key.*DARKROOM_KEY/);
  });
  it('the admin key in the data folder opens the gateway of this machine, and no other is asked for', async () => {
    await mkdir(join(bench.folder, 'data'), { recursive: true });
    await writeFile(join(bench.folder, 'data', 'admin-key'), `${ADMIN}\n`);
    const fresh = { XDG_CONFIG_HOME: join(bench.folder, 'elsewhere') };
    expect((await bench.run(['credits'], { ...fresh, DARKROOM_URL: darkroom.url })).code).toBe(0);
    expect((await bench.run(['credits'], { ...fresh, DARKROOM_PORT: new URL(darkroom.url).port })).code).toBe(0);
    const moved = { ...fresh, DARKROOM_URL: darkroom.url, DARKROOM_DATA: 'nowhere' };
    expect((await bench.run(['credits'], moved)).code).toBe(3);
  });
  it('the gateway of this machine is looked for where the settings here say it listens', async () => {
    const folder = join(bench.folder, 'config');
    await mkdir(folder, { recursive: true });
    const port = new URL(darkroom.url).port;
    await writeFile(
      join(folder, 'darkroom.yaml'),
      `port: ${port}\nadmin_key: ${ADMIN}\nnodes: [{id: a, auth: "\${UNSET}"}]\n`,
    );
    const fresh = { XDG_CONFIG_HOME: join(bench.folder, 'elsewhere') };
    expect((await bench.run(['credits'], fresh)).code).toBe(0);
    expect((await bench.run(['credits'], { ...fresh, DARKROOM_PORT: '9' })).code).toBe(4);
    const { code, stderr } = await bench.run(['credits'], { ...fresh, DARKROOM_PORT: 'abc' });
    expect([code, stderr]).toEqual([2, 'DARKROOM_PORT: expected a port from 1 to 65535, found "abc".\n']);
    await rm(folder, { recursive: true });
  });
  it('a profile file that is none of ours is named, not replaced', async () => {
    const home = join(bench.folder, 'broken');
    await mkdir(join(home, 'darkroom'), { recursive: true });
    await writeFile(join(home, 'darkroom', 'profiles.json'), '{"profiles": 7}');
    const { code, stderr } = await bench.run(['credits'], { XDG_CONFIG_HOME: home });
    expect([code, stderr]).toEqual([2, expect.stringContaining('profiles.json')]);
  });
});

// The doctor names what is wrong and what to do: with broken settings in a folder of its own, without and with a gateway,
// and with nodes that misbehave on command.

import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startComfyUi } from '../doubles/comfyui/server.ts';
import { ADMIN, type Bench, createBench, openTestGateway } from './command.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await createBench({ DARKROOM_PORT: '9' }); // where nobody listens
});
afterEach(async () => {
  await bench?.[Symbol.asyncDispose]();
});

const MODEL = (checkpoint: string, more = '') =>
  `{kind: image, best_for: Tests., capabilities: [text-to-image], price: 1, routes: [{backend: comfyui, workflow: txt2img, checkpoint: ${checkpoint}${more}}]}`;

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(bench.folder, name);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, text);
  }
}

/** Every finding as "state says → todo", and the exit status. */
async function examine(args: readonly string[] = [], env: Record<string, string> = {}) {
  const ended = await bench.run(['doctor', '--json', ...args], env);
  const { ok, sections } = ended.json();
  expect(ok).toBe(ended.code === 0);
  const found = sections.flatMap((s) => s.findings).map((f) => `${f.state} ${f.says} → ${f.todo}`);
  return { code: ended.code, found, wrong: found.filter((line) => line.startsWith('wrong')) };
}

describe('on a machine where no gateway runs', () => {
  it('all is usable as it comes, and says what to do next', async () => {
    const { code, found, wrong } = await examine();
    expect([code, wrong]).toEqual([0, []]);
    expect(found).toContainEqual(
      expect.stringMatching(/^warn gateway: nobody answers .* → Start it with "darkroom serve"/),
    );
    expect(found).toContainEqual(expect.stringMatching(/^ok 1 of \d+ models can run now: sketch/));
  });
  it('names file, line and expectation of every fault in the settings', async () => {
    await write({ 'config/darkroom.yaml': 'nodes:\n  - {id: a, kind: comfy, url: "x"}\nprot: 3\n' });
    const { code, wrong } = await examine();
    expect(code).toBe(1);
    expect(wrong[0]).toContain('darkroom.yaml:2: nodes.0.kind: expected one of comfyui, sdapi');
    expect(wrong[2]).toContain('darkroom.yaml:3: prot: expected no such key');
  });
  it('names what is wrong in the catalog and in workflows whose slots point nowhere', async () => {
    await write({ 'models.yaml': 'models:\n  a: {kind: picture}\n' });
    expect((await examine()).wrong[0]).toMatch(/models\.yaml:2: models\.a\.kind: expected one of image/);
    await write({
      'models.yaml': `models:\n  a: ${MODEL('x.safetensors')}\n`,
      'config/workflows/mine.json': '{"1": {"class_type": "SaveImage", "inputs": {"images": 1}}}',
      'config/workflows/mine.slots.yaml': 'slots:\n  prompt: {fills: ["6.inputs.text"]}\noutputs: ["1"]\n',
      'config/workflows/loose.json': '{}',
    });
    const broken = await examine();
    expect(broken.code).toBe(1);
    expect(broken.wrong[0]).toMatch(/mine\.slots\.yaml:2: .*expected a node of the graph, not "6"/);
    await rm(join(bench.folder, 'config/workflows/mine.slots.yaml'));
    const { found } = await examine();
    expect(found).toContainEqual(expect.stringMatching(/^warn workflow: .*loose\.json has no loose\.slots\.yaml/));
  });
  it('says that the default model is not in the catalog', async () => {
    await write({
      'config/darkroom.yaml': 'default_model: dream\n',
      'models.yaml': `models:\n  a: ${MODEL('x.safetensors')}\n`,
    });
    expect((await examine()).wrong).toContainEqual(expect.stringContaining('default_model "dream"'));
  });
  it('asks the nodes itself: who is away, what is missing, and what they have that is near', async () => {
    await using comfy = await startComfyUi({ installed: { checkpoints: ['juggernautXL_v9.safetensors'] } });
    await write({
      'config/darkroom.yaml': `nodes:
  - {id: rack-1, kind: comfyui, url: "${comfy.url}"}
  - {id: rack-2, kind: comfyui, url: "http://127.0.0.1:9"}
  - {id: rack-3, kind: sdapi, url: "${comfy.url}"}\n`,
      'models.yaml': `models:
  jugger: ${MODEL('JuggernautXL-v8.safetensors')}
  big: ${MODEL('x.safetensors', ', labels: [big]')}
  hosted: {kind: image, best_for: Tests., capabilities: [text-to-image], price: 1, routes: [{backend: fal, remote: x}]}\n`,
    });
    const { code, found, wrong } = await examine();
    expect(code).toBe(1);
    expect(found).toContainEqual(expect.stringMatching(/^ok rack-1: online, comfyui/));
    expect(wrong).toContainEqual(expect.stringMatching(/rack-2: offline .*ECONNREFUSED.* → Start it at http/));
    expect(wrong).toContainEqual(expect.stringMatching(/rack-3: offline .* → Write kind: comfyui/));
    expect(wrong).toContainEqual(
      expect.stringMatching(/jugger: rack-1 lacks the checkpoint .* what is there: juggernautXL_v9\.safetensors/),
    );
    expect(found).toContainEqual(
      expect.stringMatching(
        /^warn 2 of 3 models have nobody.*labels big \(which rack-1, rack-2 lacks\), an account at fal/,
      ),
    );
  });
  it('says that the data folder, the key or the database cannot be used', async () => {
    await write({ data: 'a file', 'data2/admin-key': ADMIN });
    expect((await examine()).wrong[0]).toContain('is a file');
    const { found } = await examine([], {
      DARKROOM_DATA: 'data2',
      DARKROOM_DATABASE_URL: 'postgres://me:secret-word@127.0.0.1:9/darkroom',
    });
    expect(found).toContainEqual(expect.stringMatching(/^warn admin key: others .* → chmod 600/));
    expect(found).toContainEqual(
      expect.stringMatching(/^wrong database: PostgreSQL at 127\.0\.0\.1:9\/darkroom: .*ECONNREFUSED/),
    );
    expect(found.join()).not.toContain('secret-word');
  });
});

it('names the variable, and the folder that is no disk', async () => {
  const port = await examine([], { DARKROOM_PORT: 'abc' });
  expect([port.code, port.wrong[0]]).toEqual([1, expect.stringContaining('DARKROOM_PORT: expected a port')]);
  const data = await examine([], { DARKROOM_DATA: '/proc/darkroom' });
  expect(data.wrong[0]).toMatch(/data folder: \/proc (is no disk|cannot be written)/);
});

describe('with a running gateway', () => {
  it('tells of its nodes and models, and of the edit it refused', async () => {
    await using comfy = await startComfyUi({ installed: { checkpoints: ['other.safetensors'] } });
    const settings = `nodes:\n  - {id: rack-1, kind: comfyui, url: "${comfy.url}"}\n`;
    const darkroom = await openTestGateway(bench.folder, settings);
    try {
      const env = { DARKROOM_URL: darkroom.url, DARKROOM_KEY: ADMIN };
      const { code, found, wrong } = await examine([], env);
      expect([code, wrong]).toEqual([0, []]);
      expect(found).toContainEqual(expect.stringMatching(/^ok gateway: answers at/));
      expect(found).toContainEqual(expect.stringMatching(/^ok clock: agrees/));
      expect(found).toContainEqual(expect.stringMatching(/^ok rack-1: online/));
      expect(found).toContainEqual(
        expect.stringMatching(/^warn absent: rack-1 lacks the checkpoint sdxl\.safetensors/),
      );
      const refused = await examine(['--key', 'dk_wrong'], env);
      expect(refused.wrong).toEqual([expect.stringContaining('key: refused')]);
    } finally {
      await darkroom.stop();
    }
  });
  it.each(['http://gateway.invalid:8787', 'http://127.0.0.1:2'])(
    'one that was named, %s, and does not answer is wrong',
    async (url) => {
      const { code, wrong } = await examine(['--url', url]);
      expect([code, wrong.length]).toEqual([1, 1]);
      expect(wrong[0]).toContain(`nobody answers at ${url} (no`);
    },
  );
  it('another program where the gateway should listen is wrong', async () => {
    await using comfy = await startComfyUi();
    const { code, wrong } = await examine([], { DARKROOM_PORT: new URL(comfy.url).port });
    expect([code, wrong]).toEqual([1, [expect.stringMatching(/what answers at .* is none \(HTTP 404\)/)]]);
  });
  it('beside one that was started in another folder no settings are told of that it does not have', async () => {
    const darkroom = await openTestGateway(bench.folder);
    try {
      const { found } = await examine(['--key', ADMIN], { DARKROOM_PORT: new URL(darkroom.url).port });
      expect(found).toContainEqual(expect.stringMatching(/^ok settings: none in this folder/));
      expect(found.filter((line) => /admin key|data folder|database/.test(line))).toEqual([]);
    } finally {
      await darkroom.stop();
    }
  });
  it('once it is down, the nodes that were added to it are still asked', async () => {
    await using comfy = await startComfyUi();
    const darkroom = await openTestGateway(bench.folder);
    const env = { DARKROOM_URL: darkroom.url, DARKROOM_KEY: ADMIN };
    await bench.run(['nodes', 'add', 'rack-7', comfy.url], env);
    await bench.run(['nodes', 'add', 'rack-8', comfy.url], env);
    await bench.run(['nodes', 'drain', 'rack-8'], env);
    await darkroom.stop();
    const { found } = await examine([], { DARKROOM_DATA: join(bench.folder, 'gateway-data') });
    expect(found).toContainEqual(expect.stringMatching(/^ok rack-7: online/));
    expect(found).toContainEqual(expect.stringMatching(/^warn rack-8: gets no new work/));
  });
});

describe('for people', () => {
  it('prints a checked list and a verdict', async () => {
    const { stdout, stderr, code } = await bench.run(['doctor']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^This machine\n {2}ok {5}Node\.js 26/);
    expect(stdout).toMatch(/\nUsable, \d things to look at\.\n$/);
  });
});

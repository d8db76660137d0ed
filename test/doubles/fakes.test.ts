// The command as a user meets it: a child process, its output, its end.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { until } from '../harness/manual-clock.ts';

const run = (...args: readonly string[]) => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('fakes.ts', import.meta.url)), ...args]);
  const told = { out: '', error: '' };
  child.stdout.on('data', (chunk) => {
    told.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    told.error += chunk;
  });
  return { child, told };
};

it('starts the fleet, prints nodes that can be pasted, switches faults, and ends on SIGINT', async () => {
  const { child, told } = run('--comfyui', '1', '--sdapi', '1', '--port', '0', '--render-ms', '0');
  await until(() => told.out.includes('__log'), 'the fleet');
  const { nodes } = parse(told.out.slice(0, told.out.indexOf('curl'))) as { nodes: { kind: string; url: string }[] };
  expect(nodes.map(({ kind }) => kind)).toEqual(['comfyui', 'sdapi']);
  const [comfyui, sdapi] = nodes.map(({ url }) => url);
  expect((await fetch(`${comfyui}/system_stats`)).status).toBe(200);
  expect((await fetch(`${sdapi}/sdapi/v1/options`)).status).toBe(200);
  await fetch(`${comfyui}/__fault`, { method: 'POST', body: '{"name": "bad_gateway", "times": 1}' });
  expect((await fetch(`${comfyui}/queue`)).status).toBe(502);
  const closed = once(child, 'exit');
  child.kill('SIGINT');
  expect(await closed).toEqual([0, null]);
  expect(told.error).toBe('');
});

it('refuses options that make no sense, and explains itself', async () => {
  const wrong = run('--comfyui', 'many');
  expect(await once(wrong.child, 'exit')).toEqual([1, null]);
  expect(wrong.told.error).toContain('whole number');
  const help = run('--help');
  expect(await once(help.child, 'exit')).toEqual([0, null]);
  expect(help.told.out).toContain('--render-ms');
});

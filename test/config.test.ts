// Settings: a file, the environment over it, and one clear sentence for whatever is wrong.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Config, ConfigError, loadConfig } from '../src/config.ts';

const HOUSE = resolve(import.meta.dirname, '..');
let cwd: string;

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'darkroom-config-'));
  mkdirSync(join(cwd, 'config'));
});
afterEach(() => rmSync(cwd, { recursive: true, force: true }));

function load(yaml: string, env: Readonly<Record<string, string>> = {}): Config {
  writeFileSync(join(cwd, 'config', 'darkroom.yaml'), yaml);
  return loadConfig(env, cwd);
}

function refusal(yaml: string, env: Readonly<Record<string, string>> = {}): string {
  try {
    load(yaml, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return 'accepted';
}

describe('defaults', () => {
  test('no file at all is all defaults', () => {
    expect(loadConfig({}, cwd)).toMatchObject({
      host: '127.0.0.1',
      port: 8787,
      data: join(cwd, 'data'),
      models: join(HOUSE, 'models.yaml'),
      workflows: [join(cwd, 'config', 'workflows'), join(HOUSE, 'config', 'workflows')],
      adminKey: null,
      publicUrl: null,
      databaseUrl: null,
      logLevel: 'info',
      defaultModel: 'sketch',
      sketch: true,
      nodes: [],
      accounts: [],
      outputs: { linkMs: 30 * 86_400_000, retentionMs: null, quotaBytes: null, provenance: true },
      studioCredits: 1_000_000,
      usdPerCredit: 0.01,
      limits: { concurrency: 50, queue: 100_000, requestsPerMinute: null },
      policy: { blocked: [] },
      scheduling: { swapWorth: 3, patienceMs: 300_000, drainMs: 30_000 },
    });
  });

  test('an empty file says the same as none', () => {
    expect(load('')).toEqual(loadConfig({}, cwd));
  });

  test('the shipped sample says the same as none, but for where it lies', () => {
    const { workflows, data, models, ...sample } = loadConfig({}, HOUSE);
    expect(loadConfig({}, cwd)).toMatchObject(sample);
    expect(workflows).toEqual([join(HOUSE, 'config', 'workflows')]);
  });

  test('a catalog in the working directory goes before the shipped one', () => {
    writeFileSync(join(cwd, 'models.yaml'), '');
    expect(loadConfig({}, cwd).models).toBe(join(cwd, 'models.yaml'));
  });

  test('nothing in it can be changed', () => {
    const config = load('nodes: [{id: a, kind: comfyui, url: "http://10.0.0.1"}]');
    expect(Object.isFrozen(config) && Object.isFrozen(config.limits) && Object.isFrozen(config.nodes[0])).toBe(true);
  });
});

describe('the file', () => {
  test('units become milliseconds, bytes and millicredits', () => {
    const config = load(
      'outputs: {link_days: 1, retention_days: 2, quota_gb: 0.5}\nstudio_credits: 2.5\nscheduling: {patience_seconds: 60, workspaces: {ws_a: {overflow_seconds: 20}}}',
    );
    expect(config.outputs).toEqual({ linkMs: 86_400_000, retentionMs: 172_800_000, quotaBytes: 5e8, provenance: true });
    expect(config.studioCredits).toBe(2500);
    expect(config.scheduling).toEqual({
      swapWorth: 3,
      patienceMs: 60_000,
      overflowMs: null,
      workspaces: { ws_a: 20_000 },
      drainMs: 30_000,
    });
  });

  test('what is blocked is kept as it was written', () => {
    expect(load("policy: {blocked: [Forbidden phrase, '/\\bguns?\\b/i']}").policy.blocked).toEqual([
      'Forbidden phrase',
      '/\\bguns?\\b/i',
    ]);
  });

  test('nodes and accounts carry what they need', () => {
    const config = load(
      `nodes:
  - {id: Rack-1, kind: comfyui, url: "http://10.0.0.11:8188/", labels: [big], auth: null}
  - {id: rack-2, kind: sdapi, url: "https://10.0.0.12/sd/", auth: {username: a, password: "\${PASSWORD}"}, slots: "\${SLOTS}"}
accounts:
  - {id: replicate, kind: replicate, token: "tok-\${TOKEN}", base_url: "http://127.0.0.1:9/v1/"}
`,
      { PASSWORD: '12: #34', TOKEN: '0123', SLOTS: '2' },
    );
    expect(config.nodes).toEqual([
      { id: 'Rack-1', kind: 'comfyui', url: 'http://10.0.0.11:8188', labels: ['big'], auth: null, slots: 1 },
      {
        id: 'rack-2',
        kind: 'sdapi',
        url: 'https://10.0.0.12/sd',
        labels: [],
        auth: { username: 'a', password: '12: #34' },
        slots: 2,
      },
    ]);
    expect(config.accounts).toEqual([
      { id: 'replicate', kind: 'replicate', token: 'tok-0123', slots: 4, baseUrl: 'http://127.0.0.1:9/v1' },
    ]);
  });

  test('a variable in a comment is nobody’s business, and $${…} stands for itself', () => {
    expect(
      load(`# \${NOBODY}\nnodes: [{id: a, kind: sdapi, url: "http://h", labels: ["$\${X}"]}]`).nodes[0]?.labels,
    ).toEqual([`\${X}`]);
  });

  const node = (rest: string) => `nodes:\n  - {kind: comfyui, ${rest}}\n`;
  const wrong: readonly (readonly [what: string, yaml: string, message: string | RegExp])[] = [
    ['an unknown key', 'prot: 1', 'darkroom.yaml:1: prot: expected no such key'],
    [
      'an unknown variable',
      `\nhost: "\${NOBODY}"`,
      'darkroom.yaml:2: expected the environment variable NOBODY to be set',
    ],
    [
      'two unknown variables',
      `host: "\${A}"\ndata: "\${B}"`,
      /^darkroom\.yaml:1: .*A to be set\ndarkroom\.yaml:2: .*B to be set$/,
    ],
    [
      'a blocked pattern that cannot be used',
      'policy:\n  blocked:\n    - gun\n    - /(a)\\1/i',
      'darkroom.yaml:4: policy.blocked.1: expected another entry: \\1 is not understood',
    ],
    ['a bad port', 'port: 99999', 'darkroom.yaml:1: port: expected a port from 0 to 65535'],
    [
      'a node of another kind',
      'nodes: [{id: a, kind: sketch, url: "http://h"}]',
      /^darkroom\.yaml:1: nodes\.0\.kind: expected one of comfyui, sdapi$/,
    ],
    ['a bad id', node('id: Rack 1, url: "http://h"'), /^darkroom\.yaml:2: nodes\.0\.id: expected letters, digits/],
    ['the id of the built-in node', node('id: sketch, url: "http://h"'), /nodes\.0\.id: expected another id/],
    ['an unknown key of a node', node('id: a, url: "http://h", token: x'), /nodes\.0\.token: expected no such key$/],
    ['a URL with a query', node('id: a, url: "http://h/?x"'), /nodes\.0\.url: expected a URL without \? and #$/],
    ['an address that is nobody’s', node('id: a, url: "http://0.0.0.0"'), /nodes\.0\.url: expected an address that/],
    [
      'too many slots, in text too',
      node('id: a, url: "http://h", slots: "65"'),
      /nodes\.0\.slots: expected at most 64$/,
    ],
    [
      'an id twice',
      'nodes:\n  - {id: a, kind: sdapi, url: "http://h"}\n  - {id: a, kind: sdapi, url: "http://i"}',
      'darkroom.yaml:3: nodes.1.id: expected an id of its own; "a" stands above',
    ],
    [
      'another scheme',
      node('id: a, url: "ftp://h"'),
      'darkroom.yaml:2: nodes.0.url: expected an http:// or https:// URL',
    ],
    [
      'credentials in the URL',
      node('id: a, url: "http://u:p@h"'),
      'darkroom.yaml:2: nodes.0.url: expected a URL without user name and password',
    ],
    [
      'the metadata address',
      node('id: a, url: "http://169.254.169.254/latest"'),
      /nodes\.0\.url: expected an address that is not link-local/,
    ],
    [
      'the metadata address in disguise',
      node('id: a, url: "http://2852039166"'),
      /nodes\.0\.url: expected an address that is not link-local/,
    ],
    [
      'the metadata address mapped into IPv6',
      node('id: a, url: "http://[::ffff:169.254.169.254]"'),
      /nodes\.0\.url: expected an address that is not link-local/,
    ],
    [
      'the metadata name',
      node('id: a, url: "http://metadata.google.internal."'),
      /nodes\.0\.url: expected an address that is not link-local/,
    ],
    [
      'a range that is none',
      'outbound: {allow_private: [10.0.0.0/64]}',
      'darkroom.yaml:1: outbound.allow_private.0: expected an address range like 10.0.0.0/8',
    ],
    [
      'an account at the metadata address',
      'accounts: [{id: a, kind: openai, token: x, base_url: "http://169.254.169.254/v1"}]',
      /darkroom.yaml:1: accounts\.0\.base_url: expected an address that is not link-local/,
    ],
    [
      'an account of an unknown provider',
      'accounts: [{id: a, kind: acme, token: x}]',
      /^darkroom\.yaml:1: accounts\.0\.kind: expected one of replicate, fal/,
    ],
    [
      'an account with the id of a node',
      'nodes:\n  - {id: a, kind: sdapi, url: "http://h"}\naccounts:\n  - {id: b, kind: fal, token: x}\n  - {id: a, kind: fal, token: x}',
      'darkroom.yaml:5: accounts.1.id: expected an id of its own; "a" is the id of a node',
    ],
    [
      'an account with the id of the built-in node',
      'accounts: [{id: sketch, kind: fal, token: x}]',
      /^darkroom\.yaml:1: accounts\.0\.id: expected another id: sketch/,
    ],
    [
      'an empty token',
      'accounts: [{id: a, kind: fal, token: ""}]',
      /accounts\.0\.token: expected a key without spaces/,
    ],
    [
      'credits too fine',
      'studio_credits: 0.0001',
      'darkroom.yaml:1: studio_credits: expected credits with at most 3 decimals',
    ],
    ['broken YAML', 'nodes: [', /^darkroom\.yaml:1: expected valid YAML: /],
  ];
  test.each(wrong)('%s is refused with its line', (_, yaml, message) => {
    if (typeof message === 'string') expect(refusal(yaml)).toBe(message);
    else expect(refusal(yaml)).toMatch(message);
  });
});

describe('the environment', () => {
  test('goes over the file', () => {
    const config = load('port: 1\nhost: 10.0.0.1\npublic_url: https://a.example\nlog_level: warn', {
      DARKROOM_PORT: '0',
      DARKROOM_HOST: '0.0.0.0',
      DARKROOM_DATA: 'store',
      DARKROOM_MODELS: 'mine.yaml',
      DARKROOM_ADMIN_KEY: 'dk_admin',
      DARKROOM_PUBLIC_URL: 'https://b.example/gate/',
      DARKROOM_DATABASE_URL: 'postgres://u:p@db/darkroom',
      DARKROOM_LOG_LEVEL: 'debug',
    });
    expect(config).toMatchObject({
      port: 0,
      host: '0.0.0.0',
      data: join(cwd, 'store'),
      models: join(cwd, 'mine.yaml'),
      adminKey: 'dk_admin',
      publicUrl: 'https://b.example/gate',
      databaseUrl: 'postgres://u:p@db/darkroom',
      logLevel: 'debug',
    });
  });

  test('an empty variable is an unset one', () => {
    expect(load('port: 1', { DARKROOM_PORT: '', DARKROOM_ADMIN_KEY: ' ' })).toMatchObject({ port: 1, adminKey: null });
  });

  test('DARKROOM_CONFIG names the file, and workflows are looked for beside it', () => {
    mkdirSync(join(cwd, 'etc'));
    writeFileSync(join(cwd, 'etc', 'studio.yaml'), 'port: 5');
    const config = loadConfig({ DARKROOM_CONFIG: 'etc/studio.yaml' }, cwd);
    expect(config.port).toBe(5);
    expect(config.workflows[0]).toBe(join(cwd, 'etc', 'workflows'));
  });

  test('a directory where the file would be is named', () => {
    const path = join(cwd, 'config', 'darkroom.yaml');
    mkdirSync(path);
    const refused = new ConfigError(`expected a file, there is a directory at ${path}`);
    expect(() => loadConfig({}, cwd)).toThrow(refused);
  });

  const wrong: readonly (readonly [variable: string, value: string, message: RegExp])[] = [
    ['DARKROOM_PORT', 'eighty', /^DARKROOM_PORT: expected a port from 0 to 65535, found "eighty"$/],
    ['DARKROOM_PORT', '80.5', /^DARKROOM_PORT: expected a port from 0 to 65535, found "80\.5"$/],
    ['DARKROOM_PUBLIC_URL', 'example.com', /^DARKROOM_PUBLIC_URL: expected an http:\/\/ or https:\/\/ URL/],
    ['DARKROOM_LOG_LEVEL', 'loud', /^DARKROOM_LOG_LEVEL: expected one of debug, info/],
    ['DARKROOM_HOST', 'a b', /^DARKROOM_HOST: expected a host name/],
    ['DARKROOM_CONFIG', 'none.yaml', /^DARKROOM_CONFIG: expected a file, there is none at /],
    ['DARKROOM_CONFIG', '.', /^DARKROOM_CONFIG: expected a file, there is a directory at /],
    ['DARKROOM_CONFIG', 'config/darkroom.yaml/x', /^DARKROOM_CONFIG: expected a file, there is none at /],
    ['DARKROOM_DATABASE_URL', 'mysql://u:hush@db', /^DARKROOM_DATABASE_URL: expected a postgres:\/\/ URL$/],
    ['DARKROOM_ADMIN_KEY', 'hush hush', /^DARKROOM_ADMIN_KEY: expected a key without spaces$/],
  ];
  test.each(wrong)('%s=%s is refused in one sentence that repeats no secret', (variable, value, message) => {
    expect(refusal('', { [variable]: value })).toMatch(message);
  });
});

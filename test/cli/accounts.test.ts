// Accounts at hosted providers as an operator meets them: in lists, in what the doctor says, in metrics and readiness,
// and in what a model says of itself. The stand-in refuses the key, then takes it again.

import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { judgeAccounts } from '../../src/cli/doctor/accounts.ts';
import { loadConfig } from '../../src/config.ts';
import type { FailureCode } from '../../src/domain/failure.ts';
import { type Darkroom, openDarkroom } from '../../src/main.ts';
import { type HostedDouble, startHosted } from '../doubles/hosted/hosted.ts';
import { until } from '../harness/manual-clock.ts';
import { ADMIN, type Bench, createBench } from './command.ts';

const DAY = 86_400_000;
const day = (offset: number) => new Date(Date.now() + offset * DAY).toISOString().slice(0, 10);
const model = (id: string, routes: string, more = '') =>
  `  ${id}: {kind: image, best_for: Tests., capabilities: [text-to-image], price: 1, defaults: {width: 512, height: 512}, ${more}routes: [${routes}]}\n`;
const FAL = 'backend: fal, remote: fal-ai/flux/dev';
const MODELS = `models:\n${[
  model('drawn', `{${FAL}}`),
  model('typo', `{${FAL}, account: fall}`),
  model('abroad', `{backend: replicate, remote: a/b, account: fal}`),
  model('old', `{${FAL}}`, `retires: ${day(-40)}, fallback: [drawn], `),
  model('ageing', `{${FAL}}`, `retires: ${day(30)}, `),
  model('young', `{${FAL}}`, `retires: ${day(90)}, `),
].join('')}`;

let bench: Bench;
let fal: HostedDouble;
let darkroom: Darkroom | null;
beforeEach(async () => {
  darkroom = null;
  bench = await createBench({ DARKROOM_PORT: '9' });
  fal = await startHosted('fal');
  await write('');
});
afterEach(async () => {
  await darkroom?.stop();
  await fal?.close();
  await bench?.[Symbol.asyncDispose]();
});

async function write(more: string, models = MODELS): Promise<void> {
  const account = `accounts: [{id: fal, kind: fal, token: "${fal.key}", base_url: "${fal.url}", slots: 3}]\n`;
  await writeFile(join(bench.folder, 'models.yaml'), models);
  await writeFile(
    join(bench.folder, 'darkroom.yaml'),
    `log_level: silent\nsketch: false\ndefault_model: drawn\noutbound: {allow_private: ["127.0.0.0/8"]}\n${account}${more}`,
  );
}

const variables = () => ({
  DARKROOM_CONFIG: join(bench.folder, 'darkroom.yaml'),
  DARKROOM_MODELS: join(bench.folder, 'models.yaml'),
  DARKROOM_DATA: join(bench.folder, 'kept'),
});

async function start(): Promise<Record<string, string>> {
  const env = { ...variables(), DARKROOM_PORT: '0', DARKROOM_ADMIN_KEY: ADMIN };
  const opened = await openDarkroom(loadConfig(env, bench.folder));
  darkroom = opened;
  await until(() => opened.gateway.nodes().every((n) => n.report !== null), 'every account met');
  return { DARKROOM_URL: opened.url, DARKROOM_KEY: ADMIN };
}

async function examine(env: Record<string, string>) {
  const ended = await bench.run(['doctor', '--json'], env);
  return ended.json().sections.flatMap((s) => s.findings.map((f) => `${f.state} ${f.says} → ${f.todo}`));
}

const headers = { authorization: `Bearer ${ADMIN}`, 'content-type': 'application/json' };
async function read(path: string): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await fetch(`${darkroom?.url}${path}`, { headers });
  return { status: answer.status, text: await answer.text() };
}

/** Has one generation find out what is wrong with the account. */
async function findOut(fault: 'auth' | 'balance' | 'model_gone'): Promise<void> {
  fal.faults.on(fault);
  const body = JSON.stringify({ model: 'drawn', prompt: 'a fox', wait: 30 });
  const answer = await fetch(`${darkroom?.url}/v1/generations`, { method: 'POST', headers, body });
  expect(await answer.json()).toMatchObject({ status: 'failed' });
}

describe('before a gateway runs', () => {
  it('the doctor names accounts, and asks nothing of a provider', async () => {
    const found = await examine(variables());
    expect(found).toContainEqual('ok fal: account at fal, 3 at once → null');
    expect(found).toContainEqual(expect.stringMatching(/^ok \d of 6 models can run now: drawn/));
    expect(fal.log).toEqual([]);
  });
  it('says which routes name an account that is not there, or is one elsewhere', async () => {
    const found = await examine(variables());
    expect(found).toContainEqual(
      'warn typo: its route to fal names the account fall, which does not exist → Add it to accounts: in the settings, or name fal in models.yaml, or none.',
    );
    expect(found).toContainEqual(
      expect.stringMatching(/^warn abroad: its route to replicate names the account fal, which is one at fal →/),
    );
  });
  it('says which hosted routes nobody has an account for', async () => {
    expect(await examine(variables())).toContainEqual(
      expect.stringMatching(/^ok accounts: none at 1 provider; .* replicate \(abroad\)/),
    );
    expect(await examine({ DARKROOM_MODELS: resolve(import.meta.dirname, '../../models.yaml') })).toContainEqual(
      expect.stringMatching(/^ok accounts: there are none; their routes stay unused: replicate \(flux-1\.1-pro/),
    );
  });
  it('says which models have retired, or will within 60 days', async () => {
    const retiring = (await examine(variables())).filter((line) => /retire/.test(line));
    expect(retiring).toEqual([
      expect.stringMatching(/^warn old: retired 40 d ago → .*an alias of another \(drawn\) in models\.yaml\.$/),
      expect.stringMatching(/^warn ageing: retires in (29|30) d → .* by then\.$/),
    ]);
    expect(await examine(variables())).toContainEqual('ok 3 of 6 models can run now: drawn, ageing, young → null');
  });
});

describe('with an account that works', () => {
  it('the list has it beside the nodes, without its key', async () => {
    const env = await start();
    const { stdout } = await bench.run(['nodes'], env);
    expect(stdout).toMatch(/^ACCOUNT +CIRCUIT +SINCE +AT ONCE +PROVIDER\nfal +closed +\S.* +3 +fal\n$/);
    const listed = await bench.run(['nodes', '--json'], env);
    expect(listed.json().data).toMatchObject([{ id: 'fal', kind: 'fal', slots: 3, circuit: { state: 'closed' } }]);
    expect(listed.stdout).not.toContain(fal.key);
  });
  it('a gateway with nothing but accounts is ready, and its metrics count them apart from nodes', async () => {
    await start();
    expect((await read('/readyz')).status).toBe(200);
    const { text } = await read('/metrics');
    expect(text).toContain('darkroom_account_circuit_open{account="fal",kind="fal"} 0');
    expect(text).toContain('darkroom_account_running{account="fal",kind="fal"} 0');
    expect(text).not.toMatch(/darkroom_node_\w+\{node="fal"/);
  });
  it('drains and resumes, and its key is not kept in the data folder', async () => {
    const env = await start();
    expect((await bench.run(['nodes', 'drain', 'fal'], env)).stdout).toMatch(/fal +draining .*drained by an operator/);
    expect(await examine(env)).toContainEqual(
      'warn fal: gets no new work (drained by an operator) → darkroom nodes resume fal',
    );
    expect(JSON.parse((await read('/v1/nodes')).text).data).toMatchObject([
      { id: 'fal', draining: true, circuit: { state: 'closed', reason: null, code: null } },
    ]);
    await darkroom?.stop();
    for (const file of ['darkroom.db', 'darkroom.db-wal'])
      expect(await readFile(join(bench.folder, 'kept', file), 'latin1').catch(() => '')).not.toContain(fal.key);
    const again = await start();
    expect((await bench.run(['nodes', 'resume', 'fal', '--json'], again)).json()).toMatchObject({
      circuit: { state: 'closed', reason: null },
    });
  });
  it('once the settings no longer have it, it is gone, drained or not', async () => {
    const env = await start();
    await bench.run(['nodes', 'drain', 'fal'], env);
    await darkroom?.stop();
    await writeFile(variables().DARKROOM_CONFIG, 'log_level: silent\ndefault_model: drawn\n');
    const again = await start();
    expect((await bench.run(['nodes', '--json'], again)).json().data.map((n) => n.id)).toEqual(['sketch']);
  });
});

describe('with an account that is refused', () => {
  it.each([
    ['balance', 'out of money', /Top up the account at fal, then: darkroom nodes resume fal/],
    ['auth', 'refused the key', /Correct the token of fal in the settings/],
  ] as const)('%s: everyone who asks is told what and how to mend it', async (fault, why, todo) => {
    const env = await start();
    await findOut(fault);
    expect((await bench.run(['nodes'], env)).stdout).toMatch(new RegExp(`fal +open .*${why}`));
    expect(JSON.parse((await read('/v1/nodes')).text).data).toMatchObject([
      { draining: false, circuit: { state: 'open', code: `provider_${fault}` } },
    ]);
    const found = await examine(env);
    expect(found).toContainEqual(expect.stringMatching(new RegExp(`^wrong fal: nothing goes there \\(.*${why}`)));
    expect(found.find((line) => line.startsWith('wrong fal:'))).toMatch(todo);
    expect(found).toContainEqual(
      expect.stringMatching(new RegExp(`drawn: fal takes nothing for now: .*${why}.* → See its account above\\.`)),
    );
    expect(JSON.parse((await read('/v1/models/drawn')).text)).toMatchObject({
      usable: false,
      why_not: expect.stringMatching(new RegExp(`^fal takes nothing for now: .*${why}`)),
    });
    expect(await read('/readyz')).toMatchObject({ status: 503 });
    expect((await read('/metrics')).text).toContain('darkroom_account_circuit_open{account="fal",kind="fal"} 1');
  });
  it('an operator who has mended it need not wait', async () => {
    const env = await start();
    await findOut('balance');
    const resumed = await bench.run(['nodes', 'resume', 'fal', '--json'], env);
    expect(resumed.json()).toMatchObject({ circuit: { state: 'closed', reason: null } });
    expect((await read('/readyz')).status).toBe(200);
  });
});

describe('with an account whose provider took a model away', () => {
  it('every route to it says so, and the doctor what to do', async () => {
    const two = model('both', `{${FAL}}, {backend: fal, remote: fal-ai/flux/schnell}`);
    await write('', `models:\n${model('drawn', `{${FAL}}`)}${two}`);
    const env = await start();
    await findOut('model_gone');
    const lost = { usable: false, why_not: 'fal no longer has fal-ai/flux/dev', gone_since: expect.any(String) };
    expect(JSON.parse((await read('/v1/models')).text).data).toMatchObject([
      { id: 'drawn', usable: false, routes: [lost] },
      { id: 'both', usable: true, routes: [lost, { usable: true, why_not: null, gone_since: null }] },
    ]);
    const found = await examine(env);
    for (const line of [
      /^warn drawn: fal no longer has fal-ai\/flux\/dev → Correct or remove its route in models\.yaml\./,
      /^warn both: fal no longer has fal-ai\/flux\/dev \(it said so .*\) → Correct or remove its route/,
    ])
      expect(found).toContainEqual(expect.stringMatching(line));
  });
});

it('the remedy follows from the failure, whatever words it came in', async () => {
  const circuit = {
    state: 'open',
    since: new Date().toISOString(),
    reason: 'The keyboard of its credit desk burns.',
  } as const;
  const account = { id: 'fal', kind: 'fal', slots: 1, draining: false } as const;
  const told = (code: FailureCode) =>
    judgeAccounts({
      nodes: [],
      models: [],
      usdPerCredit: 0.01,
      accounts: [{ ...account, circuit: { ...circuit, code } }],
    })[0]?.todo;
  expect(told('node_lost')).toMatch(/^It is tried again by itself/);
  expect(told('provider_balance')).toMatch(/^Top up/);
  expect(told('provider_auth')).toMatch(/^Correct the token/);
});

describe('prices', () => {
  const listed = `models:\n${[
    model('dear', `{${FAL}, usd: 0.02, price_as_of: ${day(-3)}}, {backend: bfl, remote: flux-dev, usd: 9}`),
    model('even', `{${FAL}, usd: 0.01, price_as_of: ${day(-200)}}`),
    model('drawn', `{${FAL}}`, `price_as_of: ${day(-200)}, `),
  ].join('')}`;
  it('the doctor tells of routes that cost more than they bring in, and of what was read long ago', async () => {
    await write('', listed);
    for (const env of [variables(), await start()]) {
      const told = (await examine(env)).filter((line) => / costs |prices read/.test(line));
      expect(told).toEqual([
        expect.stringMatching(
          /^warn dear: an output by fal \(fal-ai\/flux\/dev\) costs \$0\.02, and callers are charged \$0\.01 →/,
        ),
        expect.stringMatching(/^warn prices read more than 6 months ago: even, drawn →/),
      ]);
    }
  });
  it('those of providers are shown to operators only, those of the catalog with their day to all', async () => {
    await write('', listed);
    const env = await start();
    const made = await bench.run(['keys', 'create', 'a', '--scopes', 'read', '--json'], env);
    const others = await fetch(`${darkroom?.url}/v1/models`, {
      headers: { authorization: `Bearer ${(made.json() as unknown as { readonly key: string }).key}` },
    });
    const routesOf = (text: string) => (JSON.parse(text) as { data: { routes: unknown[] }[] }).data[0]?.routes[0];
    expect(routesOf((await read('/v1/models')).text)).toMatchObject({ usd: 0.02, price_as_of: day(-3) });
    const text = await others.text();
    expect(routesOf(text)).toMatchObject({ usd: null, price_as_of: null });
    expect(JSON.parse(text).data[2]).toMatchObject({ id: 'drawn', price_as_of: day(-200) });
  });
});

it('a workspace with a list of its own has the common one too', async () => {
  await write('policy: {blocked: [brand x], workspaces: {studio: {blocked: [brand y]}}}\n');
  await start();
  for (const prompt of ['a can of brand x', 'a can of brand y']) {
    const body = JSON.stringify({ model: 'drawn', prompt });
    const answer = await fetch(`${darkroom?.url}/v1/generations`, { method: 'POST', headers, body });
    expect(await answer.json()).toMatchObject({ error: { code: 'policy_block' } });
  }
});

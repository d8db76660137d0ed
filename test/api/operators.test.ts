// Models, credits, usage, nodes, workspaces and keys; health, metrics, the document and its page.

import { describe, expect, it } from 'vitest';
import { NodeBody } from '../../src/contract/nodes.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { NOW } from './fake-gateway.ts';
import { served } from './served.ts';

describe('models', () => {
  it('lists what is usable, why not, and how the catalog stands', async () => {
    const s = await served();
    const body = (await s.call('/v1/models')).json<{ data: { id: string }[] }>();
    expect(body).toMatchObject({
      next_cursor: null,
      catalog: { ok: false, error: 'models.yaml:3: x: expected y', loaded_at: '2026-04-30T09:17:42Z' },
    });
    expect(body.data[0]).toMatchObject({
      id: 'sketch',
      usable: true,
      why_not: null,
      price: { per_output: 2.5 },
      routes: [{ backend: 'sketch', usable: true, why_not: null }],
    });
    expect(body.data[1]).toMatchObject({ id: 'flux-dev', usable: false, why_not: 'no node online' });
  });

  it('pages when asked', async () => {
    const s = await served();
    const first = (await s.call('/v1/models?limit=2')).json<{ data: unknown[]; next_cursor: string }>();
    expect(first.data.length).toBe(2);
    const second = (await s.call(`/v1/models?limit=2&cursor=${first.next_cursor}`)).json();
    expect(second).toMatchObject({ data: [{ id: 'sdxl' }], next_cursor: null });
    expect((await s.call('/v1/models?cursor=nope')).status).toBe(422);
  });

  it('says nothing of steps where a model takes none', async () => {
    const s = await served();
    expect((await s.call('/v1/models/sketch')).json()).toMatchObject({ limits: { max_steps: 50 } });
    expect((await s.call('/v1/models/flux-dev')).json()).toMatchObject({ limits: { max_steps: null } });
  });

  it('shows one, and answers 404 for none', async () => {
    const s = await served();
    expect((await s.call('/v1/models/sdxl')).json()).toMatchObject({ id: 'sdxl', catalog: { ok: false } });
    const none = await s.call('/v1/models/nope');
    expect([none.status, none.error.code]).toEqual([404, 'not_found']);
  });
});

describe('credits and usage', () => {
  it('shows exact credits', async () => {
    const s = await served();
    expect((await s.call('/v1/credits')).json()).toEqual({
      balance: 1000.5,
      reserved: 2.5,
      available: 998,
      unit: 'credits',
      usd_per_credit: 0.01,
    });
  });

  it('sums usage by what is asked', async () => {
    const s = await served();
    const reply = await s.call('/v1/usage?from=2026-04-01&to=2026-05-01T00:00:00Z&group_by=metadata.ticket');
    expect(reply.json()).toEqual({
      data: [
        { key: null, jobs: 3, outputs: 4, credits: 7.5, node_seconds: 1.235 },
        { key: 'MKT-2241', jobs: 3, outputs: 4, credits: 7.5, node_seconds: 1.235 },
      ],
      next_cursor: null,
      total: { jobs: 3, outputs: 4, credits: 7.5, node_seconds: 1.235 },
    });
    const may = Date.UTC(2026, 4, 1);
    expect(s.gateway.seen.usage).toEqual({ from: Date.UTC(2026, 3, 1), to: may, group: { metadata: 'ticket' } });
    await s.call('/v1/usage?group_by=day');
    expect(s.gateway.seen.usage).toMatchObject({ from: 0, group: 'day' });
  });

  it.each(['group_by=colour', 'from=soon', 'from=2026-05-02&to=2026-05-01'])('refuses ?%s', async (query) => {
    const s = await served();
    expect((await s.call(`/v1/usage?${query}`)).status).toBe(422);
  });
});

describe('nodes', () => {
  it('shows nodes without their secrets', async () => {
    const s = await served();
    const reply = await s.call('/v1/nodes');
    expect(NodeBody.safeParse(reply.json<{ data: unknown[] }>().data[0]).error).toBeUndefined();
    expect(reply.json()).toMatchObject({ data: [{ id: 'rack-1', status: 'online', labels: ['big'] }] });
    expect(reply.text).not.toContain('topsecret');
  });

  it('adds, drains, resumes and removes', async () => {
    const s = await served();
    const node = { id: 'rack-9', kind: 'comfyui', url: 'http://10.0.0.9:8188/', labels: ['big'] };
    const added = await s.call('/v1/nodes', { body: node });
    expect(added.status).toBe(201);
    expect(added.json()).toMatchObject({ id: 'rack-9', url: 'http://10.0.0.9:8188', source: 'runtime', slots: 1 });
    expect((await s.call('/v1/nodes/rack-9/drain', { method: 'POST' })).json().status).toBe('draining');
    expect((await s.call('/v1/nodes/rack-9/resume', { method: 'POST' })).json().status).toBe('online');
    expect((await s.call('/v1/nodes/rack-9', { method: 'DELETE' })).status).toBe(204);
    expect((await s.call('/v1/nodes/rack-1', { method: 'DELETE' })).status).toBe(409);
    expect((await s.call('/v1/nodes', { body: { ...node, id: 'rack-1' } })).status).toBe(409);
  });

  it.each([
    [{ id: 'a', kind: 'comfyui' }, 'url'],
    [{ id: 'a', kind: 'comfyui', url: 'ftp://x' }, 'url'],
    [{ id: 'a', kind: 'comfyui', url: 'http://user:pass@box:8188' }, 'url'],
    [{ id: '../a', kind: 'comfyui', url: 'http://x' }, 'id'],
    [{ id: 'a', kind: 'replicate', url: 'http://x' }, 'kind'],
    [{ id: 'a', kind: 'sketch', url: 'http://x' }, 'kind'],
    [{ id: 'a', kind: 'comfyui', url: 'http://x/?a' }, 'url'],
    [{ id: 'a', kind: 'comfyui', url: 'http://x', auth: { username: 'u' } }, 'auth.password'],
    [{ id: 'a', kind: 'sdapi', url: 'http://x', token: 't' }, 'token'],
  ])('refuses %j', async (body, path) => {
    const s = await served();
    const reply = await s.call('/v1/nodes', { body });
    expect(reply.status).toBe(422);
    expect(reply.error.details?.[0]?.path).toBe(path);
  });
});

describe('workspaces and keys', () => {
  it('creates, shows and deletes a workspace', async () => {
    const s = await served();
    const limits = { concurrency: 5, requests_per_minute: 60 };
    const made = await s.call('/v1/admin/workspaces', { body: { name: 'campaigns', credits: 12.5, limits } });
    expect(made.status).toBe(201);
    const { id } = made.json<{ id: string }>();
    expect(made.json()).toMatchObject({
      name: 'campaigns',
      limits: { concurrency: 5, queue: 100_000, requests_per_minute: 60 },
      credits: { unit: 'credits' },
    });
    expect((await s.call(`/v1/admin/workspaces/${id}`)).json()).toMatchObject({ id });
    const all = (await s.call('/v1/admin/workspaces')).json<{ data: { id: string }[] }>();
    expect(all.data.map((w) => w.id)).toContain(id);
    expect((await s.call(`/v1/admin/workspaces/${id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await s.call(`/v1/admin/workspaces/${id}`)).status).toBe(404);
  });

  it('shows a key once, and never again', async () => {
    const s = await served();
    const body = {
      name: 'agent',
      scopes: ['generate', 'webhooks'],
      models: ['sketch'],
      spend_cap: 10,
      expires_at: '2027-01-01T00:00:00Z',
    };
    const made = await s.call('/v1/admin/workspaces/studio/keys', { body });
    expect(made.status).toBe(201);
    const { id, key } = made.json<{ id: string; key: string }>();
    expect(made.json()).toMatchObject({ ...body, workspace_id: 'studio', requests_per_minute: null });
    expect((await s.call('/v1/credits', { headers: { authorization: `Bearer ${key}` } })).status).toBe(200);
    const listed = await s.call('/v1/admin/workspaces/studio/keys');
    const one = await s.call(`/v1/admin/workspaces/studio/keys/${id}`);
    expect(one.json()).toMatchObject({ id, name: 'agent' });
    expect(listed.text + one.text).not.toContain(key);
    expect((await s.call('/v1/admin/workspaces/studio/keys/none')).status).toBe(404);
    expect((await s.call('/v1/admin/workspaces/nowhere/keys', { body })).status).toBe(404);
  });

  it('gives a key the models its names stand for, and refuses names that stand for none', async () => {
    const s = await served();
    const ask = (models: string[]) => s.call('/v1/admin/workspaces/studio/keys', { body: { name: 'agent', models } });
    expect((await ask(['sketch', 'stable-diffusion-xl', 'sdxl'])).json()).toMatchObject({ models: ['sketch', 'sdxl'] });
    const refused = await ask(['sketch', 'nope', 'nada']);
    expect(refused.status).toBe(422);
    expect(refused.error.details?.map((d) => d.path)).toEqual(['models.1', 'models.2']);
  });

  it('refuses a key that has expired before it was made', async () => {
    const s = await served();
    const ask = (ms: number) => {
      const expires_at = new Date(NOW + ms).toISOString();
      return s.call('/v1/admin/workspaces/studio/keys', { body: { name: 'agent', expires_at } });
    };
    const refused = await ask(0);
    expect([refused.status, refused.error.details?.[0]?.path]).toEqual([422, 'expires_at']);
    expect((await ask(1000)).status).toBe(201);
  });

  it('grants and takes credits exactly', async () => {
    const s = await served();
    const grant = (amount: number) => s.call('/v1/admin/workspaces/studio/credits', { body: { amount, note: 'May' } });
    expect((await grant(0.001)).json()).toMatchObject({ balance: 1000.001 });
    expect(s.gateway.grants).toEqual([{ workspaceId: 'studio', amount: 1 }]);
    expect((await grant(-2000)).status).toBe(409);
    expect((await grant(0)).status).toBe(422);
    expect((await grant(0.0001)).status).toBe(422);
    expect((await s.call('/v1/admin/workspaces/studio/credits')).json()).toMatchObject({ balance: 1000 });
  });
});

describe('operations', () => {
  const bare = (url: string) =>
    fetch(url).then(async (r) => ({ status: r.status, text: await r.text(), headers: r.headers }));

  it('is alive without a key, and ready when something can run', async () => {
    const s = await served();
    expect(await bare(`${s.url}/healthz`)).toMatchObject({ status: 200, text: '{"status":"ok"}' });
    expect((await bare(`${s.url}/readyz`)).status).toBe(200);
    s.gateway.ready_ = { ok: false, reason: 'no model has a usable route' };
    const not = await s.call('/readyz');
    expect(not.status).toBe(503);
    expect(not.error).toMatchObject({ code: 'no_capable_node', message: 'no model has a usable route' });
    s.gateway.draining = true;
    expect((await s.call('/readyz')).error.code).toBe('shutting_down');
  });

  it('counts requests by route, and shows what the gateway knows', async () => {
    const s = await served();
    await s.call('/v1/generations/gen_secret');
    const { text, status } = await bare(`${s.url}/metrics`);
    expect(status).toBe(200);
    expect(text).toContain('_count{method="GET",route="/v1/generations/:id",status="404"} 1');
    expect(text).toContain('darkroom_generations_total{model="sketch",status="succeeded"} 3');
    expect(text).toContain('darkroom_node_status{node="rack-1",status="online"} 1');
    expect(text).toContain('darkroom_credits_charged_total 7.5');
    expect(text).toContain('darkroom_catalog_ok 0');
    expect(text).toMatch(/darkroom_event_loop_delay_seconds\{quantile="0.99"\} \d/);
    expect(text).not.toContain('gen_secret');
    const again = (await bare(`${s.url}/metrics`)).text;
    expect(again).toContain('darkroom_generations_total{model="sketch",status="succeeded"} 3');
  });

  it('asks for an admin key for metrics when bound elsewhere', async () => {
    const s = await served({ host: '0.0.0.0' });
    expect((await bare(`${s.url}/metrics`)).status).toBe(401);
    expect((await s.call('/metrics')).status).toBe(200);
    expect((await bare(`${s.url}/openapi.json`)).status).toBe(200);
  });

  it('describes every route in OpenAPI, with the schemas that validate', async () => {
    const s = await served();
    const document = JSON.parse((await bare(`${s.url}/openapi.json`)).text);
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining(['/v1/generations', '/v1/generations/{id}', '/v1/events', '/v1/uploads', '/metrics']),
    );
    const submit = document.paths['/v1/generations'].post;
    expect(submit.requestBody.content['application/json'].schema.$ref).toBe('#/components/schemas/GenerationRequest');
    expect(document.components.schemas.GenerationRequest.properties.seed.maximum).toBe(Number.MAX_SAFE_INTEGER);
    expect(document.components.schemas.GenerationRequest.additionalProperties).toBe(false);
    const parameters = document.paths['/v1/generations'].get.parameters;
    expect(parameters.find((p: { name: string }) => p.name === 'limit')).toMatchObject({
      in: 'query',
      schema: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
    });
    expect(document.paths['/v1/generations/{id}'].get.parameters[0]).toMatchObject({ in: 'path', required: true });
    expect(JSON.stringify(document)).not.toContain('"_zod"');
    expect(JSON.stringify(document)).not.toContain('"def"');
    const references = JSON.stringify(document).match(/#\/components\/schemas\/\w+/g) ?? [];
    for (const one of references) expect(document.components.schemas).toHaveProperty(one.split('/').at(-1) as string);
  });

  const documented = async () => {
    const s = await served();
    return JSON.parse((await bare(`${s.url}/openapi.json`)).text);
  };
  const named = (operation: { parameters: { name?: string }[] }, name: string) =>
    operation.parameters.find((p) => p.name === name);

  it('describes the headers that count, going in and coming out', async () => {
    const { paths, components } = await documented();
    const { post } = paths['/v1/generations'];
    const { get } = paths['/v1/generations/{id}'];
    expect(named(post, 'Idempotency-Key')).toMatchObject({ in: 'header', schema: { maxLength: 255 } });
    expect(named(post, 'Prefer')).toMatchObject({ in: 'header' });
    expect(named(get, 'If-None-Match')).toMatchObject({ in: 'header' });
    expect(Object.values(components.parameters)).toMatchObject([
      { name: 'X-Darkroom-Workspace', in: 'header' },
      { name: 'X-Request-Id', in: 'header' },
    ]);
    expect(post.parameters).toContainEqual({ $ref: '#/components/parameters/Workspace' });
    expect(paths['/healthz'].get.parameters).toEqual([{ $ref: '#/components/parameters/RequestId' }]);
    const own = ['Location', 'Retry-After', 'Idempotency-Replayed', 'Preference-Applied'];
    expect(Object.keys(post.responses[202].headers)).toEqual(['X-Request-Id', ...own]);
    expect(Object.keys(get.responses[304].headers)).toEqual(['X-Request-Id', 'ETag', 'Retry-After']);
    expect(Object.keys(get.responses.default.headers)).toContain('Retry-After');
    expect(post.responses[202].content['application/json'].schema.$ref).toBe('#/components/schemas/Generation');
  });

  it('describes queries so that a client made from it sends what the doors take', async () => {
    const { paths } = await documented();
    const list = paths['/v1/generations'].get;
    expect(named(list, 'status')).toMatchObject({
      style: 'form',
      explode: false,
      schema: { type: 'array', items: { enum: expect.arrayContaining(['queued', 'cancelled']) } },
    });
    expect(named(list, 'metadata')).toMatchObject({
      style: 'form',
      explode: true,
      example: { 'metadata.ticket': 'MKT-2241' },
    });
    const output = paths['/v1/outputs/{generation}/{index}'].get;
    for (const name of ['expires', 'signature']) expect(named(output, name)).toMatchObject({ required: true });
    expect(Object.keys(paths['/v1/uploads'].post.requestBody.content)).toContain('multipart/form-data');
  });

  it('says of every field of a request what it means', async () => {
    const { components } = await documented();
    const fields = Object.entries<{ $ref?: string }>(components.schemas.GenerationRequest.properties);
    for (const [name, field] of fields) {
      const told = field.$ref === undefined ? field : components.schemas[field.$ref.split('/').at(-1) as string];
      expect(told.description, name).toMatch(/\w.*\.$/);
    }
  });

  it('shows the same as a page that loads nothing from elsewhere', async () => {
    const s = await served();
    const page = await bare(`${s.url}/docs`);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
    expect(page.text).toContain('/v1/generations/{id}/cancel');
    expect(page.text).toContain(`curl -X POST ${s.url}/v1/generations`);
    expect(page.text).toContain('<main><h1>Darkroom API</h1>');
    expect(page.text).toContain('<td>202</td><td><a href="#Generation">Generation</a></td>');
    expect(page.text).not.toMatch(/(src|href)="https?:/);
  });

  it('answers unexpected failures of a door without saying why', async () => {
    const s = await served();
    s.gateway.failWith.get = new GatewayError('internal', undefined, { cause: new Error('disk on fire') });
    const reply = await s.call('/v1/generations/gen_x');
    expect(reply.status).toBe(500);
    expect(reply.text).not.toContain('fire');
  });
});

// The six tools through the whole door, as three kinds of clients meet them: the current SDK in both eras and the older
// one. The gateway is the fake; time moves by hand.

import { describe, expect, it } from 'vitest';
import { INSTRUCTIONS, TOOLS } from '../../src/api/mcp/tools.ts';
import { GenerationRequest } from '../../src/contract/generations.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { FILE, NOW, output } from '../api/fake-gateway.ts';
import { type Served, served } from '../api/served.ts';
import { until } from '../harness/manual-clock.ts';
import { agent, KINDS, objectOf, type ToolResult } from './callers.ts';

const NAMES = [
  'generate_image',
  'get_generation',
  'list_recent_generations',
  'get_credits',
  'list_models',
  'cancel_generation',
];

const start = (house: Served, id: string) =>
  house.gateway.emit(id, { type: 'started', at: NOW, node: 'rack-1', backend: 'sdapi' });
const succeed = (house: Served, id: string, outputs = [output(0)]) =>
  house.gateway.emit(id, { type: 'succeeded', at: NOW + 9000, outputs, nodeMs: 9000 });
const idOf = (house: Served, at = 0) => [...house.gateway.generations.keys()][at] as string;

/** Text and structuredContent say the same, each alone. */
function same(result: ToolResult): Record<string, unknown> {
  expect(result.isError ?? false).toBe(false);
  const object = objectOf(result);
  expect(result.structuredContent).toEqual(object);
  return object;
}

function errorOf(result: ToolResult): Record<string, unknown> {
  expect(result.isError).toBe(true);
  expect(result.structuredContent).toBeUndefined();
  expect(result.content).toHaveLength(1);
  return objectOf(result).error as Record<string, unknown>;
}

describe('the list of tools', () => {
  it('fits into 6,144 bytes, instructions into 600 characters', () => {
    expect(Buffer.byteLength(JSON.stringify(TOOLS))).toBeLessThanOrEqual(6144);
    expect(INSTRUCTIONS.length).toBeLessThanOrEqual(600);
  });

  it.each(KINDS)('is the same six in the same order, small on the wire too: %s', async (kind) => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const tools = await someone.tools();
    expect(tools.map((t) => t.name)).toEqual(NAMES);
    expect(Buffer.byteLength(JSON.stringify(tools))).toBeLessThanOrEqual(6144);
    expect(someone.instructions).toBe(INSTRUCTIONS);
  });

  it('takes every field of a request, under its own name', () => {
    const { properties = {} } = TOOLS.find((tool) => tool.name === 'generate_image')?.inputSchema ?? {};
    expect(Object.keys(properties)).toEqual(Object.keys(GenerationRequest.shape));
    expect(properties.output).toMatchObject({ properties: { format: { enum: ['png', 'webp', 'jpeg', 'avif'] } } });
  });
});

describe.each(KINDS)('%s', (kind) => {
  it('generate_image answers at once with id, estimate, poll hint and credits', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const object = same(await someone.call('generate_image', { prompt: 'a lighthouse', metadata: { ticket: 'T1' } }));
    expect(object).toMatchObject({
      id: idOf(house),
      status: 'queued',
      model: 'sketch',
      estimated_seconds: 9,
      poll_after_seconds: 4,
      credits_reserved: 2.5,
      credits_available: 997.5,
      next: 'get_generation',
    });
    expect(house.gateway.seen.submitted).toEqual({ prompt: 'a lighthouse', metadata: { ticket: 'T1' } });
  });

  it('generate_image with wait holds until the picture is there, and links it', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const call = someone.call('generate_image', { prompt: 'x', wait: true });
    await until(() => house.gateway.seen.waitMs);
    expect(house.gateway.seen.waitMs).toBe(50_000);
    start(house, idOf(house));
    succeed(house, idOf(house));
    const result = await call;
    const object = same(result);
    expect(object).toMatchObject({ status: 'succeeded', credits_charged: 2.5, credits_reserved: 0 });
    expect(object.url).toBe(object.output_url);
    expect(object.next).toBeUndefined();
    expect(result.content[1]).toMatchObject({ type: 'resource_link', uri: object.url, mimeType: 'image/png' });
  });

  it('a wait that runs out is a success with the handle', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const call = someone.call('generate_image', { prompt: 'x', wait: 20 });
    await until(() => house.gateway.seen.waitMs);
    await house.clock.advance(20_000);
    expect(same(await call)).toMatchObject({ id: idOf(house), status: 'queued', credits_available: 998 });
  });

  it('get_generation tells everything of it; one that ended badly is a success carrying the object', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    await someone.call('generate_image', { prompt: 'x' });
    start(house, idOf(house));
    const failure = { code: 'safety_filter', message: 'Withheld.' } as const;
    house.gateway.emit(idOf(house), { type: 'failed', at: NOW, failure });
    expect(same(await someone.call('get_generation', { id: idOf(house) }))).toMatchObject({
      status: 'failed',
      prompt: 'x',
      reason: 'Withheld.',
      credits_charged: 0,
      error: { code: 'safety_filter', retryable: false, advice: expect.stringContaining('Soften') },
    });
  });

  it('get_generation with preview shows the picture, without structuredContent', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    await someone.call('generate_image', { prompt: 'x' });
    expect(same(await someone.call('get_generation', { id: idOf(house), preview: true })).status).toBe('queued');
    start(house, idOf(house));
    succeed(house, idOf(house), [output(0), output(1)]);
    const result = await someone.call('get_generation', { id: idOf(house), preview: true });
    expect(result.content.map((block) => block.type)).toEqual(['image', 'image', 'text']);
    expect(result.content[0]?.mimeType).toBe('image/webp');
    expect(Buffer.from(result.content[0]?.data ?? '', 'base64')).toEqual(FILE);
    expect(result.structuredContent).toBeUndefined();
    expect(objectOf(result).status).toBe('succeeded');
  });

  it('get_generation with preview of a picture whose link has expired tells what is known of it', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    await someone.call('generate_image', { prompt: 'x' });
    start(house, idOf(house));
    succeed(house, idOf(house), [{ ...output(0), expiresAt: NOW - 1000 }]);
    const result = await someone.call('get_generation', { id: idOf(house), preview: true });
    expect(objectOf(result)).toMatchObject({ status: 'succeeded', outputs: [{ expires_at: expect.any(String) }] });
  });

  it('list_recent_generations answers short rows, newest first, and goes on by cursor', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    for (const n of [1, 2, 3]) await someone.call('generate_image', { prompt: `${n} ${'long '.repeat(100)}` });
    const page = same(
      await someone.call('list_recent_generations', {
        limit: 2,
        status: 'queued,running',
        model: 'sketch',
        batch_id: 'b',
        metadata: { take: 3 },
      }),
    ) as { data: { id: string; prompt: string }[]; next_cursor: string };
    expect(page.data.map((row) => row.id)).toEqual([idOf(house, 2), idOf(house, 1)]);
    expect(page.data[0]?.prompt.length).toBeLessThanOrEqual(120);
    expect(house.gateway.seen.filter).toEqual({
      statuses: ['queued', 'running'],
      model: 'sketch',
      batchId: 'b',
      metadata: { take: '3' },
    });
    start(house, idOf(house, 2));
    house.gateway.emit(idOf(house, 2), { type: 'failed', at: NOW, failure: { code: 'model_error', message: 'no' } });
    const [failed] = same(await someone.call('list_recent_generations', { limit: 1 })).data as object[];
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'model_error', retryable: false } });
    const rest = same(await someone.call('list_recent_generations', { limit: 2, cursor: page.next_cursor }));
    expect(rest).toMatchObject({ data: [{ id: idOf(house) }], next_cursor: null });
  });

  it('get_credits, list_models and cancel_generation', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    expect(same(await someone.call('get_credits'))).toEqual({
      balance: 1000.5,
      reserved: 2.5,
      available: 998,
      unit: 'credits',
      usd_per_credit: 0.01,
    });
    const models = same(await someone.call('list_models')).data as Record<string, unknown>[];
    expect(models.map((m) => m.id)).toEqual(['sketch', 'flux-dev', 'sdxl']);
    expect(models[1]).toMatchObject({ kind: 'image', price: 2.5, usable: false, why_not: 'no node online' });
    const first = same(await someone.call('list_models', { limit: 2 }));
    expect(first.next_cursor).toBe('flux-dev');
    expect(same(await someone.call('list_models', { limit: 2, cursor: first.next_cursor }))).toMatchObject({
      data: [{ id: 'sdxl' }],
      next_cursor: null,
    });
    expect(errorOf(await someone.call('list_models', { cursor: 'nothing' })).code).toBe('invalid_request');
    expect(same(await someone.call('list_models', { filter: 'Stable-Diffusion image' })).data).toMatchObject([
      { id: 'sdxl' },
    ]);
    await someone.call('generate_image', { prompt: 'x' });
    for (const _ of [1, 2]) {
      expect(same(await someone.call('cancel_generation', { id: idOf(house) })).status).toBe('cancelled');
    }
  });

  it('errors are one text block in the words of the contract, arguments by name', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    expect(errorOf(await someone.call('generate_image', { promt: 'x', seed: -1 }))).toMatchObject({
      code: 'invalid_request',
      retryable: false,
      advice: expect.any(String),
      details: expect.arrayContaining([
        { path: 'promt', message: 'unknown field' },
        expect.objectContaining({ path: 'seed' }),
      ]),
    });
    expect(errorOf(await someone.call('get_generation', {}))).toMatchObject({ details: [{ path: 'id' }] });
    expect(errorOf(await someone.call('get_generation', { id: 'gen_unknown' })).code).toBe('not_found');
    expect(errorOf(await someone.call('get_credits', { all: true }))).toMatchObject({ details: [{ path: 'all' }] });
    house.gateway.failWith.submit = new GatewayError('insufficient_credits', 'This costs 4, there are 3.');
    expect(errorOf(await someone.call('generate_image', { prompt: 'x' }))).toMatchObject({
      code: 'insufficient_credits',
      message: 'This costs 4, there are 3.',
    });
    house.gateway.failWith.submit = new Error('secret /path');
    const unexpected = errorOf(await someone.call('generate_image', { prompt: 'x' }));
    expect(unexpected.code).toBe('internal');
    expect(JSON.stringify(unexpected)).not.toContain('secret');
  });

  it('an unknown tool is an error of the protocol', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    await expect(someone.call('draw', {})).rejects.toMatchObject({ code: -32602 });
  });

  it('a replay says so', async () => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const request = { prompt: 'x', idempotency_key: 'one' };
    expect(same(await someone.call('generate_image', request)).replayed).toBeUndefined();
    expect(same(await someone.call('generate_image', request))).toMatchObject({ replayed: true, id: idOf(house) });
  });
});

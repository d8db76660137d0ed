// A generation as a task, for clients of the current revision that declare the extension in the request. Spoken by hand,
// because clients hide what is on the wire.

import { describe, expect, it } from 'vitest';
import { ADMIN_KEY, NOW, output } from '../api/fake-gateway.ts';
import { type Served, served } from '../api/served.ts';
import { until } from '../harness/manual-clock.ts';
import { objectOf, type ToolResult } from './callers.ts';

const REVISION = '2026-07-28';
const EXTENSION = 'io.modelcontextprotocol/tasks';

interface Task extends ToolResult {
  readonly resultType: string;
  readonly taskId: string;
  readonly status: string;
  readonly statusMessage?: string;
  readonly ttlMs: number;
  readonly pollIntervalMs: number;
  readonly result?: ToolResult;
}
interface Reply {
  readonly result: Task;
  readonly error?: { readonly code: number; readonly data?: unknown };
}

async function ask(
  house: Served,
  method: string,
  params: { readonly name?: string; readonly taskId?: string; readonly [field: string]: unknown },
  { declares = true, key = ADMIN_KEY } = {},
): Promise<Reply> {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': REVISION,
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
    'io.modelcontextprotocol/clientCapabilities': declares ? { extensions: { [EXTENSION]: {} } } : {},
  };
  const reply = await house.call('/mcp', {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      accept: 'application/json, text/event-stream',
      'content-type': 'application/json',
      'mcp-protocol-version': REVISION,
      'mcp-method': method,
      'mcp-name': params.name ?? params.taskId ?? '',
    },
    body: { jsonrpc: '2.0', id: 1, method, params: { ...params, _meta } },
  });
  return reply.json<Reply>();
}

const generate = (house: Served, args: object = {}, options = {}) =>
  ask(house, 'tools/call', { name: 'generate_image', arguments: { prompt: 'x', ...args } }, options);
const idOf = (house: Served) => [...house.gateway.generations.keys()][0] as string;
const start = (house: Served) => house.gateway.emit(idOf(house), { type: 'started', at: NOW, node: 'n', backend: 'b' });

describe('generate_image', () => {
  it('answers with a task when the client declares it and the job outlasts the wait', async () => {
    const house = await served();
    const { result } = await generate(house);
    expect(result).toMatchObject({ resultType: 'task', taskId: idOf(house), status: 'working' });
    expect(result.statusMessage).toBe('waiting for slot');
    expect(Number.isInteger(result.ttlMs) && Number.isInteger(result.pollIntervalMs)).toBe(true);
    expect(result.pollIntervalMs).toBeLessThanOrEqual(2000);
  });

  it('answers as ever without the declaration, or when the job is done in time', async () => {
    const house = await served();
    expect((await generate(house, {}, { declares: false })).result).toMatchObject({
      resultType: 'complete',
      structuredContent: { id: idOf(house), status: 'queued' },
    });
    const call = generate(house, { wait: true, idempotency_key: 'one' });
    await until(() => house.gateway.seen.waitMs);
    const [, second = ''] = [...house.gateway.generations.keys()];
    house.gateway.emit(second, { type: 'started', at: NOW, node: 'n', backend: 'b' });
    house.gateway.emit(second, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 9 });
    expect((await call).result).toMatchObject({ resultType: 'complete', structuredContent: { status: 'succeeded' } });
  });

  it('is the only tool that does', async () => {
    const house = await served();
    await generate(house);
    for (const name of ['get_generation', 'cancel_generation']) {
      const { result } = await ask(house, 'tools/call', { name, arguments: { id: idOf(house) } });
      expect(result.resultType).toBe('complete');
    }
  });
});

describe('a task', () => {
  it('works, then carries what get_generation answers', async () => {
    const house = await served();
    const taskId = (await generate(house)).result.taskId;
    house.gateway.progressNow = { fraction: 0.4, message: 'denoising step 20/50' };
    start(house);
    expect((await ask(house, 'tasks/get', { taskId })).result).toMatchObject({
      status: 'working',
      statusMessage: 'denoising step 20/50',
    });
    house.gateway.emit(taskId, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 9 });
    const { status, result } = (await ask(house, 'tasks/get', { taskId })).result;
    expect(status).toBe('completed');
    expect(result?.structuredContent).toMatchObject({ id: taskId, status: 'succeeded', credits_charged: 2.5 });
    expect(objectOf(result as ToolResult)).toEqual(result?.structuredContent);
  });

  it('that ended badly is completed all the same: its object says what happened', async () => {
    const house = await served();
    const taskId = (await generate(house)).result.taskId;
    start(house);
    house.gateway.emit(taskId, { type: 'failed', at: NOW, failure: { code: 'policy_block', message: 'No.' } });
    const { status, result } = (await ask(house, 'tasks/get', { taskId })).result;
    expect([status, result?.isError]).toEqual(['completed', undefined]);
    expect(result?.structuredContent).toMatchObject({ status: 'failed', error: { code: 'policy_block' } });
  });

  it('is cancelled by tasks/cancel, acknowledged at once and again', async () => {
    const house = await served();
    const taskId = (await generate(house)).result.taskId;
    for (const _ of [1, 2]) expect((await ask(house, 'tasks/cancel', { taskId })).error).toBeUndefined();
    expect((await ask(house, 'tasks/get', { taskId })).result.status).toBe('cancelled');
  });

  it('belongs to its workspace: a foreign id is as unknown as an invented one', async () => {
    const house = await served();
    house.gateway.addKey('dk_other', {}, { id: 'other' });
    const taskId = (await generate(house)).result.taskId;
    for (const method of ['tasks/get', 'tasks/cancel', 'tasks/update']) {
      const foreign = await ask(house, method, { taskId }, { key: 'dk_other' });
      const invented = await ask(house, method, { taskId: 'gen_nobody' });
      expect([foreign.error?.code, invented.error?.code]).toEqual([-32602, -32602]);
      expect(foreign.error?.data).toMatchObject({ error: { code: 'not_found' } });
    }
    expect(house.gateway.generations.get(taskId)?.state.status).toBe('queued');
  });

  it('may be watched by a key that reads, cancelled only by one that generates', async () => {
    const house = await served();
    house.gateway.addKey('dk_read', { scopes: ['read'] });
    const taskId = (await generate(house)).result.taskId;
    expect((await ask(house, 'tasks/get', { taskId }, { key: 'dk_read' })).result.status).toBe('working');
    const refused = await ask(house, 'tasks/cancel', { taskId }, { key: 'dk_read' });
    expect(refused.error).toMatchObject({ code: -32602, data: { error: { code: 'forbidden' } } });
  });

  it('is nothing for clients that do not declare the extension', async () => {
    const house = await served();
    const taskId = (await generate(house)).result.taskId;
    const refused = await ask(house, 'tasks/get', { taskId }, { declares: false });
    expect(refused.error).toMatchObject({
      code: -32021,
      data: { requiredCapabilities: { extensions: { [EXTENSION]: {} } } },
    });
  });
});

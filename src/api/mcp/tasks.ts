// The Tasks extension (io.modelcontextprotocol/tasks, revision 2026-07-28): a generation seen as a task, for clients that
// declare it. The task is the generation, its id the generation's, so nothing is kept here and every other tool works on
// the same id. A generation that ended badly is a completed task: the call worked, its object says what happened.

import {
  type CallToolResult,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  type Server,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import { isFinal } from '../../contract/final.ts';
import type { GenerationBody } from '../../contract/generations.ts';
import { generationBody } from './bodies.ts';
import { answer, errorBody, links } from './results.ts';
import type { Studio } from './studio.ts';

const EXTENSION = 'io.modelcontextprotocol/tasks';
/** Records are kept far longer; this is a promise that always holds. */
const TTL_MS = 24 * 3_600_000;
const POLL_MS = { min: 1_000, max: 2_000 };
const CAPABILITIES = 'io.modelcontextprotocol/clientCapabilities';

const TaskParams = z.looseObject({ taskId: z.string().min(1).max(100) });

/** Did this very request say that its client takes tasks? */
export function declaresTasks({ mcpReq }: Pick<ServerContext, 'mcpReq'>): boolean {
  const envelope = mcpReq.envelope as
    | Readonly<Record<string, { readonly extensions?: object } | undefined>>
    | undefined;
  const extensions = envelope?.[CAPABILITIES]?.extensions;
  return extensions !== undefined && Object.hasOwn(extensions, EXTENSION);
}

/** In place of a tool's result. The SDK's types know no tasks yet. */
export const taskCreated = (g: GenerationBody): CallToolResult =>
  ({ resultType: 'task', ...taskOf(g), content: [] }) as unknown as CallToolResult;

/** Only for servers of the current revision. */
export function serveTasks(server: Server, studio: Studio): void {
  server.registerCapabilities({ extensions: { [EXTENSION]: {} } });
  const serve = (method: string, run: (id: string) => Promise<Record<string, unknown>>) =>
    server.setRequestHandler(method, { params: TaskParams }, async ({ taskId }, ctx) => {
      if (!declaresTasks(ctx)) {
        throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { extensions: { [EXTENSION]: {} } } });
      }
      return run(taskId).catch((error) => {
        throw refused(error);
      });
    });
  serve('tasks/get', async (id) => {
    const g = await studio.get(id);
    return { ...taskOf(g), ...(statusOf(g) === 'completed' ? { result: answer(generationBody(g), links(g)) } : {}) };
  });
  serve('tasks/cancel', async (id) => {
    await studio.cancel(id);
    return {};
  });
  serve('tasks/update', async (id) => {
    await studio.get(id); // nothing is ever asked of the client; the id must be its own all the same
    return {};
  });
}

function taskOf(g: GenerationBody): Record<string, unknown> {
  const { message } = g.progress ?? { message: undefined };
  const statusMessage = message ?? g.reason ?? g.queue_reason?.replaceAll('_', ' ');
  const pollMs = Math.round((g.poll_after_seconds ?? 1) * 1000);
  return {
    taskId: g.id,
    status: statusOf(g),
    ...(statusMessage === undefined ? {} : { statusMessage }),
    createdAt: g.created_at,
    lastUpdatedAt: g.finished_at ?? g.started_at ?? g.created_at,
    ttlMs: TTL_MS,
    pollIntervalMs: Math.min(POLL_MS.max, Math.max(POLL_MS.min, pollMs)),
  };
}

function statusOf(g: GenerationBody): 'working' | 'completed' | 'cancelled' {
  if (!isFinal(g)) return 'working';
  return g.status === 'cancelled' ? 'cancelled' : 'completed';
}

/** The contract's error travels as data. */
function refused(error: unknown): ProtocolError {
  const told = errorBody(error);
  const asked = told.error.code === 'not_found' || told.error.code === 'forbidden';
  const code = asked ? ProtocolErrorCode.InvalidParams : ProtocolErrorCode.InternalError;
  return new ProtocolError(code, told.error.message, told);
}

// The MCP server, for both eras and both transports: made anew for every HTTP request and once per stdio connection, so
// it is only a name, a constant table and a way to call. The SDK's own tool registry is left aside: it would convert all
// schemas on every request and put argument errors in its own words.

import {
  type CallToolResult,
  McpServer,
  type ProgressToken,
  ProtocolError,
  ProtocolErrorCode,
  type ServerContext,
} from '@modelcontextprotocol/server';
import manifest from '../../../package.json' with { type: 'json' };
import type { Clock } from '../../system/system.ts';
import { parsed } from '../http/body.ts';
import { CALLS, type Call } from './calls.ts';
import type { ProgressValue } from './progress.ts';
import { failed } from './results.ts';
import type { Studio } from './studio.ts';
import { declaresTasks, serveTasks } from './tasks.ts';
import { ARGUMENTS, INSTRUCTIONS, isTool, TOOLS, type ToolName } from './tools.ts';

export interface ServerOptions {
  readonly era: 'legacy' | 'modern';
  readonly studio: Studio;
  readonly clock: Clock;
  /** Told of errors that are nobody's answer. */
  readonly fault: (error: unknown) => void;
  /** Aborted when this side ends the calls: then nobody went away. */
  readonly closing?: AbortSignal;
}

const IDENTITY = { name: 'darkroom', title: 'Darkroom', version: manifest.version } as const;
/** The table changes with a release only. */
const FRESH = { ttlMs: 300_000, cacheScope: 'private' } as const;

export function buildServer(options: ServerOptions): McpServer {
  const mcp = new McpServer(IDENTITY, {
    instructions: INSTRUCTIONS,
    capabilities: { tools: { listChanged: false } },
    cacheHints: { 'tools/list': FRESH, 'server/discover': FRESH },
  });
  const { server } = mcp;
  server.setRequestHandler('tools/list', () => ({ tools: [...TOOLS] }));
  server.setRequestHandler('tools/call', ({ params }, ctx) => {
    const { name } = params;
    if (!isTool(name)) throw new ProtocolError(ProtocolErrorCode.InvalidParams, `There is no tool ${name}.`);
    return called(name, params.arguments ?? {}, callOf(ctx, options));
  });
  if (options.era === 'modern') serveTasks(server, options.studio);
  return mcp;
}

async function called(name: ToolName, args: unknown, call: Call): Promise<CallToolResult> {
  try {
    const run = CALLS[name] as (args: unknown, call: Call) => Promise<CallToolResult>;
    return await run(parsed(ARGUMENTS[name], args), call);
  } catch (error) {
    return failed(error, call.fault);
  }
}

function callOf(ctx: ServerContext, { era, studio, clock, fault, closing }: ServerOptions): Call {
  const { signal, _meta: meta } = ctx.mcpReq;
  const token = meta?.progressToken;
  return {
    studio,
    clock,
    signal,
    fault,
    get leavingCancels() {
      return era === 'modern' && closing?.aborted !== true;
    },
    takesTasks: era === 'modern' && declaresTasks(ctx),
    notify: token === undefined ? null : notifier(ctx, token),
  };
}

const notifier = (ctx: ServerContext, progressToken: ProgressToken) => (value: ProgressValue) =>
  ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, ...value } });

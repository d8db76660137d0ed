// Structured logs (JSON lines through pino). Prompts and keys never go to `info`; redaction is a second net.

import { type Logger, pino } from 'pino';

export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'> & { child(fields: Record<string, unknown>): Log };

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

export function createLog({ level }: LogOptions): Log {
  return pino({
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: ['*.authorization', '*.password', '*.token', '*.key', '*.secret'], censor: '[hidden]' },
  });
}

export const silentLog: Log = createLog({ level: 'silent' });

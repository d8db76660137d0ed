// DARKROOM_* variables: validated one by one, so that a bad one is one clear sentence. Empty means unset, as compose
// files write it.

import { z } from 'zod';
import { BaseUrl } from '../contract/base-url.ts';
import { DatabaseUrl, LOG_LEVELS, Port, Secret } from './fields.ts';

const path = z.string().max(4096);

const VARIABLES = {
  DARKROOM_HOST: ['host', z.string().regex(/^[\w.:-]{1,253}$/, { error: 'expected a host name or address' })],
  DARKROOM_PORT: ['port', Port],
  DARKROOM_DATA: ['data', path],
  DARKROOM_CONFIG: ['config', path],
  DARKROOM_MODELS: ['models', path],
  DARKROOM_ADMIN_KEY: ['adminKey', Secret],
  DARKROOM_PUBLIC_URL: ['publicUrl', BaseUrl],
  DARKROOM_DATABASE_URL: ['databaseUrl', DatabaseUrl],
  DARKROOM_LOG_LEVEL: ['logLevel', z.enum(LOG_LEVELS, { error: `expected one of ${LOG_LEVELS.join(', ')}` })],
} as const;

type Variables = typeof VARIABLES;
type Told = { readonly [V in keyof Variables as Variables[V][0]]?: z.infer<Variables[V][1]> };

/** `VARIABLE: expected …`. */
export class VariableError extends Error {}

/** Throws VariableError like `DARKROOM_PORT: expected a port …, found "x"`. Values that may be secret are not repeated. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): Told {
  const told = Object.entries(VARIABLES).flatMap(([variable, [key, schema]]) => {
    const value = env[variable]?.trim();
    if (value === undefined || value === '') return [];
    const result = (schema as z.ZodType).safeParse(value);
    if (result.success) return [[key, result.data] as const];
    const secret = variable === 'DARKROOM_ADMIN_KEY' || variable === 'DARKROOM_DATABASE_URL';
    throw new VariableError(
      `${variable}: ${result.error.issues[0]?.message}${secret ? '' : `, found ${JSON.stringify(value)}`}`,
    );
  });
  return Object.fromEntries(told) as Told;
}

// What a door is: one row that says method, path, who may use it, what goes in and what comes out. The express routes,
// the scope checks, the 405s, the metric labels and the OpenAPI document all come from these rows, so they agree.

import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import type { Request } from 'express';
import { z } from 'zod';
import type { Caller, Scope } from '../../domain/caller.ts';
import type { Failure, GatewayError } from '../../domain/failure.ts';

/** What a door answers: at most one of json, text, stream, failure. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly text?: string;
  readonly stream?: Readable;
  readonly failure?: Failure;
}

/** One parsed and authorised request. */
export interface Asked<Query = unknown, Body = unknown> {
  readonly caller: Caller;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly body: Body;
  readonly headers: IncomingHttpHeaders;
  /** Base of links, without trailing slash. */
  readonly baseUrl: string;
  /** Aborted when the client goes away before it has its answer. */
  readonly signal: AbortSignal;
  readonly request: Request;
}

/** What one status of an answer holds, for the document. */
export interface Outcome {
  readonly says: string;
  readonly json?: z.ZodType;
  /** Those that matter to callers, beside what every answer carries. */
  readonly headers?: z.ZodObject;
}

/** Many times what any single request needs, and quickly looked through. */
export const MAX_ITEMS = 10_000;

export const NoQuery = z.strictObject({});

interface RouteOf<Query extends z.ZodType, Body extends z.ZodType> {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** In express' spelling; `:name` is a parameter. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** Null: open, without a key; `caller` must not be touched then. */
  readonly scope: Scope | null;
  /** Unknown fields of a strict object are refused by name. */
  readonly query: Query;
  /** What a query that does not fit is told, instead of what is wrong with it. */
  readonly badQuery?: () => GatewayError;
  /** A JSON body; null: the door does not read one, or reads it itself. */
  readonly body: Body | null;
  /** Fields and items the JSON body may hold in all; MAX_ITEMS unless told otherwise. */
  readonly maxItems?: number;
  /** Request headers it heeds, beside those that every door does; for the document. */
  readonly reads?: z.ZodObject;
  /** It reads the body itself: a file. */
  readonly file?: true;
  /** Status → the JSON answer, a sentence where there is none, or both. */
  readonly answers: Readonly<Record<number, z.ZodType | string | Outcome>>;
  /** Refused while the gateway drains. */
  readonly newWork?: true;
  run(asked: Asked<z.output<Query>, z.output<Body>>): Answer | Promise<Answer>;
}

export type Route = RouteOf<z.ZodType, z.ZodType>;

type Row<Query extends z.ZodType, Body extends z.ZodType> = Omit<RouteOf<Query, Body>, 'query' | 'body'> & {
  readonly query?: Query;
  readonly body?: Body;
};

/** Fills in what most doors leave out: no query fields, no JSON body. */
export function route<Query extends z.ZodType = typeof NoQuery, Body extends z.ZodType = z.ZodUndefined>(
  row: Row<Query, Body>,
): Route {
  return { ...row, query: row.query ?? NoQuery, body: row.body ?? null } as Route;
}

export const json = (body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Answer => ({
  status,
  json: body,
  headers,
});

export const nothing: Answer = { status: 204 };

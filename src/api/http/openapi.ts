// The rows as an OpenAPI 3.1 document: the same zod schemas that validate.

import { STATUS_CODES } from 'node:http';
import { z } from 'zod';
import {
  type CreateDocumentOptions,
  createDocument,
  type ZodOpenApiContentObject,
  type ZodOpenApiObject,
  type ZodOpenApiOperationObject,
  type ZodOpenApiPathsObject,
  type ZodOpenApiResponseObject,
} from 'zod-openapi';
import { ErrorBody } from '../../contract/errors.ts';
import type { Scope } from '../../domain/caller.ts';
import { EXAMPLES } from './examples.ts';
import { Common, RequestId, RetryAfter } from './headers.ts';
import { NoQuery, type Outcome, type Route } from './route.ts';

const VERSION = '1';
const INTRODUCTION =
  'Ask for pictures, video or audio; get an id at once; poll it or watch it. Times are RFC 3339 UTC, credits are numbers with at most 3 decimals, errors always have one shape.';

const Refused = z.object({ 'Retry-After': RetryAfter });
const bytes = { type: 'string', format: 'binary' } as const;
const FILE: ZodOpenApiContentObject = {
  'multipart/form-data': { schema: { type: 'object', required: ['file'], properties: { file: bytes } } },
  'application/octet-stream': { schema: bytes },
};

export function openApi(routes: readonly Route[]): ReturnType<typeof createDocument> {
  const paths: Record<string, Record<string, ZodOpenApiOperationObject>> = {};
  for (const row of routes) {
    const path = pathOf(row);
    paths[path] = { ...paths[path], [row.method]: operationOf(row) };
  }
  const document: ZodOpenApiObject = {
    openapi: '3.1.0',
    info: { title: 'Darkroom', version: VERSION, description: INTRODUCTION },
    servers: [{ url: '/' }],
    security: [{ key: [] }],
    tags: [...new Set(routes.map((row) => row.tag))].map((name) => ({ name })),
    paths: paths as ZodOpenApiPathsObject,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'A key of a workspace: dk_…' } },
    },
  };
  return createDocument(document, { override: plainly });
}

const pathOf = ({ path }: Route): string => path.replace(/:(\w+)/g, '{$1}');

/** Leaves out what validators make of a type and nobody reads; answers may gain fields. */
const plainly: NonNullable<CreateDocumentOptions['override']> = ({ jsonSchema, io }) => {
  if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
  if (io === 'output' && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
  if (jsonSchema.minimum !== Number.MIN_SAFE_INTEGER) return;
  delete jsonSchema.minimum;
  delete jsonSchema.maximum;
};

/** Who has more than they were asked for. */
const INCLUDED: Partial<Record<Scope, string>> = { read: ' (`generate` includes it)' };

function operationOf(row: Route): ZodOpenApiOperationObject {
  const needs = row.scope === null ? 'Open.' : `Needs the scope \`${row.scope}\`${INCLUDED[row.scope] ?? ''}.`;
  return {
    operationId: `${row.method}${row.path.replace(/[^A-Za-z0-9]+(\w?)/g, (_all, letter: string) => letter.toUpperCase())}`,
    tags: [row.tag],
    summary: row.summary,
    description: row.description === undefined ? needs : `${row.description} ${needs}`,
    requestParams: parametersOf(row),
    ...(row.scope === null ? { security: [] } : {}),
    ...contentOf(row),
    responses: {
      ...Object.fromEntries(Object.entries(row.answers).map(([status, what]) => [status, answerOf(status, what)])),
      default: answerOf('', { says: 'What went wrong.', json: ErrorBody, headers: Refused }),
    },
  };
}

function contentOf(row: Route): Pick<ZodOpenApiOperationObject, 'requestBody'> {
  const example = EXAMPLES[`${row.method} ${pathOf(row)}`];
  const shown = example === undefined ? {} : { example };
  if (row.body)
    return { requestBody: { required: true, content: { 'application/json': { schema: row.body, ...shown } } } };
  return row.file ? { requestBody: { required: true, content: FILE } } : {};
}

function answerOf(status: string, what: z.ZodType | string | Outcome): ZodOpenApiResponseObject {
  if (typeof what === 'string') return answerOf(status, { says: what });
  if (what instanceof z.ZodType) return answerOf(status, { says: STATUS_CODES[status] ?? '', json: what });
  return {
    description: what.says,
    headers: z.object({ 'X-Request-Id': RequestId, ...what.headers?.shape }),
    ...(what.json ? { content: { 'application/json': { schema: what.json } } } : {}),
  };
}

type Parameters = NonNullable<ZodOpenApiOperationObject['requestParams']>;

function parametersOf(row: Route): Parameters {
  const names = [...row.path.matchAll(/:(\w+)/g)].map(([, name]) => [name, z.string()] as const);
  return {
    ...(names.length > 0 ? { path: z.object(Object.fromEntries(names)) } : {}),
    ...(row.query === NoQuery ? {} : { query: row.query as NonNullable<Parameters['query']> }),
    header: z.object({
      ...row.reads?.shape,
      ...(row.scope === null ? {} : { 'X-Darkroom-Workspace': Common.workspace }),
      'X-Request-Id': Common.requestId,
    }),
  };
}

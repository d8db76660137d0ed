// The rows as an OpenAPI 3.1 document: the same zod schemas that validate.

import { z } from 'zod';
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from 'zod-openapi';
import { ErrorBody } from '../../contract/errors.ts';
import { NoQuery, type Route } from './route.ts';

const VERSION = '1';
const INTRODUCTION =
  'Ask for pictures, video or audio; get an id at once; poll it, watch it, or let a webhook tell. Times are RFC 3339 UTC, credits are numbers with at most 3 decimals, errors always have one shape.';

export function openApi(routes: readonly Route[]): ReturnType<typeof createDocument> {
  const paths: Record<string, Record<string, ZodOpenApiOperationObject>> = {};
  for (const row of routes) {
    const path = row.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [row.method]: operationOf(row) };
  }
  return createDocument({
    openapi: '3.1.0',
    info: { title: 'Darkroom', version: VERSION, description: INTRODUCTION },
    servers: [{ url: '/' }],
    security: [{ key: [] }],
    tags: [...new Set(routes.map((row) => row.tag))].map((name) => ({ name })),
    paths: paths as ZodOpenApiPathsObject,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'A key of a workspace: dk_…' } },
    },
  });
}

function operationOf(row: Route): ZodOpenApiOperationObject {
  const needs = row.scope === null ? 'Open.' : `Needs the scope \`${row.scope}\`.`;
  return {
    operationId: `${row.method}${row.path.replace(/[^A-Za-z0-9]+(\w?)/g, (_all, letter: string) => letter.toUpperCase())}`,
    tags: [row.tag],
    summary: row.summary,
    description: row.description === undefined ? needs : `${row.description} ${needs}`,
    requestParams: parametersOf(row),
    ...(row.scope === null ? { security: [] } : {}),
    ...(row.body ? { requestBody: { required: true, content: { 'application/json': { schema: row.body } } } } : {}),
    responses: {
      ...Object.fromEntries(Object.entries(row.answers).map(([status, what]) => [status, answerOf(what)])),
      default: { description: 'What went wrong.', content: { 'application/json': { schema: ErrorBody } } },
    },
  };
}

const answerOf = (what: z.ZodType | string) =>
  typeof what === 'string'
    ? { description: what }
    : { description: 'The answer.', content: { 'application/json': { schema: what } } };

type Parameters = NonNullable<ZodOpenApiOperationObject['requestParams']>;

function parametersOf(row: Route): Parameters {
  const names = [...row.path.matchAll(/:(\w+)/g)].map(([, name]) => [name, z.string()] as const);
  return {
    ...(names.length > 0 ? { path: z.object(Object.fromEntries(names)) } : {}),
    ...(row.query === null || row.query === NoQuery ? {} : { query: row.query as NonNullable<Parameters['query']> }),
  };
}

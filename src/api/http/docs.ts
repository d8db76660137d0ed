// The interface as one page, written from its OpenAPI document: nothing is loaded from elsewhere, and it reads without
// JavaScript (which only searches). Everything that goes into the page is escaped, ours or not.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from 'zod';

const Schema = z.record(z.string(), z.unknown());
const Content = z.record(z.string(), z.object({ schema: Schema, example: z.unknown().optional() }));
const Parameter = z.object({ in: z.string(), name: z.string(), required: z.boolean().optional(), schema: Schema });
/** What every door has is told once, at the top. */
const Shared = z.object({ $ref: z.string() });
const Header = z.object({ description: z.string().optional() });
const Response = z.object({
  description: z.string(),
  content: Content.optional(),
  headers: z.record(z.string(), z.union([Shared, Header])).default({}),
});
const Operation = z.object({
  operationId: z.string(),
  tags: z.array(z.string()),
  summary: z.string(),
  description: z.string(),
  security: z.array(z.unknown()).optional(),
  parameters: z.array(z.union([Parameter, Shared])).default([]),
  requestBody: z.object({ content: Content }).optional(),
  responses: z.record(z.string(), Response),
});
type Operation = z.infer<typeof Operation>;
const OpenApi = z.object({
  info: z.object({ description: z.string() }),
  tags: z.array(z.object({ name: z.string() })),
  paths: z.record(z.string(), z.record(z.string(), Operation)),
  components: z.object({ schemas: z.record(z.string(), Schema), parameters: z.record(z.string(), Parameter) }),
});
type JsonSchema = z.infer<typeof Schema>;

interface Endpoint {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

const style = readFileSync(new URL('docs.css', import.meta.url), 'utf8');
const script = readFileSync(new URL('docs-search.js', import.meta.url), 'utf8');
const allow = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const policy = `default-src 'none'; style-src ${allow(style)}; script-src ${allow(script)}; base-uri 'none'; frame-ancestors 'none'`;

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: unknown) => String(text).replace(/[&<>"]/g, (c) => ESCAPES[c] ?? c);
/** Escaped text with `code` spans. */
const prose = (text: string) => escaped(text).replace(/`([^`]+)`/g, '<code>$1</code>');

export function docsPage(document: unknown, baseUrl: string): { readonly html: string; readonly policy: string } {
  const { info, tags, paths, components } = OpenApi.parse(document);
  const endpoints = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
  const groups = tags.map(({ name }) => ({ name, rows: endpoints.filter((e) => e.operation.tags.includes(name)) }));
  const schemas = Object.entries(components.schemas);
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Darkroom API</title><style>${style}</style></head>
<body id="top"><nav aria-label="Endpoints"><p><a href="#top">Darkroom<span> API</span></a></p>
<input type="search" placeholder="Search  /" aria-label="Search endpoints and schemas">
<div class="menu">${groups.map(({ name, rows }) => group('div', name, rows.map(linkTo).join(''))).join('')}
${group('div', 'Schemas', schemas.map(([name]) => schemaLink(name)).join(''))}</div></nav>
<main><h1>Darkroom API</h1><p>${prose(info.description)}</p><p>The same as <a href="/openapi.json">openapi.json</a>, for programs.</p>
${everywhere(Object.values(components.parameters))}
${groups.map(({ name, rows }) => group('section', name, rows.map((e) => article(e, baseUrl)).join(''))).join('')}
${group('section', 'Schemas', schemas.map(([name, schema]) => schemaArticle(name, schema)).join(''))}</main>
<script>${script}</script></body></html>`;
  return { html, policy };
}

const group = (tag: 'div' | 'section', name: string, inner: string) =>
  `<${tag} data-group><h2>${escaped(name)}</h2>${inner}</${tag}>`;

const words = (...texts: readonly string[]) => `data-words="${escaped(texts.join(' ').toLowerCase())}"`;

const linkTo = ({ method, path, operation: o }: Endpoint) =>
  `<a href="#${escaped(o.operationId)}" ${words(method, path, o.summary)}><span class="method ${method}">${method}</span>${escaped(o.summary)}</a>`;

const schemaLink = (name: string) => `<a href="#${escaped(name)}" ${words(name)}>${escaped(name)}</a>`;

function article({ method, path, operation: o }: Endpoint, baseUrl: string): string {
  const parameters = o.parameters.flatMap((p) => ('$ref' in p ? [] : [parameterRow(p)]));
  const request = o.requestBody?.content['application/json']?.schema;
  const answers = Object.entries(o.responses).map(([status, response]) => answerRow(status, response));
  return `<article id="${escaped(o.operationId)}" ${words(method, path, o.summary, o.description)}>
<h3><span class="method ${method}">${method}</span><code>${escaped(path)}</code></h3>
<p><strong>${escaped(o.summary)}</strong></p><p>${prose(o.description)}</p>
${parameters.length ? `<h4>Parameters</h4><table>${parameters.join('')}</table>` : ''}
${request ? `<h4>Body</h4>${bodyOf(request)}` : ''}
<h4>Answers</h4><table>${answers.join('')}</table>
<h4>Example</h4><pre>${escaped(curl(method, path, o, baseUrl))}</pre></article>`;
}

const parameterRow = ({ in: place, name, required, schema }: z.infer<typeof Parameter>) =>
  fieldRow(name, schema, required === true, `in ${place}`);

/** `default` is whatever is not told above it: the errors. */
function answerRow(status: string, { description, content, headers }: z.infer<typeof Response>): string {
  const own = Object.entries(headers).flatMap(([name, header]) =>
    '$ref' in header ? [] : [`<code>${escaped(name)}</code>`],
  );
  const notes = [prose(description), ...(own.length > 0 ? [`headers ${own.join(' ')}`] : [])].join(' · ');
  return `<tr><td>${status === 'default' ? 'else' : escaped(status)}</td><td>${typeOf(content?.['application/json']?.schema)}</td><td>${notes}</td></tr>`;
}

const everywhere = (parameters: readonly z.infer<typeof Parameter>[]) =>
  `<article ${words(...parameters.map((p) => p.name))}><h3>With every request</h3><table>${parameters.map(parameterRow).join('')}</table></article>`;

const bodyOf = (schema: JsonSchema) => (schema.$ref ? `<p>${typeOf(schema)}</p>` : fieldsOf(schema));

const schemaArticle = (name: string, schema: JsonSchema) =>
  `<article id="${escaped(name)}" ${words(name, ...Object.keys(propertiesOf(schema)))}><h3><code>${escaped(name)}</code></h3>
${typeof schema.description === 'string' ? `<p>${prose(schema.description)}</p>` : ''}${fieldsOf(schema)}</article>`;

const propertiesOf = (schema: JsonSchema) => (schema.properties ?? {}) as Readonly<Record<string, JsonSchema>>;

function fieldsOf(schema: JsonSchema): string {
  const rows = rowsOf(schema, '');
  return rows.length > 0 ? `<table>${rows.join('')}</table>` : `<p>${typeOf(schema)}</p>`;
}

/** Fields and, below each, the fields it holds. */
function rowsOf(schema: JsonSchema, prefix: string): readonly string[] {
  const required = (schema.required ?? []) as readonly string[];
  return Object.entries(propertiesOf(schema)).flatMap(([name, field]) => {
    const path = `${prefix}${name}`;
    const inner = (field.type === 'array' ? field.items : field) as JsonSchema;
    const below = rowsOf(inner, field.type === 'array' ? `${path}[].` : `${path}.`);
    return [fieldRow(path, field, required.includes(name), ''), ...below];
  });
}

function fieldRow(name: string, schema: JsonSchema, required: boolean, place: string): string {
  const notes = [place, boundsOf(schema), typeof schema.description === 'string' ? prose(schema.description) : ''];
  return `<tr><td>${escaped(name)}${required ? ' <small>required</small>' : ''}</td><td>${typeOf(schema)}</td><td>${notes.filter(Boolean).join(' · ')}</td></tr>`;
}

function typeOf(schema: JsonSchema | undefined): string {
  if (schema === undefined) return '—';
  if (typeof schema.$ref === 'string') {
    const name = escaped(schema.$ref.split('/').at(-1));
    return `<a href="#${name}">${name}</a>`;
  }
  const either = (schema.anyOf ?? schema.oneOf) as readonly JsonSchema[] | undefined;
  if (either) return either.map(typeOf).join(' or ');
  if (Array.isArray(schema.enum)) return schema.enum.map((v) => `<code>${escaped(v)}</code>`).join(' ');
  if (schema.const !== undefined) return `<code>${escaped(schema.const)}</code>`;
  if (schema.type === 'array') return `list of ${typeOf(schema.items as JsonSchema)}`;
  return escaped(Array.isArray(schema.type) ? schema.type.join(' or ') : (schema.format ?? schema.type ?? 'any'));
}

const BOUNDS = {
  minimum: '≥',
  maximum: '≤',
  exclusiveMinimum: '>',
  maxLength: 'length ≤',
  maxItems: 'items ≤',
  default: 'default',
};

function boundsOf(schema: JsonSchema): string {
  const told = Object.entries(BOUNDS).filter(([key]) => ['number', 'string', 'boolean'].includes(typeof schema[key]));
  return told.map(([key, sign]) => `${escaped(sign)} ${escaped(schema[key])}`).join(', ');
}

function curl(method: string, path: string, o: Operation, baseUrl: string): string {
  if (path === '/v1/events')
    return `websocat -H "Authorization: Bearer $DARKROOM_KEY" ${baseUrl.replace(/^http/, 'ws')}${path}`;
  const parts = [`curl ${method === 'get' ? '' : `-X ${method.toUpperCase()} `}${baseUrl}${path}`];
  if (o.security?.length !== 0) parts.push('-H "Authorization: Bearer $DARKROOM_KEY"');
  const { 'application/json': json, 'multipart/form-data': form } = o.requestBody?.content ?? {};
  if (json) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(json.example ?? {})}'`);
  if (form) parts.push('-F file=@picture.png');
  return parts.join(' \\\n  ');
}

// What the tools take: the contract's own schemas, strict, so that an unknown argument is named. What agents are shown of
// them is shorter than the schemas: models pay for every byte, and the checks say what was wrong anyway.

import { z } from 'zod';
import { GenerationQuery, GenerationRequest } from '../../contract/generations.ts';
import { ListQuery } from '../../contract/lists.ts';

/** Hosts give a call up after 60 s. */
export const WAIT_CAP_SECONDS = 50;

const id = z.string().min(1).max(100);
const wait = GenerationRequest.shape.wait;

export const Generate = GenerationRequest;
export const Get = z.strictObject({ id, wait, preview: z.boolean().optional() });
export const List = GenerationQuery.extend({
  metadata: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]).transform(String)).optional(),
});
export const Cancel = z.strictObject({ id });
export const Models = ListQuery.extend({ filter: z.string().trim().min(1).max(200).optional() });
export const Nothing = z.strictObject({});

/** `true` means the cap; more than the cap is the cap. */
export const waitMs = (asked: boolean | number | undefined): number =>
  (asked === true ? WAIT_CAP_SECONDS : Math.min(Number(asked ?? 0), WAIT_CAP_SECONDS)) * 1000;

type JsonSchema = { readonly [key: string]: unknown };

export interface InputSchema extends JsonSchema {
  readonly type: 'object';
}

/** What agents are told of a schema: types, choices and bounds that matter, and a few words per argument. */
export function shown<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  words: Readonly<Partial<Record<keyof Shape, string>>>,
): InputSchema {
  const json = z.toJSONSchema(schema, { io: 'input', metadata: z.registry() }) as JsonSchema;
  const properties = Object.entries(json.properties as Readonly<Record<string, JsonSchema>>).map(([name, property]) => {
    const description = words[name];
    return [name, { ...shortened(property), ...(description === undefined ? {} : { description }) }];
  });
  const required = (json.required ?? []) as readonly string[];
  return {
    type: 'object',
    properties: Object.fromEntries(properties),
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
  };
}

const LEFT_OUT: ReadonlySet<string> = new Set([
  'pattern',
  'format',
  'minLength',
  'maxLength',
  'maxItems',
  'propertyNames',
  'additionalProperties',
  'exclusiveMinimum',
  'default',
]);
/** Beyond it a bound says nothing. */
const TELLING = 1_000;

function shortened(schema: JsonSchema): JsonSchema {
  const kept = Object.entries(schema).filter(
    ([key, value]) =>
      !LEFT_OUT.has(key) && !(['minimum', 'maximum'].includes(key) && Math.abs(Number(value)) > TELLING),
  );
  return Object.fromEntries(kept.map(([key, value]) => [key, shortenedPart(key, value)]));
}

function shortenedPart(key: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => shortenedPart('', one));
  if (typeof value !== 'object' || value === null) return value;
  if (key !== 'properties') return shortened(value as JsonSchema);
  return Object.fromEntries(Object.entries(value).map(([name, property]) => [name, shortened(property as JsonSchema)]));
}

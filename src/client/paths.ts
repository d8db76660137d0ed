// Paths with their queries, spelled as the contract spells them.

/** Undefined values are left out; records become `name.KEY=VALUE`, as metadata filters are written. */
export type Query = Readonly<
  Record<string, string | number | readonly string[] | Readonly<Record<string, string>> | undefined>
>;

export function withQuery(path: string, query: Query): string {
  const text = new URLSearchParams(Object.entries(query).flatMap(pairs)).toString();
  return text === '' ? path : `${path}?${text}`;
}

function pairs([name, value]: [string, Query[string]]): [string, string][] {
  if (value === undefined) return [];
  if (typeof value === 'string' || typeof value === 'number') return [[name, String(value)]];
  if (Array.isArray(value)) return [[name, value.join(',')]];
  return Object.entries(value).map(([key, one]) => [`${name}.${key}`, one]);
}

export const generationPath = (id: string, rest = ''): string => `/v1/generations/${encodeURIComponent(id)}${rest}`;
export const batchPath = (id: string, rest = ''): string => `/v1/batches/${encodeURIComponent(id)}${rest}`;

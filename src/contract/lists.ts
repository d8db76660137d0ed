// Lists look alike behind every door: `{data, next_cursor}`, a limit of 1…100, an opaque cursor.

import { z } from 'zod';

/** 20 rows unless told otherwise. */
export const ListQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20).describe('Rows per page.'),
  cursor: z.string().min(1).max(500).optional().describe('next_cursor of the page before.'),
});

/**
 * An optional `a,b` → ['a', 'b']. Declared as the array it is to a client, whose items are joined by commas. What does not fit is
 * told of the whole field, for that is what was sent.
 */
export const commaList = <T extends z.ZodType>(item: T, max: number, expected: string) =>
  z
    .string()
    .transform((text, context): z.output<T>[] => {
      const list = z.array(item).max(max).safeParse(text.split(','));
      if (list.success) return list.data;
      context.issues.push({ code: 'custom', message: expected, input: text });
      return z.NEVER;
    })
    .optional()
    .meta({
      param: { style: 'form', explode: false },
      override: { type: 'array', maxItems: max, items: { ...z.toJSONSchema(item), $schema: undefined } as object },
    });

export type ListQuery = z.infer<typeof ListQuery>;

export interface PageBody<T> {
  readonly data: readonly T[];
  readonly next_cursor: string | null;
}

export const listOf = <T extends z.ZodType>(item: T) =>
  z.object({ data: z.array(item), next_cursor: z.string().nullable().describe('Null: this is the last page.') });

/** One page of a list in memory; the cursor is the name of the last row of the page before. Null: nobody knows the cursor. */
export function pageOf<T>(
  rows: readonly T[],
  nameOf: (row: T) => string,
  { limit, cursor }: ListQuery,
): { readonly data: readonly T[]; readonly next: string | null } | null {
  const after = cursor === undefined ? -1 : rows.findIndex((row) => nameOf(row) === cursor);
  if (cursor !== undefined && after < 0) return null;
  const data = rows.slice(after + 1, after + 1 + limit);
  const last = data.at(-1);
  const more = after + 1 + data.length < rows.length;
  return { data, next: more && last !== undefined ? nameOf(last) : null };
}

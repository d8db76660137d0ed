// A page of a list that lives in memory.

import { type ListQuery, type PageBody, pageOf } from '../../contract/lists.ts';
import { GatewayError } from '../../domain/failure.ts';

/** Throws invalid_request on a cursor nobody gave out. */
export function shortList<T>(rows: readonly T[], nameOf: (row: T) => string, query: ListQuery): PageBody<T> {
  const page = pageOf(rows, nameOf, query);
  if (page === null) {
    const details = [{ path: 'cursor', message: 'unknown cursor' }];
    throw new GatewayError('invalid_request', 'cursor: unknown cursor', { details });
  }
  return { data: page.data, next_cursor: page.next };
}

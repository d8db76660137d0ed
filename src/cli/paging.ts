// Lists that people want whole: page after page until the last.

import type { Client, Page } from '../client/client.ts';

const PAGE = 100;

export async function everything<T>(client: Client, path: string): Promise<Page<T>> {
  const data: T[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const from: string = cursor && `&cursor=${encodeURIComponent(cursor)}`;
    const page: Page<T> = await client.call<Page<T>>('GET', `${path}?limit=${PAGE}${from}`);
    data.push(...page.data);
    cursor = page.next_cursor;
  }
  return { data, next_cursor: null };
}

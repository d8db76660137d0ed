// The emitted client in a real browser, against a real gateway.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type * as Client from '../../src/client/client.ts';
import { chromiumMissing, launchChromium } from './chromium.ts';
import { KEY, startGateway } from './darkroom.ts';
import { emitClient } from './emitted.ts';
import { startFront } from './front.ts';

const missing = chromiumMissing();

describe.skipIf(missing !== null)(`in Chromium${missing === null ? '' : ` (${missing})`}`, () => {
  let browser: Browser;
  let emitted: ReturnType<typeof emitClient>;
  beforeAll(async () => {
    emitted = emitClient();
    browser = await launchChromium();
  });
  afterAll(async () => {
    await browser?.close();
    emitted?.remove();
  });

  async function open() {
    const { url: gateway } = await startGateway();
    const front = await startFront(gateway, emitted.folder);
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    const errors: Error[] = [];
    page.on('pageerror', (error) => errors.push(error));
    await page.goto(front.url);
    await page.waitForFunction('globalThis.client');
    return { page, front, errors, given: { url: front.url, key: KEY } };
  }

  it('generates while it watches, and fetches the picture', async () => {
    const { page, front, errors, given } = await open();
    const result = await page.evaluate(async ({ url, key }) => {
      const { createClient } = (globalThis as unknown as { readonly client: typeof Client }).client;
      const client = createClient({ url, key });
      const abort = new AbortController();
      const events: string[] = [];
      let ready = () => {};
      const isReady = new Promise<void>((resolve) => {
        ready = resolve;
      });
      const watching = (async () => {
        for await (const frame of client.watch({ signal: abort.signal })) {
          if (frame.type === 'ready') ready();
          if (frame.type === 'event') events.push(frame.event);
          if (events.at(-1) === 'generation.succeeded') abort.abort();
        }
      })();
      await isReady;
      const g = await client.generate({ prompt: 'a lighthouse' });
      await watching;
      const { size } = await (await client.download(g.url as string)).blob();
      return { status: g.status, events, complete: size === g.outputs[0]?.bytes };
    }, given);
    expect(result).toEqual({
      status: 'succeeded',
      events: ['generation.queued', 'generation.running', 'generation.succeeded'],
      complete: true,
    });
    expect(front.scripts.filter((path) => !path.startsWith('/dist/client/'))).toEqual([]);
    expect(errors).toEqual([]);
  });

  it('says why no socket opens, though the browser does not', async () => {
    const { page, given } = await open();
    const error = await page.evaluate(async ({ url }) => {
      const { createClient } = (globalThis as unknown as { readonly client: typeof Client }).client;
      try {
        for await (const _ of createClient({ url, key: 'dk_wrong' }).watch()) return null;
      } catch (thrown) {
        const { name, code, status } = thrown as Client.DarkroomError;
        return { name, code, status };
      }
      return null;
    }, given);
    expect(error).toEqual({ name: 'DarkroomError', code: 'unauthenticated', status: 401 });
  });
});

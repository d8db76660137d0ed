// What the page of the interface offers to be pasted is taken by the doors it is pasted at.

import { expect, it } from 'vitest';
import { served } from './served.ts';

interface Operation {
  readonly description: string;
  readonly requestBody?: { readonly content: Record<string, { readonly example?: object }> };
}

it('every door that takes JSON has an example that fits it and names what it makes', async () => {
  const s = await served();
  const { paths } = (await s.call('/openapi.json')).json<{ paths: Record<string, Record<string, Operation>> }>();
  const doors = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { requestBody }]) => ({
      path,
      method,
      json: requestBody?.content['application/json'],
    })),
  );
  const taking = doors.filter(({ json }) => json !== undefined);
  expect(taking.length).toBeGreaterThan(6);
  for (const { path, method, json } of taking) {
    expect(json?.example, `${method} ${path}`).toBeDefined();
    const reply = await s.call(path.replaceAll(/\{\w+\}/g, 'x'), {
      method: method.toUpperCase(),
      headers: { 'content-type': 'application/json' },
      body: json?.example,
    });
    expect(reply.status === 422 ? reply.error : null, `${method} ${path}`).toBeNull();
  }
});

it('the page shows it as a line to paste, and begins with what people do first', async () => {
  const s = await served();
  const page = (await s.call('/docs')).text;
  expect(page).toContain(`-d '{&quot;name&quot;`);
  expect(page).not.toContain("-d '{}'");
  expect(page).toContain('-F file=@picture.png');
  expect(page.indexOf('Create a webhook')).toBeLessThan(page.indexOf('/v1/webhooks/secret'));
  expect(page).toContain('(<code>generate</code> includes it)');
});

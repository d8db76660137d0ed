import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { InputFile } from '../../src/backends/backend.ts';
import { job, route } from './sdapi-jobs.ts';
import { base64, begin, done, ended, node, posted, scratch, start } from './sdapi-stage.ts';

describe('pictures that go in', () => {
  const file = async (role: InputFile['role'], content: Buffer): Promise<InputFile> => {
    const path = join(scratch, role);
    await writeFile(path, content);
    return { role, path, mediaType: 'image/png', sha256: '', bytes: content.length };
  };
  const ref = { kind: 'url', url: 'https://example.com' } as const;
  afterEach(async () => {
    for (const role of ['init_image', 'mask']) await rm(join(scratch, role), { force: true });
  });

  it.each([1, 3 * 64 * 1024 - 1, 3 * 64 * 1024, 500_000])(
    'arrive whole (%i bytes) with the length known',
    async (size) => {
      await start('a1111');
      const files = [await file('init_image', Buffer.alloc(size, 'xyz')), await file('mask', Buffer.from('mask'))];
      node.does.set('/sdapi/v1/img2img', (call) => done(call));
      expect(await ended(begin(job({ strength: 0.4, initImage: ref, mask: ref }, { files })).end)).toBeUndefined();
      const { body, headers } = await posted('/sdapi/v1/img2img');
      expect(headers['content-length']).toMatch(/^\d+$/);
      expect(Buffer.from(body.init_images[0], 'base64').equals(await readFile(join(scratch, 'init_image')))).toBe(true);
      expect(body).toMatchObject({
        mask: base64('mask'),
        denoising_strength: 0.4,
        inpainting_fill: 1,
        include_init_images: false,
      });
    },
  );

  it('are enlarged when the route names an upscaler', async () => {
    await start('a1111');
    const files = [await file('init_image', Buffer.from('small'))];
    node.does.set('/sdapi/v1/extra-single-image', (call) =>
      call.answer(200, { html_info: '', image: base64('large') }),
    );
    const size = { width: null, height: null, initImage: ref };
    const run = begin(job(size, { files, route: { ...route, checkpoint: 'R-ESRGAN 4x+' } }));
    expect(await ended(run.end)).toBeUndefined();
    expect(await run.texts()).toEqual(['large']);
    const { body } = await posted('/sdapi/v1/extra-single-image');
    expect(body).toMatchObject({ image: base64('small'), upscaler_1: 'R-ESRGAN 4x+', upscaling_resize: 2 });
  });
});

// The address of a server that we speak to or are reached at: http or https, with nothing behind its path.

import { z } from 'zod';

/** Without user name, password, query and fragment. Comes out without trailing slash, so that a path can be appended. */
export const BaseUrl = z
  .url({ protocol: /^https?$/, error: 'expected an http:// or https:// URL' })
  .max(2000)
  .transform((text, context) => {
    const url = new URL(text);
    const extra = url.username || url.password ? 'user name and password' : url.search || url.hash ? '? and #' : null;
    if (extra === null) return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
    context.addIssue({ code: 'custom', message: `expected a URL without ${extra}` });
    return z.NEVER;
  });

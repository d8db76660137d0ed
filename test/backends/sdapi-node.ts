// A small /sdapi server for the tests: routes by flavour, every answer in the test's hand. It renders nothing; a test
// says when a request is answered and with what.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Flavour = 'a1111' | 'forge' | 'sdnext' | 'sdcpp';

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever was sent
  readonly body: any;
  answer(status: number, body: unknown): void;
  /** Cuts the connection without an answer. */
  cut(): void;
}

export interface TestNode {
  readonly url: string;
  readonly calls: Call[];
  /** GET path → JSON. Remove one to make it 404; a function is asked each time. */
  readonly has: Map<string, unknown>;
  /** POST path → what to do. */
  readonly does: Map<string, (call: Call) => void>;
  posts(path: string): Call[];
  close(): Promise<void>;
}

export const idle = {
  progress: 0,
  state: {
    skipped: false,
    interrupted: false,
    job: '',
    job_count: 0,
    job_timestamp: '0',
    sampling_step: 0,
    sampling_steps: 0,
  },
  current_image: null,
};
export const running = (progress: number, state: Partial<typeof idle.state> = {}) => ({
  ...idle,
  progress,
  state: {
    ...idle.state,
    job: 'scripts_txt2img',
    job_count: 1,
    job_timestamp: '20260430',
    sampling_step: 4,
    sampling_steps: 20,
    ...state,
  },
});

const CHECKPOINTS = [
  {
    title: 'sub/dream.safetensors [0123abcdef]',
    model_name: 'dream',
    hash: '0123abcdef',
    sha256: 'f'.repeat(64),
    filename: '/m/sub/dream.safetensors',
  },
  { title: 'real.safetensors', model_name: 'real', hash: null, sha256: null, filename: 'C:\\m\\real.safetensors' },
];

function common(flavour: Flavour): [string, unknown][] {
  return [
    [
      '/sdapi/v1/sd-models',
      flavour === 'sdcpp' ? [{ ...CHECKPOINTS[0], hash: '8888888888', sha256: '8888888888' }] : CHECKPOINTS,
    ],
    [
      '/sdapi/v1/samplers',
      [
        { name: 'Euler', aliases: ['k_euler'], options: {} },
        { name: 'DPM++ 2M', aliases: ['k_dpmpp_2m'] },
      ],
    ],
    [
      '/sdapi/v1/schedulers',
      [
        { name: 'automatic', label: 'Automatic' },
        { name: 'karras', label: 'Karras' },
      ],
    ],
    ['/sdapi/v1/upscalers', [{ name: 'None' }, { name: 'R-ESRGAN 4x+' }]],
    [
      '/sdapi/v1/loras',
      [{ name: 'ink', alias: 'Ink style', path: 'styles/ink.safetensors', metadata: { ss_tag: { '}': [1, '\\"'] } } }],
    ],
    ['/sdapi/v1/options', { sd_model_checkpoint: 'dream' }],
  ];
}

const OWN: Record<Flavour, [string, unknown][]> = {
  a1111: [
    ['/sdapi/v1/sd-vae', []],
    ['/internal/pending-tasks', { size: 0, tasks: [] }],
  ],
  forge: [
    ['/sdapi/v1/sd-modules', [{ model_name: 'ae.safetensors', filename: '/m/ae' }]],
    ['/internal/pending-tasks', { size: 0, tasks: [] }],
  ],
  sdnext: [
    ['/sdapi/v1/version', { app: 'sd.next', updated: '2026-07-23', hash: '058a7f0c' }],
    ['/sdapi/v1/sd-vae', []],
  ],
  sdcpp: [['/sdcpp/v1/capabilities', { features: { cancel_queued: true } }]],
};
const WEB: [string, unknown][] = [
  ['/sdapi/v1/progress', idle],
  ['/sdapi/v1/memory', { ram: {}, cuda: { system: { free: 10, used: 14, total: 24 } } }],
];

export async function startNode(flavour: Flavour, auth?: string): Promise<TestNode> {
  const calls: Call[] = [];
  const has = new Map<string, unknown>([...common(flavour), ...OWN[flavour], ...(flavour === 'sdcpp' ? [] : WEB)]);
  const does: TestNode['does'] = new Map();
  if (flavour !== 'sdcpp') does.set('/sdapi/v1/interrupt', (call) => call.answer(200, {}));

  const server = createServer(async (req, res) => {
    const call = await receive(req, res);
    calls.push(call);
    if (auth && req.headers.authorization !== `Basic ${Buffer.from(auth).toString('base64')}`)
      call.answer(401, { detail: 'Incorrect' });
    else if (req.method === 'POST') (does.get(call.path) ?? ((c) => c.answer(404, { detail: 'Not Found' })))(call);
    else {
      const value = has.get(call.path);
      const told = typeof value === 'function' ? value() : value;
      call.answer(told === undefined ? 404 : 200, told ?? { detail: 'Not Found' });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    has,
    does,
    posts: (path) => calls.filter((call) => call.method === 'POST' && call.path === path),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function receive(req: IncomingMessage, res: ServerResponse): Promise<Call> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  return {
    method: req.method ?? '',
    path: (req.url ?? '').split('?')[0] ?? '',
    headers: req.headers,
    body: text === '' ? null : JSON.parse(text),
    answer(status, body) {
      res.writeHead(status, { 'content-type': 'application/json' });
      res.end(JSON.stringify(body));
    },
    cut: () => void req.socket.destroy(),
  };
}

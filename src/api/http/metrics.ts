// What Prometheus reads. Request counts and times are pushed by the doors, with the route's pattern as label so that ids
// never become labels; everything else is read from the gateway when somebody asks.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { isHosted } from '../../domain/model.ts';
import { toCredits } from '../../domain/units.ts';
import type { Gateway, Stats } from '../../engine/gateway.ts';

const BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 60];
const NODE_STATUSES = ['online', 'offline', 'draining', 'wedged'] as const;

export interface Metrics {
  /** The counter of one route: call it with each answer's status and milliseconds. */
  http(method: string, route: string): (status: number, ms: number) => void;
  readonly sockets: Gauge;
  /** The exposition text and its content type. */
  render(): Promise<{ readonly text: string; readonly type: string }>;
  close(): void;
}

export function createMetrics(gateway: Pick<Gateway, 'stats'>): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  const requests = new Histogram({
    name: 'darkroom_http_request_duration_seconds',
    help: 'Time to answer, by route',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: BUCKETS,
    registers,
  });
  const sockets = new Gauge({ name: 'darkroom_websockets', help: 'Open event sockets', registers });
  gatewayMetrics(gateway, registers);
  processMetrics(delay, registers);
  return {
    sockets,
    http(method, route) {
      const byStatus = new Map<number, { observe(seconds: number): void }>();
      return (status, ms) => {
        const child = byStatus.get(status) ?? requests.labels({ method: method.toUpperCase(), route, status });
        byStatus.set(status, child);
        child.observe(ms / 1000);
      };
    },
    async render() {
      return { text: await registry.metrics(), type: registry.contentType };
    },
    close: () => void delay.disable(),
  };
}

function gatewayMetrics({ stats }: Pick<Gateway, 'stats'>, registers: Registry[]): void {
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge('darkroom_queued', 'Generations waiting', () => stats().queued);
  gauge('darkroom_running', 'Generations running', () => stats().running);
  gauge('darkroom_catalog_ok', '1: the catalog on disk is the one that serves', () => (stats().catalog.ok ? 1 : 0));
  new Gauge({
    name: 'darkroom_batches_open',
    help: 'Batches that have not ended, by what holds them up',
    labelNames: ['state'] as const,
    registers,
    collect() {
      for (const [state, count] of Object.entries(stats().batches)) this.set({ state }, count);
    },
  });
  new Gauge({
    name: 'darkroom_node_status',
    help: '1 for the status a node has',
    labelNames: ['node', 'status'] as const,
    registers,
    collect() {
      this.reset();
      for (const { spec, status } of stats().nodes.filter(isNode)) {
        for (const one of NODE_STATUSES) this.set({ node: spec.id, status: one }, one === status ? 1 : 0);
      }
    },
  });
  new Gauge({
    name: 'darkroom_node_running',
    help: 'Attempts on a node',
    labelNames: ['node'] as const,
    registers,
    collect() {
      this.reset();
      for (const { spec, running } of stats().nodes.filter(isNode)) this.set({ node: spec.id }, running);
    },
  });
  accountMetrics({ stats }, registers);
  new Counter({
    name: 'darkroom_generations_total',
    help: 'Generations finished since start',
    labelNames: ['model', 'status'] as const,
    registers,
    collect() {
      this.reset();
      for (const { model, status, count } of stats().finished) this.inc({ model, status }, count);
    },
  });
  const total = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  total('darkroom_credits_charged_total', 'Credits charged since start', () => toCredits(stats().creditsCharged));
  gauge(
    'darkroom_webhook_receivers_failing',
    'Receivers of webhooks that fail',
    () => stats().webhooks.failingReceivers,
  );
  new Gauge({
    name: 'darkroom_webhook_deliveries_pending',
    help: 'Webhook deliveries that wait to be sent or tried again; NaN: the store did not say',
    registers,
    async collect() {
      this.set(
        await stats()
          .webhooks.pending()
          .catch(() => Number.NaN),
      );
    },
  });
  totals(registers, {
    name: 'darkroom_webhook_deliveries_total',
    help: 'Webhook deliveries that ended since start',
    label: 'state',
    read: () => ({ delivered: stats().webhooks.delivered, dead: stats().webhooks.dead }),
  });
  totals(registers, {
    name: 'darkroom_webhook_tries_total',
    help: 'Tries to deliver a webhook since start',
    label: 'outcome',
    read: () => ({ ...stats().webhooks.tries }),
  });
  total('darkroom_store_commits_total', 'Group commits since start', () => stats().commits);
}

type Member = Stats['nodes'][number];

const isNode = ({ spec }: Member): boolean => !isHosted(spec.kind);

/** Every account by its id and provider. Its circuit counts as open until it is closed: half open, nobody has tried it yet. */
function accountMetrics({ stats }: Pick<Gateway, 'stats'>, registers: Registry[]): void {
  const each = (name: string, help: string, read: (account: Member) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['account', 'kind'] as const,
      registers,
      collect() {
        this.reset();
        for (const one of stats().nodes.filter((n) => !isNode(n)))
          this.set({ account: one.spec.id, kind: one.spec.kind }, read(one));
      },
    });
  each(
    'darkroom_account_circuit_open',
    '1: key or balance of the account was refused, or it failed three times in a row, and nothing has succeeded there since',
    (a) => ((a.breaker ?? 'closed') === 'closed' ? 0 : 1),
  );
  each('darkroom_account_running', 'Generations in flight at an account', (a) => a.running);
}

interface Totals {
  readonly name: string;
  readonly help: string;
  readonly label: string;
  /** By the value of the label. */
  readonly read: () => Readonly<Record<string, number>>;
}

function totals(registers: Registry[], { name, help, label, read }: Totals): void {
  new Counter({
    name,
    help,
    labelNames: [label],
    registers,
    collect() {
      this.reset();
      for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count);
    },
  });
}

function processMetrics(delay: ReturnType<typeof monitorEventLoopDelay>, registers: Registry[]): void {
  new Gauge({
    name: 'darkroom_event_loop_delay_seconds',
    help: 'Event loop delay since the last scrape',
    labelNames: ['quantile'] as const,
    registers,
    collect() {
      for (const quantile of [50, 99]) this.set({ quantile: `0.${quantile}` }, delay.percentile(quantile) / 1e9);
      this.set({ quantile: '1' }, delay.max / 1e9);
      delay.reset();
    },
  });
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Gauge({
    name: 'process_cpu_seconds_total',
    help: 'User and system CPU time',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.set((user + system) / 1e6);
    },
  });
}

// What is said of a batch, and what is decided from a projection.

import { describe, expect, it } from 'vitest';
import { createPace } from '../../src/cli/batch-board.ts';
import { exitOf } from '../../src/cli/batch-run.ts';
import { piecesOf } from '../../src/cli/batch-send.ts';
import { sayChanges } from '../../src/cli/batch-state.ts';
import {
  judgeProjection,
  type LinedReport,
  sayCounts,
  sayHold,
  sayProjection,
  sayReport,
  saySpend,
  sayStanding,
  workedOff,
} from '../../src/cli/batch-text.ts';
import type { BatchBody, DryRunBody, ReportBody } from '../../src/contract/batches.ts';

const BATCH: BatchBody = {
  id: 'batch_01',
  name: 'spring',
  status: 'running',
  total: 2000,
  counts: { queued: 748, running: 48, succeeded: 1190, failed: 14, timeout: 0, cancelled: 0 },
  credits: { projected: 800, charged: 476, reserved: 19.2, max_credits: 900 },
  breaker: { state: 'closed', trips: 0, resumes_at: null },
  eta_seconds: 1440,
  concurrency: 50,
  created_at: '2026-04-29T20:00:00Z',
  finished_at: null,
  metadata: {},
};
const REPORT: LinedReport = {
  ...BATCH,
  status: 'finished',
  counts: { queued: 0, running: 0, succeeded: 1994, failed: 5, timeout: 1, cancelled: 0 },
  credits: { projected: 8000, charged: 7500, reserved: 0, max_credits: null },
  finished_at: '2026-04-29T23:12:00Z',
  eta_seconds: null,
  failures: Array.from({ length: 6 }, (_, i) => ({
    id: `gen_${i}`,
    index: i,
    line: i === 5 ? null : i + 730,
    key: 'k',
    prompt: `a red\n\u001b[31mbottle ${'x'.repeat(200)}`,
    model: 'flux-dev',
    reason: 'The picture was withheld.',
    error: { code: 'safety_filter', message: 'm', retryable: false, advice: 'a' },
    attempts: 1,
  })),
  failures_total: 6,
  reconciliation: { projected: 8000, charged: 7500, delta_percent: -6.25, flagged: true },
  seconds_per_job: { mean: 8.1, p50: 7.9, p95: 12 },
  outputs: '/v1/generations?batch_id=batch_01',
};
const DRY: DryRunBody = {
  items: 2000,
  projected_credits: 3750,
  available: 4000,
  max_credits: null,
  fits: true,
  by_model: { sketch: { items: 500, credits: 0 }, 'flux-dev': { items: 1500, credits: 3750 } },
  attached: 120,
  refused: [],
};

describe('while it runs', () => {
  it('counts, spend and pace stand in one line', () => {
    expect(sayCounts(BATCH)).toBe('succeeded 1,190 · failed 14 · running 48 · queued 748');
    expect(saySpend(BATCH)).toBe('476 of 800 credits, 19.2 reserved, cap 900');
    expect(sayStanding(BATCH, { perMinute: 31.24 })).toMatch(
      /^ 60 % {2}1,204 of 2,000 \| .* \| 31\.2 a minute, about 25 min left$/,
    );
    expect(sayStanding(BATCH, { perMinute: null })).toMatch(/ \| about 24 min left$/);
  });
  it('says what holds it: breaker, halt, a person', () => {
    expect(sayHold(BATCH)).toBeNull();
    const tripped = { ...BATCH, breaker: { state: 'paused', trips: 1, resumes_at: '2026-04-29T21:00:00Z' } } as const;
    expect(sayHold(tripped)).toMatch(/^BREAKER: .*paused until \d\d:\d\d:\d\d \(trip 1\)$/);
    const halted = { ...BATCH, status: 'halted', finished_at: BATCH.created_at } as const;
    const trips = (n: number) => sayHold({ ...halted, breaker: { state: 'halted', trips: n, resumes_at: null } });
    expect(trips(1)).toBe('HALTED: too many items failed');
    expect(trips(3)).toBe('HALTED: too many items failed, 3 times in a row');
    expect(sayHold({ ...BATCH, status: 'paused' })).toBe(
      'paused by somebody; to go on: darkroom batch resume batch_01',
    );
  });
  it('a cancelled one waits only for what runs', () => {
    const cancelled = { ...BATCH, status: 'cancelled' } as const;
    expect(sayHold(cancelled)).toBe('cancelled; what runs now still ends');
    const queued = { ...cancelled, counts: { ...BATCH.counts, running: 0 } };
    expect(sayHold(queued)).toBe('cancelled; clearing away');
    expect(sayHold({ ...queued, finished_at: BATCH.created_at })).toBe('cancelled');
  });
  it('what is cancelled is no pace', () => {
    expect(workedOff({ counts: { ...BATCH.counts, cancelled: 700 } })).toBe(1204);
  });
  it('the pace is that of the last minute, and unknown at first', () => {
    const pace = createPace();
    expect(pace(0, 0).perMinute).toBeNull();
    expect(pace(10, 20_000).perMinute).toBe(30);
    expect(pace(100, 90_000).perMinute).toBeNull();
    expect(pace(130, 120_000).perMinute).toBe(60);
  });
});

describe('before it runs', () => {
  it('the projection is told by model, the dearest part first by number of items', () => {
    const refused = [{ index: 4, code: 'unknown_model', message: 'No model "x".' }] as const;
    expect(sayProjection('shots.csv', { ...DRY, refused: [...refused] }, (i) => i + 2)).toBe(
      [
        'shots.csv: 2,000 items',
        '  flux-dev  1,500 items, 3,750 credits',
        '  sketch    500 items, 0 credits',
        '  projected 3,750 credits, available 4,000',
        '  120 items finished before: attached, at no cost',
        '  1 item would fail at once:',
        '    line 6: unknown_model: No model "x".',
      ].join('\n'),
    );
  });
  it.each([
    ['fits', {}, false, { go: true, maxCredits: null, note: null }],
    [
      'has a cap below its price',
      { max_credits: 100 },
      false,
      { go: true, maxCredits: 100, note: expect.stringContaining('stops at 100') },
    ],
    ['costs more than there is', { available: 1200 }, false, { go: false, code: 'insufficient_credits' }],
    ['has a cap above what there is', { available: 1200, max_credits: 1300 }, false, { go: false }],
    ['has a cap that is there', { available: 1200, max_credits: 1200 }, false, { go: true, maxCredits: 1200 }],
    ['has no credits at all', { available: 0 }, true, { go: false, advice: 'Ask for more credits. Nothing was sent.' }],
    ['has nothing left of its cap', { max_credits: 0 }, true, { go: false, code: 'budget_exceeded' }],
    ['may stop where the credits end', { available: 1200 }, true, { go: true, maxCredits: 1200 }],
    [
      'would fail altogether',
      { items: 1, refused: [{ index: 0, code: 'unknown_model', message: '' }] },
      true,
      { go: false, code: 'invalid_request' },
    ],
  ] as const)('a batch that %s', (_what, change, yes, verdict) => {
    expect(judgeProjection({ ...DRY, ...change } as DryRunBody, yes)).toMatchObject(verdict);
  });
  it('pieces keep to the bounds on items and bytes, in order and from where it stopped', () => {
    const items = Array.from({ length: 25 }, (_, i) => ({ request: { prompt: `shot ${i}` } }));
    const sizes = (bounds: { items: number; bytes: number }, from = 0) =>
      piecesOf(items, from, bounds).map((p) => [p.from, p.requests.length]);
    expect(sizes({ items: 10, bytes: 1e6 })).toEqual([
      [0, 10],
      [10, 10],
      [20, 5],
    ]);
    expect(sizes({ items: 10, bytes: 1e6 }, 12)).toEqual([
      [12, 10],
      [22, 3],
    ]);
    expect(sizes({ items: 10, bytes: 1 })).toHaveLength(25);
    const bytes = piecesOf(items, 0, { items: 100, bytes: 120 }).map((p) => JSON.stringify(p.requests).length);
    expect(Math.max(...bytes)).toBeLessThanOrEqual(121);
    expect(piecesOf([])).toEqual([{ from: 0, requests: [] }]);
  });
  it('changes to the file are counted', () => {
    expect(sayChanges(['a:1', 'b:1', 'c:1'], ['a:1', 'b:2', 'd:1', 'e:1'])).toBe('2 new, 1 gone, 1 changed');
    expect(sayChanges(['a:1', 'b:1'], ['b:1', 'a:1'])).toBe('in another order');
    expect(sayChanges(['a:1'], ['a:1'])).toBeNull();
  });
});

describe('the report', () => {
  const pictures = { saved: 1994, folder: 'shots-pictures', failed: [] };
  it('says how many succeeded, what failed and where, what it cost, where the pictures lie', () => {
    const said = sayReport(REPORT, { pictures, reportFile: 'shots.report.json' });
    expect(said).toContain('spring: 1,994 of 2,000 succeeded in 3 h 12 min (finished, batch_01)');
    expect(said).toContain('failed 5 · timeout 1');
    expect(said).toContain(
      '  6 items: safety_filter: The picture was withheld.\n    items 0, 1, 2, 3, 4, 5\n    "a red bottle xxx',
    );
    expect(said).toContain('7,500 charged of 8,000 projected (-6.25 %)  LOOK: off by more than 5 %');
    expect(said).toContain('8.1 per item (half within 7.9, 95 % within 12)');
    expect(said).toContain('1,994 in shots-pictures');
  });
  it('holds foreign text to one short line without control characters', () => {
    const said = sayReport(REPORT, { pictures, reportFile: null });
    expect(said).not.toContain('\u001b');
    expect(Math.max(...said.split('\n').map((l) => l.length))).toBeLessThan(120);
  });
  it('tells once of all that a halt or the cap kept from running', () => {
    const failure = REPORT.failures[0] as LinedReport['failures'][number];
    const halted = {
      ...failure,
      reason: 'Its batch halted.',
      error: { ...failure.error, code: 'batch_halted' as const },
    };
    const said = sayReport({ ...REPORT, failures: [halted, failure, halted] }, { pictures, reportFile: null });
    expect(said).toContain('line 730: safety_filter');
    expect(said).toContain('2 items NOT MADE: batch_halted: Its batch halted.');
    expect(said).not.toContain('line 730: batch_halted');
  });
  it('tells a cause once, with the lines it struck', () => {
    const failures = Array.from({ length: 14 }, (_, i) => ({ ...REPORT.failures[0], line: i + 3 }));
    const said = sayReport({ ...REPORT, failures } as LinedReport, { pictures, reportFile: null });
    expect(said).toContain('14 items: safety_filter');
    expect(said).toContain('    lines 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 2 more\n');
  });
  it('a difference that the cap made is no surprise', () => {
    const failure = REPORT.failures[0] as LinedReport['failures'][number];
    const failures = [{ ...failure, error: { ...failure.error, code: 'budget_exceeded' as const } }];
    const said = sayReport({ ...REPORT, failures }, { pictures, reportFile: null });
    expect(said).toContain('7,500 charged of 8,000 projected (-6.25 %)  1 item not made');
    expect(said).not.toContain('LOOK');
  });
  it('shows twenty failures of many', () => {
    const many = {
      ...REPORT,
      failures: Array.from({ length: 50 }, (_, i) => ({
        ...(REPORT.failures[0] as LinedReport['failures'][number]),
        reason: `Broken pixel ${i}.`,
      })),
    };
    expect(sayReport(many, { pictures, reportFile: null })).toContain('… and 30 more');
  });
  it('names pictures that could not be fetched', () => {
    const said = sayReport(REPORT, { pictures: { ...pictures, failed: ['3-A.png: swept'] }, reportFile: null });
    expect(said).toContain('not fetched: 3-A.png: swept');
  });
  it.each([
    ['finished', 2000, false, 0],
    ['finished', 1, false, 0],
    ['finished', 0, false, 1],
    ['halted', 1999, false, 1],
    ['cancelled', 1999, false, 1],
    ['finished', 1999, true, 1],
    ['finished', 2000, true, 0],
  ] as const)('%s with %i of 2000, strict %s: exit %i', (status, succeeded, strict, code) => {
    const report = { ...REPORT, status, counts: { ...REPORT.counts, succeeded } } as unknown as ReportBody;
    expect(exitOf(report, 0, strict)).toBe(code);
  });
});

// What a worker found out about a file. Verdicts cross the thread boundary as data, because a thrown error loses its
// class on the way; `Refusal` is how the code inside a worker says one.

/** `gateway`: our own trouble (a full disk, a bug), not the file's. */
export type Fault = 'broken' | 'too_large' | 'wrong_kind' | 'gateway';

export type Verdict<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly fault: Fault; readonly message: string };

/** The file is not acceptable. The message completes the sentence "The file …". */
export class Refusal extends Error {
  readonly fault: Fault;
  constructor(fault: Fault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Refusal';
    this.fault = fault;
  }
}

/** Runs a task to a verdict; never rejects, so a rejected task can only mean that its worker died. */
export async function judge<T>(task: () => Promise<T>): Promise<Verdict<T>> {
  try {
    return { ok: true, value: await task() };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, fault: error.fault, message: error.message };
    return {
      ok: false,
      fault: 'gateway',
      message: error instanceof Error ? (error.stack ?? error.message) : 'unknown',
    };
  }
}

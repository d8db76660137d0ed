// What a check found: well, worth a look, or wrong, and what to do about it.

export interface Finding {
  readonly state: 'ok' | 'warn' | 'wrong';
  /** One line: what was looked at, and how it is. */
  readonly says: string;
  /** Null: nothing is to be done. */
  readonly todo: string | null;
}

export const ok = (says: string): Finding => ({ state: 'ok', says, todo: null });
export const warn = (says: string, todo: string): Finding => ({ state: 'warn', says, todo });
export const wrong = (says: string, todo: string): Finding => ({ state: 'wrong', says, todo });

export interface Section {
  readonly title: string;
  readonly findings: readonly Finding[];
}

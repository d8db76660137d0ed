// Whether what an answer shows can still change. Apart from the schemas, so that who only asks this loads none.

/** Spelt out: a status that a newer gateway knows is not taken for an end. */
const FINAL: ReadonlySet<string> = new Set(['succeeded', 'failed', 'timeout', 'cancelled']);

export const isFinal = ({ status }: { readonly status: string }): boolean => FINAL.has(status);

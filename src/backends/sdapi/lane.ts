// One request at a time: these servers render one and let the rest wait without a place in line, an id or a way back.
// So the waiting happens here, in order of arrival, where it can be broken off.

export interface Lane {
  /** Resolves with the place once it is free; disposing gives it on. Throws the signal's reason. */
  enter(signal: AbortSignal): Promise<Disposable>;
  readonly taken: boolean;
}

export function createLane(): Lane {
  const waiting: (() => void)[] = [];
  let taken = false;

  const place = (): Disposable => {
    let held = true;
    return {
      [Symbol.dispose]() {
        if (!held) return;
        held = false;
        const next = waiting.shift();
        if (next) next();
        else taken = false;
      },
    };
  };
  const wait = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        waiting.splice(waiting.indexOf(turn), 1);
        reject(signal.reason);
      };
      waiting.push(turn);
      signal.addEventListener('abort', leave, { once: true });
    });

  return {
    get taken() {
      return taken;
    },
    async enter(signal) {
      signal.throwIfAborted();
      if (taken) await wait(signal);
      taken = true;
      return place();
    },
  };
}

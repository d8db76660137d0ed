# The gateway alone: Node, the production packages and the sources it runs as they are (no build step).
ARG BASE=node:26-bookworm-slim

FROM ${BASE} AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund && npm cache clean --force

FROM ${BASE}
ENV NODE_ENV=production \
    DARKROOM_HOST=0.0.0.0 \
    DARKROOM_DATA=/data \
    UV_THREADPOOL_SIZE=16
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY package.json models.yaml ./
COPY config config
COPY src src
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
VOLUME /data
EXPOSE 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.DARKROOM_PORT || 8787) + '/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "src/cli/cli.ts", "serve"]

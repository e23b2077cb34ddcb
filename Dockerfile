# The service and nothing else: Node runs the TypeScript sources as they are, so there is no build step to copy from,
# only the production dependencies. Runs as the image's unprivileged user and writes nothing to its own file system
# (`read_only: true` works).

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    HTTP_ADDR=0.0.0.0:7361
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json ./
COPY src ./src
USER node
EXPOSE 7361
# Liveness, not readiness: a broker that is away is no reason to restart a service that holds messages back correctly.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:7361/health/live').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "src/main.ts"]

import { PrismaMariaDb } from "@prisma/adapter-mariadb";
import { getPrismaClient } from "@prisma/client/runtime/client";

/**
 * A real PrismaClient without models. Prisma's generator, which writes the client of a schema, needs a program that it
 * downloads when it runs, and 230 MB of packages; what it would write for a schema of nothing but a data source is this.
 * Raw queries and interactive transactions, all that `fromPrisma` uses, are the library's own.
 */
const schema = 'generator client { provider = "prisma-client" }\ndatasource db { provider = "mysql" }';

/** Node has it, and its types say so only with those of browsers. */
const { Module } = Reflect.get(globalThis, "WebAssembly") as { Module: new (bytes: Uint8Array) => object };

const PrismaClient = getPrismaClient({
  previewFeatures: [],
  clientVersion: "7",
  engineVersion: "7",
  activeProvider: "mysql",
  inlineSchema: schema,
  runtimeDataModel: { models: {}, enums: {}, types: {} },
  // A graph with no nodes: all counts are zero.
  parameterizationSchema: { strings: [], graph: Buffer.alloc(16).toString("base64url") },
  compilerWasm: {
    getRuntime: () => import("@prisma/client/runtime/query_compiler_small_bg.mysql.mjs" as string),
    async getQueryCompilerWasmModule() {
      const { wasm } = await import("@prisma/client/runtime/query_compiler_small_bg.mysql.wasm-base64.mjs" as string);
      return new Module(Buffer.from(wasm as string, "base64"));
    },
    importName: "./query_compiler_small_bg.js",
  },
});

/** @param useTextProtocol as MySQL needs it; MariaDB takes savepoints either way */
export const openPrisma = (url: string, useTextProtocol: boolean) => {
  const { hostname: host, port, username: user, password, pathname } = new URL(url);
  const adapter = new PrismaMariaDb(
    { host, port: Number(port), user, password, database: pathname.slice(1), connectionLimit: 5 },
    { useTextProtocol },
  );
  return new PrismaClient({ adapter, errorFormat: "minimal" });
};
